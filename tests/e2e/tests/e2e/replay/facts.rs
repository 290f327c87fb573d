//! What a server did, freed of what differs from one time to the next: the times, the identities,
//! and how the output of a process was cut into messages.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::spdy::Session;
use super::table::{PROTOBUF, Recording};
use super::transcript::{Frame, What};
use controlplane_e2e::standin::spdy;

/// The headers that carry times and identities.
const ASIDE: [&str; 4] = [
    "audit-id",
    "date",
    "x-kubernetes-pf-flowschema-uid",
    "x-kubernetes-pf-prioritylevel-uid",
];

/// The headers that belong to one connection of several.
const HOP: [&str; 3] = ["connection", "content-length", "transfer-encoding"];

/// The line that says that messages carry SPDY.
const TUNNEL: &str = "Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io";

/// The payload of the pings that the replayer itself sends.
pub(crate) const BARRIER: &[u8] = b"replay";

const STDOUT: u8 = 1;
const STDERR: u8 = 2;

/// Something that the server did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    /// Status line and headers, the latter in order of their names.
    Head(String, Vec<(String, String)>),
    Body(String),
    /// An empty message on a channel.
    Empty(Form, u8),
    /// What was written to the two outputs without anything else in between. The order of the two
    /// is chance.
    Output(Form, [String; 2]),
    /// A message on another channel.
    Message(Form, u8, String),
    /// All that was done on a connection of SPDY.
    Spdy(Session),
    Pong(String),
    Close(String),
    End,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Binary,
    Base64,
}

/// Which of the two a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Recorded,
    Seen,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(status, headers) => {
                write!(f, "head {status}")?;
                headers
                    .iter()
                    .try_for_each(|(name, value)| write!(f, " | {name}: {value}"))
            }
            Self::Body(body) => write!(f, "body {body:?}"),
            Self::Empty(form, channel) => write!(f, "{form:?} channel {channel}, empty"),
            Self::Output(form, [out, err]) => write!(f, "{form:?} stdout {out:?} stderr {err:?}"),
            Self::Message(form, channel, text) => write!(f, "{form:?} channel {channel} {text:?}"),
            Self::Spdy(session) => write!(f, "{session}"),
            Self::Pong(payload) => write!(f, "pong {payload:?}"),
            Self::Close(what) => write!(f, "close {what}"),
            Self::End => write!(f, "end of TCP"),
        }
    }
}

/// What a client asked for on a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) paths: Vec<String>,
    /// The streams of SPDY that say how others ended.
    errors: BTreeSet<u32>,
}

impl Asked {
    /// Takes note of a frame.
    pub(crate) fn note(&mut self, frame: &spdy::Frame) {
        if let spdy::Frame::SynStream {
            stream, headers, ..
        } = frame
            && headers.iter().any(|(_, value)| value == "error")
        {
            self.errors.insert(*stream);
        }
    }
}

/// The facts among what came on one connection, on which that was asked for.
pub(crate) fn facts<'a>(
    recording: &Recording,
    origin: Origin,
    asked: &Asked,
    events: impl Iterator<Item = &'a What>,
) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut answers = 0;
    let mut tunnel = None;
    for event in events {
        match event {
            What::Head(lines) => {
                answers += 1;
                facts.push(head(lines));
                tunnel = lines
                    .iter()
                    .any(|line| line.eq_ignore_ascii_case(TUNNEL))
                    .then(spdy::Decoder::new);
            }
            What::Body(body) => {
                let path = asked.paths.get(answers - 1).map_or("", String::as_str);
                settle_length(facts.last_mut(), body);
                add_body(&mut facts, recording, origin, path, body);
            }
            What::Frame(frame) => match &mut tunnel {
                Some(decoder) if frame.opcode == 2 => {
                    add_tunnelled(&mut facts, asked, decoder, &frame.payload);
                }
                _ => add_frame(&mut facts, frame),
            },
            What::Spdy(frame, _) => session(&mut facts).add(frame, &asked.errors),
            // One end is as good as two.
            What::End if facts.last() == Some(&Fact::End) => {}
            What::End if recording.relayed && !is_switched(&facts) => {}
            What::End => facts.push(Fact::End),
            What::Open | What::Carried(_) | What::Silence | What::Killed(_) | What::Aside => {}
        }
    }
    if origin == Origin::Seen && facts.last().is_some_and(lacks_its_body) {
        facts.pop();
    }
    for fact in &mut facts {
        match fact {
            Fact::Head(_, headers) if recording.relayed => {
                headers.retain(|(name, _)| !HOP.contains(&name.as_str()));
            }
            Fact::Output(_, outputs) => outputs.iter_mut().for_each(|text| {
                *text = recording.substitute(origin, text);
            }),
            Fact::Message(_, _, text) => *text = recording.substitute(origin, text),
            Fact::Spdy(session) => session.substitute(|text| recording.substitute(origin, text)),
            _ => {}
        }
    }
    facts.retain(
        |fact| !matches!(fact, Fact::Output(_, [out, err]) if out.is_empty() && err.is_empty()),
    );
    facts
}

/// Whether it is a WebSocket by now.
fn is_switched(facts: &[Fact]) -> bool {
    facts
        .iter()
        .any(|fact| matches!(fact, Fact::Head(status, _) if status.contains(" 101 ")))
}

/// Whether the rest of it is still on its way.
fn lacks_its_body(fact: &Fact) -> bool {
    let Fact::Head(_, headers) = fact else {
        return false;
    };
    let length = headers.iter().find(|(name, _)| name == "content-length");
    length.is_some_and(|(_, value)| value.parse().is_ok_and(|length: usize| length > 0))
}

