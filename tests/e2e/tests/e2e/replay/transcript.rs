//! Reading recordings: one JSON document a line, in the order of time.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Side {
    #[serde(rename = "c2s")]
    Client,
    #[serde(rename = "s2c")]
    Server,
}

/// Something that happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// The number of the connection; 0 where there was but one.
    pub(crate) connection: u64,
    pub(crate) side: Side,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// The client connected.
    Open,
    /// The lines of the head of a request or an answer.
    Head(Vec<String>),
    /// The whole body of an answer.
    Body(Vec<u8>),
    Frame(Frame),
    /// A frame of SPDY.
    Spdy,
    /// The client waited for a while, and nothing came.
    Silence,
    /// That part of the cluster was killed.
    Killed(String),
    /// What was found in the pod afterwards, or what the client ran into: not on the wire.
    Aside,
    End,
}

/// A frame of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) last: bool,
    pub(crate) opcode: u8,
    pub(crate) masked: bool,
    pub(crate) payload: Vec<u8>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    conn: u64,
    dir: Side,
    kind: String,
    #[serde(default)]
    head: Vec<String>,
    #[serde(default)]
    payload_b64: String,
    #[serde(default)]
    fin: u8,
    #[serde(default)]
    opcode: u8,
    #[serde(default)]
    masked: u8,
    killed: Option<String>,
}

/// Reads a recording.
///
/// # Errors
///
/// It is none.
pub(crate) fn read(file: &Path) -> Result<Vec<Event>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut events: Vec<Event> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = || format!("{}, line {}", file.display(), number + 1);
        let line: Line = serde_json::from_str(line).with_context(place)?;
        let payload = STANDARD.decode(&line.payload_b64).with_context(place)?;
        let what = match line.kind.as_str() {
            "tls-open" => What::Open,
            "http-head" => What::Head(line.head),
            "http-body" => What::Body(payload),
            "http-chunk" => {
                // All chunks of a body are one.
                let latest = events.iter_mut().rev();
                let mut latest = latest.filter(|event| event.connection == line.conn);
                if let Some(What::Body(body)) = latest.next().map(|event| &mut event.what) {
                    body.extend(payload);
                    continue;
                }
                What::Body(payload)
            }
            "ws-frame" => What::Frame(Frame {
                last: line.fin == 1,
                opcode: line.opcode,
                masked: line.masked == 1,
                payload,
            }),
            "spdy-frame" => What::Spdy,
            "timeout" => What::Silence,
            "note" => line.killed.map_or(What::Aside, What::Killed),
            "end" => What::End,
            kind => bail!("{}: unknown kind {kind}", place()),
        };
        events.push(Event {
            connection: line.conn,
            side: line.dir,
            what,
        });
    }
    Ok(events)
}
