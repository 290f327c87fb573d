//! A link that is *not* lossless and in order: to prove that the oracle notices.

use std::collections::{BTreeSet, VecDeque};

use crate::{
    link::{Side, Wire},
    message::field,
};

/// The end of a stream.
const CLOSE: &str = "proxy_websocket_close";
/// Part of an answer that switches protocols.
const UPGRADE: &str = r#""payload":{"status":101,"#;

/// What is done to the messages of one type, once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tamper {
    /// A character of the base64 data is another; of a message not of its opcode, where it has
    /// more.
    Alter(&'static str),
    /// It does not arrive.
    Drop(&'static str),
    /// It arrives twice.
    Duplicate(&'static str),
    /// It arrives after the next one about the same request that is no grant.
    Delay(&'static str),
}

/// Stands for a frame of data of the fast mode, which has no name.
const YAMUX: &str = "yamux";
/// Shorter ones may be the header of a stream alone.
const LONG: usize = 64;

impl Tamper {
    /// To what it is done.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Alter(kind) | Self::Delay(kind) | Self::Drop(kind) | Self::Duplicate(kind) => {
                kind
            }
        }
    }

    /// Whether that is data of the fast mode.
    #[must_use]
    pub fn is_yamux(self) -> bool {
        self.kind() == YAMUX
    }
}

/// A tamperer at work.
#[derive(Debug)]
pub struct Tamperer {
    tamper: Tamper,
    /// So many are let pass.
    skip: u64,
    /// What comes late, with the request and the direction it is about.
    held: Option<(Side, String, String)>,
    /// What was answered with 101: the end of that answer means nothing.
    upgraded: BTreeSet<String>,
    /// Streams that one side closed: the close of the other answers it, and nobody waits for that.
    closed: BTreeSet<String>,
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
            upgraded: BTreeSet::new(),
            closed: BTreeSet::new(),
            done: false,
        }
    }

    /// What `from` sends in place of `wire`.
    pub fn pass(&mut self, from: Side, wire: Wire) -> VecDeque<Wire> {
        let text = match wire {
            Wire::Text(text) => text,
            Wire::Binary(data) => return VecDeque::from([Wire::Binary(self.binary(data))]),
            wire => return VecDeque::from([wire]),
        };
        let id = field(&text, "request_id").unwrap_or_default().to_string();
        // Whose order among the others means nothing.
        let grant = field(&text, "type").is_some_and(|kind| kind.ends_with("_grant"));
        let next = |held: &mut (Side, String, String)| held.0 == from && held.1 == id && !grant;
        if let Some((.., late)) = self.held.take_if(next) {
            return VecDeque::from([Wire::Text(text), Wire::Text(late)]);
        }
        let kind = self.tamper.kind();
        if text.starts_with(r#"{"type":"proxy_response_header""#) && text.contains(UPGRADE) {
            self.upgraded.insert(id.clone());
        }
        let is_close = field(&text, "type") == Some(CLOSE);
        let answers = is_close && !self.closed.insert(id.clone());
        let vain = answers || (kind == "proxy_response_end" && self.upgraded.contains(&id));
        if self.done || vain || field(&text, "type") != Some(kind) {
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

impl Tamperer {
    /// What is sent in place of a binary message.
    fn binary(&mut self, mut data: Vec<u8>) -> Vec<u8> {
        let found = data_frame(&data).filter(|_| self.tamper.is_yamux() && !self.done);
        let Some((from, to)) = found else {
            return data;
        };
        if self.skip > 0 {
            self.skip -= 1;
            return data;
        }
        self.done = true;
        match self.tamper {
            Tamper::Alter(_) => data[to - 1] ^= 1,
            Tamper::Delay(_) | Tamper::Drop(_) => _ = data.drain(from..to),
            Tamper::Duplicate(_) => {
                let again = data[from..to].to_vec();
                data.splice(from..from, again);
            }
        }
        data
    }
}

/// Where a long frame of data begins and ends in a message of whole frames of yamux.
fn data_frame(message: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0;
    loop {
        let head = message.get(at..at + 12)?;
        let [0, kind @ 0..=3, ..] = *head else {
            return None;
        };
        let len = u32::from_be_bytes(*head.last_chunk()?) as usize;
        let end = at + 12 + if kind == 0 { len } else { 0 };
        if kind == 0 && len > LONG {
            return (end <= message.len()).then_some((at, end));
        }
        at = end;
    }
}

/// The same message with another byte of data.
fn altered(text: &str) -> String {
    let Some(at) = text.find("\"data\":\"").map(|at| at + 8) else {
        return text.into();
    };
    let message = field(text, "type") == Some("proxy_websocket_data");
    let long = text[at..].find('"').is_some_and(|len| len > 4);
    let at = if message && long { at + 4 } else { at };
    let other = if text[at..].starts_with('A') {
        'B'
    } else {
        'A'
    };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}