fn head(lines: &[String]) -> Fact {
    let fields = lines[1..].iter().filter_map(|line| line.split_once(':'));
    let fields = fields.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    let mut headers: Vec<_> = fields
        .filter(|(name, _)| !ASIDE.contains(&name.as_str()))
        .collect();
    headers.sort();
    Fact::Head(lines[0].clone(), headers)
}

/// The number differs where the text has another name in it; that it is right is what counts.
fn settle_length(head: Option<&mut Fact>, body: &[u8]) {
    let right = body.len().to_string();
    if let Some(Fact::Head(_, headers)) = head
        && let Some((_, value)) = headers
            .iter_mut()
            .find(|(name, value)| name == "content-length" && *value == right)
    {
        "that of the body".clone_into(value);
    }
}

fn add_body(facts: &mut Vec<Fact>, recording: &Recording, origin: Origin, path: &str, body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    let own = recording.of_the_cluster(path, &text);
    if let (Some(_), Some(Fact::Head(_, headers))) = (&own, facts.last_mut()) {
        // Also whether its length is known beforehand.
        headers.retain(|(name, _)| name != "content-length" && name != "transfer-encoding");
        if text.starts_with(PROTOBUF) {
            let json = ("content-type".to_owned(), "application/json".to_owned());
            headers.retain(|(name, _)| *name != json.0);
            headers.push(json);
            headers.sort();
        }
    }
    let body = own.unwrap_or_else(|| recording.substitute(origin, &text));
    facts.push(Fact::Body(body));
}

/// Adds the frames that are whole with these bytes.
fn add_tunnelled(facts: &mut Vec<Fact>, asked: &Asked, decoder: &mut spdy::Decoder, bytes: &[u8]) {
    decoder.push(bytes);
    loop {
        match decoder.next_frame() {
            Ok(None) => return,
            Ok(Some(frame)) => session(facts).add(&frame, &asked.errors),
            Err(error) => return facts.push(Fact::Message(Form::Binary, 255, error.to_string())),
        }
    }
}

/// What was done with SPDY. A pong may be in between.
fn session(facts: &mut Vec<Fact>) -> &mut Session {
    let found = facts.iter().position(|fact| matches!(fact, Fact::Spdy(_)));
    let place = found.unwrap_or(facts.len());
    if found.is_none() {
        facts.push(Fact::Spdy(Session::default()));
    }
    match &mut facts[place] {
        Fact::Spdy(session) => session,
        _ => unreachable!("it is one"),
    }
}

fn add_frame(facts: &mut Vec<Fact>, frame: &Frame) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match (frame.opcode, frame.payload.as_slice()) {
        (8, [high, low, reason @ ..]) => {
            let code = u16::from_be_bytes([*high, *low]);
            facts.push(Fact::Close(format!("{code} {:?}", text(reason))));
        }
        (8, _) => facts.push(Fact::Close("without a code".to_owned())),
        (9 | 10, payload) if payload == BARRIER => {}
        (10, payload) => facts.push(Fact::Pong(text(payload))),
        (1, [channel @ b'0'..=b'9', data @ ..]) => match STANDARD.decode(data) {
            Ok(data) => add_message(facts, Form::Base64, channel - b'0', &data),
            Err(error) => facts.push(Fact::Message(Form::Base64, *channel, error.to_string())),
        },
        (2, [channel, data @ ..]) => add_message(facts, Form::Binary, *channel, data),
        _ => facts.push(Fact::Message(Form::Binary, 255, format!("{frame:?}"))),
    }
}

fn add_message(facts: &mut Vec<Fact>, form: Form, channel: u8, data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if data.is_empty() {
        facts.push(Fact::Empty(form, channel));
    } else if channel == STDOUT || channel == STDERR {
        if !matches!(facts.last(), Some(Fact::Output(last, _)) if *last == form) {
            facts.push(Fact::Output(form, [String::new(), String::new()]));
        }
        if let Some(Fact::Output(_, outputs)) = facts.last_mut() {
            outputs[usize::from(channel == STDERR)] += &text;
        }
    } else {
        facts.push(Fact::Message(form, channel, text.into_owned()));
    }
}

/// How far what was seen has got compared to what was recorded so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All of it has come.
    There,
    /// Some is still to come.
    Behind,
    /// This fact is another one.
    Differs(usize),
}

/// Compares. While output may still come, it is only its length that counts.
pub(crate) fn progress(recorded: &[Fact], seen: &[Fact]) -> Progress {
    for (index, fact) in recorded.iter().enumerate() {
        let last = index + 1 == recorded.len();
        match (fact, seen.get(index)) {
            (_, None) => return Progress::Behind,
            (Fact::Output(_, wanted), Some(Fact::Output(_, have))) if index + 1 == seen.len() => {
                let lacks = wanted
                    .iter()
                    .zip(have)
                    .any(|(wanted, have)| have.len() < wanted.len());
                return match (lacks, last) {
                    (true, _) | (false, false) => Progress::Behind,
                    (false, true) => Progress::There,
                };
            }
            (Fact::Spdy(wanted), Some(Fact::Spdy(have))) => match wanted.progress(have) {
                Progress::There => {}
                Progress::Behind => return Progress::Behind,
                Progress::Differs(_) => return Progress::Differs(index),
            },
            // More output may follow here than had come when it was recorded.
            (Fact::Output(..), Some(Fact::Output(..))) if last => {}
            (fact, Some(seen)) if fact != seen => return Progress::Differs(index),
            _ => {}
        }
    }
    Progress::There
}
