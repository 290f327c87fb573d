//! Reading recordings: one JSON document a line, in the order of time.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use controlplane_e2e::standin::spdy;
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
    /// A frame of SPDY, and its bytes where it was recorded.
    Spdy(spdy::Frame, Vec<u8>),
    /// One that came in the messages of a WebSocket, which are events of their own.
    Carried(spdy::Frame),
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
    #[serde(default)]
    via: String,
    #[serde(default, rename = "type")]
    spdy_type: String,
    #[serde(default)]
    flags: u8,
    #[serde(default)]
    stream: u32,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The reason of a reset.
    #[serde(default)]
    value: u32,
    #[serde(default)]
    last_stream: u32,
    #[serde(default)]
    status: u32,
    #[serde(default)]
    ping_id: u32,
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
            "spdy-frame" => {
                let (frame, bytes) = spdy_frame(&line, payload).with_context(place)?;
                match line.via.as_str() {
                    "ws" => What::Carried(frame),
                    _ => What::Spdy(frame, bytes),
                }
            }
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
    settle_ends(&mut events);
    Ok(events)
}

/// A frame as the recorder understood it, with its headers in order of their names, and its bytes.
fn spdy_frame(line: &Line, payload: Vec<u8>) -> Result<(spdy::Frame, Vec<u8>)> {
    let headers = line.headers.clone().into_iter().collect();
    let (stream, fin) = (line.stream, line.flags & 1 != 0);
    let (kind, frame) = match line.spdy_type.as_str() {
        "SYN_STREAM" => (
            1,
            spdy::Frame::SynStream {
                stream,
                fin,
                headers,
            },
        ),
        "SYN_REPLY" => (
            2,
            spdy::Frame::SynReply {
                stream,
                fin,
                headers,
            },
        ),
        "RST_STREAM" => {
            let status = line.value;
            (3, spdy::Frame::RstStream { stream, status })
        }
        "PING" => (6, spdy::Frame::Ping(line.ping_id)),
        "GOAWAY" => {
            let (last_stream, status) = (line.last_stream, line.status);
            let frame = spdy::Frame::GoAway {
                last_stream,
                status,
            };
            (7, frame)
        }
        "DATA" => {
            let data = payload.clone();
            (0, spdy::Frame::Data { stream, fin, data })
        }
        other => bail!("unknown type {other}"),
    };
    let first = match kind {
        0 => stream,
        kind => 0x8003_0000 | kind,
    };
    let length = u32::try_from(payload.len())?;
    let length = length | u32::from(line.flags) << 24;
    let bytes = [&first.to_be_bytes(), &length.to_be_bytes(), &payload[..]].concat();
    Ok((frame, bytes))
}

/// Where the client left without waiting for the server's close frame, it is made to wait for that
/// and for the end: they are to be seen, too.
fn settle_ends(events: &mut Vec<Event>) {
    let is_close = |what: &What| matches!(what, What::Frame(frame) if frame.opcode == 8);
    for index in (0..events.len()).rev() {
        let Event {
            connection,
            side: Side::Client,
            what: What::End,
        } = events[index]
        else {
            continue;
        };
        let mut after = events[index..].iter();
        let of_server =
            |event: &Event| event.connection == connection && event.side == Side::Server;
        let closes = after
            .clone()
            .any(|event| of_server(event) && is_close(&event.what));
        if let Some(distance) = after.rposition(of_server).filter(|_| closes) {
            let end = events.remove(index);
            events.insert(index + distance, end);
        }
    }
}
