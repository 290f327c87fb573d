//! Those who are not our own machines: a gateway, a second agent with the same credential, and the
//! original's agents and controllers, whose messages have other forms.

use std::time::Duration;

use controlplane_core::{ConnId, Frame, Input};
use miniz_oxide::deflate::compress_to_vec;

use super::{Event, World};
use crate::{
    exchange::Check,
    link::{Side, Wire},
    message::{base64, field, message, unbase64},
    plan::Manners,
};

/// What a second agent calls its connection; it has no machine that would.
const NOBODYS: ConnId = ConnId(u64::MAX);
/// From so many bytes on the original's agents compress (P-038).
const GZIP_FROM: usize = 1024;

/// What it has to be.
const TEXT: &[u8] = br#""Content-Type":["text/"#;

impl World {
    // ------------------------------------------------------------ the gateway

    /// Somebody registers on a connection as our agent did before: a gateway for the agent that it
    /// knows from the URL, or another agent for itself.
    pub(super) fn registers_for_agent(&mut self, link: u64) -> Check {
        let conn = self.links.get(&link).and_then(|l| l.conn(Side::Controller));
        let Some(conn) = conn else {
            return Ok(());
        };
        if let Some(link) = self.links.get_mut(&link) {
            link.is_registered = true;
        }
        let features = &self.features;
        let payload = format!(r#"{{"agent_id":"agent-1","features":{features}}}"#);
        let text = message("register", "others", &payload);
        self.tell_controller(Input::Frame(conn, Frame::Text(&text)))
    }

    /// A second agent registers with the same credential; who was there before has to go.
    pub(super) fn second_agent(&mut self) -> Check {
        let away = !self.controller.up || self.controller.stopping || self.features.is_empty();
        if away || self.controller.machine.admit(self.now).is_err() {
            return Ok(());
        }
        self.count("second agents");
        let id = self.new_link(NOBODYS);
        if let Some(link) = self.links.get_mut(&id) {
            link.set_conn(Side::Agent, None);
        }
        self.second_agents.insert(id);
        self.accept(id)?;
        if self.rng.chance(800) {
            self.registers_for_agent(id)?;
        }
        let delay = self.rng.millis(100, 20_000);
        self.after(delay, Event::Told(id, Side::Controller));
        Ok(())
    }

    /// They leave before the calm.
    pub(super) fn second_agents_leave(&mut self) {
        for id in std::mem::take(&mut self.second_agents) {
            self.after(Duration::ZERO, Event::Told(id, Side::Controller));
        }
    }

    // ------------------------------------------------------------ other forms

    /// A message of our controller in the form that this world's says it in.
    pub(super) fn as_others_say(&mut self, link: u64, text: String) -> Vec<Wire> {
        let kind = field(&text, "type").unwrap_or_default();
        let registered = self.links.get(&link).is_some_and(|l| l.is_registered);
        match kind {
            // It was not our agent that asked.
            "register_success" if registered => Vec::new(),
            "register_success" if self.gateway => {
                let payload = r#""payload":{"#;
                let named = format!(r#"{payload}"gateway_ws_url":"https://gw.example","#);
                Vec::from([Wire::Text(text.replacen(payload, &named, 1))])
            }
            "proxy_request" if self.manners == Manners::Foreign && self.rng.chance(500) => {
                self.with_body_frame(text)
            }
            _ => Vec::from([Wire::Text(text)]),
        }
    }

    /// A request whose body follows in a binary frame (P-061).
    fn with_body_frame(&mut self, text: String) -> Vec<Wire> {
        let key = r#""body":""#;
        let parts = text.split_once(key).and_then(|(before, rest)| {
            let (body, after) = rest.split_once('"')?;
            let data = unbase64(body)?;
            let head = format!(
                r#"{before}"body_binary":true,"body_size":{}{after}"#,
                data.len()
            );
            let id = field(&text, "request_id")?;
            Some((head, binary(id, &[&data])))
        });
        match parts {
            Some((head, frame)) => {
                self.count("binary bodies");
                Vec::from([Wire::Text(head), Wire::Binary(frame)])
            }
            None => Vec::from([Wire::Text(text)]),
        }
    }

    /// A whole answer, compressed as the original's agents do (P-038).
    pub(super) fn compressed(&mut self, text: String) -> String {
        let most = self.controller.limits().recv_stream;
        let (key, encoding) = (r#""body":""#, r#""encoding":"base64""#);
        let parts = text.split_once(key).and_then(|(before, rest)| {
            let (body, after) = rest.split_once('"')?;
            let data = unbase64(body)?;
            let fits = (GZIP_FROM..=most).contains(&data.len());
            let zipped = base64(&gzip(&data));
            let after = after.replacen(encoding, r#""encoding":"gzip""#, 1);
            fits.then(|| format!(r#"{before}{key}{zipped}"{after}"#))
        });
        match parts {
            Some(text) => {
                self.count("compressed answers");
                text
            }
            None => text,
        }
    }

    /// What becomes of a whole answer in a binary frame: the original's agents compress its body,
    /// and do not say so (P-040).
    pub(super) fn overhear_answer(&mut self, frame: Vec<u8>) -> Result<Vec<u8>, String> {
        let Some((name, at)) = parts(&frame) else {
            return Err("a binary answer that none is".into());
        };
        self.speaks(&name, "proxy_response")?;
        let most = self.controller.limits().recv_stream;
        let (head, body) = frame.split_at(at);
        let text = head.windows(TEXT.len()).any(|part| part == TEXT);
        if self.manners != Manners::Foreign || !text || body.len() > most {
            return Ok(frame);
        }
        self.count("binary answers, compressed");
        Ok([head, &gzip(body)].concat())
    }
}

/// A binary frame about this request.
fn binary(id: &str, rest: &[&[u8]]) -> Vec<u8> {
    let mut frame = Vec::from((id.len() as u16).to_be_bytes());
    frame.extend_from_slice(id.as_bytes());
    rest.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}

/// The request that a binary answer is about, and where its body begins (P-039).
pub(super) fn parts(frame: &[u8]) -> Option<(String, usize)> {
    let number = |at: usize, len: usize| {
        let bytes = frame.get(at..at + len)?;
        Some(bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b)))
    };
    let name = frame.get(2..2 + number(0, 2)?)?;
    let headers = number(2 + name.len() + 4, 4)?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    let body = 2 + name.len() + 8 + headers;
    (body <= frame.len()).then_some((name, body))
}

/// RFC 1952.
fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::from(*b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff");
    out.extend_from_slice(&compress_to_vec(data, 1));
    out.extend_from_slice(&crc32fast::hash(data).to_le_bytes());
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out
}
