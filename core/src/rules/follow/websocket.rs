//! The frames of RFC 6455, section 5.2.

use alloc::vec::Vec;

use super::Closed;
use crate::{
    input::{Kind, StreamClose},
    rules::Channels,
    wire::base64::Base64,
};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
/// From here on frames are about the connection, and may come between those of a message.
const CONTROL: u8 = 8;
/// Of the first byte: the frame is the last of its message.
const FIN: u8 = 0x80;
/// Longest payload of a frame about the connection.
const MAX_CONTROL: usize = 125;
/// Longest head: two bytes, a length of eight, a mask of four.
const MAX_HEAD: usize = 14;

/// Both directions of a WebSocket.
#[derive(Debug)]
pub(super) struct WebSocket {
    channels: Channels,
    up: Frames,
    down: Frames,
    /// The client's close frame came before the cluster's.
    client_first: bool,
    /// The result of the command has passed.
    result: bool,
}

impl WebSocket {
    pub(super) fn new(channels: Channels) -> Self {
        Self {
            channels,
            up: Frames::default(),
            down: Frames::default(),
            client_first: false,
            result: false,
        }
    }

    pub(super) fn up(&mut self, data: &[u8]) {
        self.up.read(data, |_| {});
        if self.up.close.is_some() && self.down.close.is_none() {
            self.client_first = true;
        }
    }

    pub(super) fn down(&mut self, data: &[u8]) {
        let (channels, result) = (self.channels, &mut self.result);
        self.down
            .read(data, |start| *result |= channels.is_result(start));
    }

    pub(super) fn closed(&self) -> Option<Closed> {
        if self.client_first {
            return self.up.close.clone().map(Closed::Client);
        }
        self.down.close.clone().map(Closed::Cluster)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.down.close.is_some() || self.client_first
    }

    pub(super) fn last_words(&self, code: u16, cause: &str) -> Option<Vec<u8>> {
        if !self.down.is_at_boundary() {
            return None;
        }
        let mut words = Vec::new();
        if self.down.close.is_some() {
            return Some(words);
        }
        // Between the frames of a message only a frame about the connection may stand.
        if !self.result && self.down.message.is_none() {
            let failure = self.channels.failure(cause, &Base64::new());
            if let Some((kind, data)) = failure {
                let opcode = if kind == Kind::Text { TEXT } else { BINARY };
                frame(opcode, &data, &mut words);
            }
        }
        let close = StreamClose::new(code, cause);
        let payload = [&close.code.to_be_bytes(), close.reason.as_bytes()].concat();
        frame(CLOSE, &payload, &mut words);
        Some(words)
    }
}

/// A whole frame as a server writes it.
fn frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(FIN | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len), _) if usize::from(len) <= MAX_CONTROL => out.push(len),
        (_, Ok(len)) => {
            out.push(126);
            out.extend(len.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// The frames of one direction.
///
/// ```text
/// head, byte by byte ──whole──▶ payload ──whole──▶ head …
/// ```
#[derive(Debug, Default)]
struct Frames {
    /// What has come of a head.
    head: [u8; MAX_HEAD],
    has: usize,
    /// What is missing of the payload, and how much of it has come.
    left: u64,
    at: u64,
    /// First byte of a head; of the frame whose payload is awaited.
    first: u8,
    mask: [u8; 4],
    /// The message that has begun: its first bytes, of which more than two say nothing.
    message: Option<Start>,
    /// Payload of a frame that closes.
    closing: Vec<u8>,
    close: Option<StreamClose>,
    /// A length that no frame has: nothing can be made out any more.
    lost: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Start {
    bytes: [u8; 2],
    len: usize,
}

impl Frames {
    fn is_at_boundary(&self) -> bool {
        self.has == 0 && self.left == 0 && !self.lost
    }

    /// Reports the first bytes of each message once it has passed.
    fn read(&mut self, mut data: &[u8], mut message: impl FnMut(&[u8])) {
        while !self.lost {
            if self.left > 0 {
                let len = usize::try_from(self.left).unwrap_or(usize::MAX);
                let (now, rest) = data.split_at(len.min(data.len()));
                if now.is_empty() {
                    return;
                }
                data = rest;
                self.payload(now);
            } else {
                let Some((byte, rest)) = data.split_first() else {
                    return;
                };
                data = rest;
                if !self.head(*byte) {
                    continue;
                }
            }
            if self.left == 0 {
                self.end(&mut message);
            }
        }
    }

    /// True once the head is whole.
    fn head(&mut self, byte: u8) -> bool {
        if let Some(slot) = self.head.get_mut(self.has) {
            *slot = byte;
        }
        self.has += 1;
        let [first, second, length @ ..] = self.head;
        let masked = second & 0x80 != 0;
        let (len, left) = match second & 0x7f {
            126 => (2, u64::from(u16::from_be_bytes([length[0], length[1]]))),
            127 => {
                let [a, b, c, d, e, f, g, h, ..] = length;
                (8, u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
            short => (0, u64::from(short)),
        };
        if self.has < 2 + len + if masked { 4 } else { 0 } {
            return false;
        }
        self.mask = [0; 4];
        if masked && let Some(mask) = length.get(len..len + 4) {
            self.mask.copy_from_slice(mask);
        }
        (self.has, self.at) = (0, 0);
        (self.first, self.left) = (first, left);
        self.lost = left > i64::MAX as u64;
        if matches!(self.opcode(), TEXT | BINARY) {
            self.message = Some(Start::default());
        }
        true
    }

    fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    fn payload(&mut self, data: &[u8]) {
        let at = self.at;
        let mask = self.mask;
        let plain = data.iter().zip(at..);
        let mut plain = plain.map(|(byte, at)| byte ^ mask[(at % 4) as usize]);
        if self.opcode() == CLOSE {
            let room = MAX_CONTROL - self.closing.len().min(MAX_CONTROL);
            self.closing.extend(plain.take(room));
        } else if let Some(start) = self
            .message
            .as_mut()
            .filter(|_| self.first & 0x0f < CONTROL)
        {
            while let Some(slot) = start.bytes.get_mut(start.len) {
                let Some(byte) = plain.next() else { break };
                *slot = byte;
                start.len += 1;
            }
        }
        self.at += data.len() as u64;
        self.left -= data.len() as u64;
    }

    /// The frame is whole.
    fn end(&mut self, message: &mut impl FnMut(&[u8])) {
        let last = self.first & FIN != 0;
        match self.opcode() {
            CLOSE => {
                let payload = core::mem::take(&mut self.closing);
                self.close.get_or_insert_with(|| parse(&payload));
            }
            opcode if opcode < CONTROL && last => {
                if let Some(start) = self.message.take() {
                    message(start.bytes.get(..start.len).unwrap_or_default());
                }
            }
            _ => {}
        }
    }
}

fn parse(payload: &[u8]) -> StreamClose {
    match payload.split_first_chunk() {
        None => StreamClose::new(StreamClose::NO_CODE, ""),
        Some((code, reason)) => {
            let reason = core::str::from_utf8(reason).unwrap_or_default();
            StreamClose::new(u16::from_be_bytes(*code), reason)
        }
    }
}
