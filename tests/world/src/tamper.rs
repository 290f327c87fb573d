//! A link that is *not* lossless and in order: to prove that the oracle notices.

use std::collections::VecDeque;

use crate::link::{Side, Wire};

/// What is done to the messages of one type, once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tamper {
    /// A character of the base64 data is another.
    Alter(&'static str),
    /// It does not arrive.
    Drop(&'static str),
    /// It arrives twice.
    Duplicate(&'static str),
    /// It arrives after the next one about the same request.
    Delay(&'static str),
}

/// A tamperer at work.
#[derive(Debug)]
pub struct Tamperer {
    tamper: Tamper,
    /// So many are let pass.
    skip: u64,
    /// What comes late, with the request and the direction it is about.
    held: Option<(Side, String, String)>,
    /// It has done its deed.
    pub done: bool,
}

impl Tamperer {
    /// Lets `skip` messages of the type pass first.
    #[must_use]
    pub const fn new(tamper: Tamper, skip: u64) -> Self {
        Self {
            tamper,
            skip,
            held: None,
            done: false,
        }
    }

    /// What `from` sends in place of `wire`.
    pub fn pass(&mut self, from: Side, wire: Wire) -> VecDeque<Wire> {
        let Wire::Text(text) = wire else {
            return VecDeque::from([wire]);
        };
        let id = field(&text, "request_id").unwrap_or_default().to_string();
        let next = |held: &mut (Side, String, String)| held.0 == from && held.1 == id;
        if let Some((.., late)) = self.held.take_if(next) {
            return VecDeque::from([Wire::Text(text), Wire::Text(late)]);
        }
        let (Tamper::Alter(kind)
        | Tamper::Delay(kind)
        | Tamper::Drop(kind)
        | Tamper::Duplicate(kind)) = self.tamper;
        if self.done || field(&text, "type") != Some(kind) {
            return VecDeque::from([Wire::Text(text)]);
        }
        if self.skip > 0 {
            self.skip -= 1;
            return VecDeque::from([Wire::Text(text)]);
        }
        self.done = true;
        match self.tamper {
            Tamper::Alter(_) => VecDeque::from([Wire::Text(altered(&text))]),
            Tamper::Delay(_) => {
                self.held = Some((from, id, text));
                VecDeque::new()
            }
            Tamper::Drop(_) => VecDeque::new(),
            Tamper::Duplicate(_) => VecDeque::from([Wire::Text(text.clone()), Wire::Text(text)]),
        }
    }
}

/// The same message with another first byte of data.
fn altered(text: &str) -> String {
    let Some(at) = text.find("\"data\":\"").map(|at| at + 8) else {
        return text.into();
    };
    let other = if text[at..].starts_with('A') {
        'B'
    } else {
        'A'
    };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}

/// The value of a text field in a message of our own machines, which write no escapes into those
/// that are asked for.
#[must_use]
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let key = format!("\"{name}\":\"");
    let rest = &text[text.find(&key)? + key.len()..];
    rest.split('"').next()
}
