//! What a request of the controller asks for: checked, and made into what the local end is told.
//! Everything that cannot be relayed as it came is refused.

use alloc::{borrow::Cow, string::String, vec::Vec};
use core::time::Duration;

use bytes::Bytes;

use super::{Agent, outgoing::Form, sockets::Asking};
use crate::{
    error::PeerFault,
    input::RequestHead,
    rules,
    time::Time,
    wire::{
        decode::{Body, Fields},
        duration, rfc3339,
    },
};

/// What `proxy_request` asked for, checked.
pub(super) struct Asked<'a> {
    pub(super) id: &'a str,
    pub(super) head: crate::input::RequestHead,
    pub(super) streamed: bool,
    /// How much of the answer the controller takes before it grants more.
    pub(super) window: Option<usize>,
    /// The controller sends no more of a body or of messages than it is granted.
    pub(super) keeps_window: bool,
    /// What follows of the body.
    pub(super) coming: Coming,
    pub(super) body: Bytes,
    pub(super) due: Option<Time>,
    /// It asks for a WebSocket.
    pub(super) upgrade: Option<Asking>,
}

/// What is still to come of a request's body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Coming {
    Nothing,
    /// Messages of its own (P-060).
    Chunks,
    /// One binary frame (P-061).
    Frame,
}

impl Agent {
    /// Checks a request; everything that is not relayed as it came is refused.
    pub(super) fn asked<'a>(&self, id: &'a str, fields: Fields<'_>) -> Result<Asked<'a>, Refused> {
        let headers = fields.headers.as_deref().unwrap_or_default();
        if fields.is_websocket || is_set(&fields.protocol) || rules::asks_websocket(headers) {
            return self.asked_socket(id, fields, false);
        }
        let mut head = self.request_head(&fields)?;
        let due = self.due(&fields)?;
        let coming = match (fields.use_streaming, fields.body_binary) {
            (true, _) => Coming::Chunks,
            // P-061: every binary message is yamux, so that it would never come.
            (false, true) if self.is_muxed() => {
                return Err(Refused::unsupported(
                    "a binary frame with a body beside yamux",
                ));
            }
            (false, true) => Coming::Frame,
            (false, false) => Coming::Nothing,
        };
        let body = if coming != Coming::Nothing {
            Bytes::new()
        } else {
            let body = self.inline_body(fields.body, fields.body_encoding.as_deref())?;
            // P-207: the length is known, whatever the headers say.
            let bodied = !body.is_empty() || matches!(&*head.method, "POST" | "PUT" | "PATCH");
            let length = bodied.then_some(body.len() as u64);
            rules::set_content_length(&mut head.headers, length);
            body
        };
        Ok(Asked {
            id,
            head,
            streamed: fields.supports_response_streaming,
            window: window(fields.response_window),
            keeps_window: window(fields.request_window).is_some(),
            coming,
            body,
            due,
            upgrade: None,
        })
    }

    /// Checks the start of a WebSocket stream: a `proxy_websocket_start` where `bare`, otherwise a
    /// request that asks for one (P-059).
    pub(super) fn asked_socket<'a>(
        &self,
        id: &'a str,
        fields: Fields<'_>,
        bare: bool,
    ) -> Result<Asked<'a>, Refused> {
        unsupported(&fields)?;
        let due = self.due(&fields)?;
        let headers = fields.headers.unwrap_or_default();
        let path = fields.path.as_deref().unwrap_or_default();
        let policy = self.config.policy;
        let protocol = fields.protocol.as_deref();
        let (protocols, unnamed) =
            rules::protocols_of_start(protocol, &headers, path, bare, policy)?;
        let query = fields.query.as_deref();
        let limit = self.config.limits.head;
        Ok(Asked {
            id,
            head: rules::websocket_head(path, query, headers, policy, limit)?,
            streamed: fields.supports_response_streaming && !bare,
            window: window(fields.response_window),
            keeps_window: window(fields.request_window).is_some(),
            coming: Coming::Nothing,
            body: Bytes::new(),
            due,
            upgrade: Some(Asking {
                protocols,
                bare,
                translate: unnamed && self.config.terminal_translation,
            }),
        })
    }

    fn request_head(&self, fields: &Fields<'_>) -> Result<RequestHead, Refused> {
        unsupported(fields)?;
        let headers = fields.headers.clone().unwrap_or_default();
        let head = rules::request_head(
            fields.method.as_deref().unwrap_or_default(),
            fields.path.as_deref().unwrap_or_default(),
            fields.query.as_deref(),
            headers,
            self.config.policy,
            self.config.limits.head,
        )?;
        Ok(head)
    }

    fn inline_body(
        &self,
        body: Option<Body<'_>>,
        encoding: Option<&str>,
    ) -> Result<Bytes, Refused> {
        Ok(match body {
            None => Bytes::new(),
            Some(Body::Json(json)) => json.into(),
            Some(Body::Text(text))
                if encoding.is_some_and(|e| e.eq_ignore_ascii_case("base64")) =>
            {
                self.base64.decode(&text)?.into()
            }
            Some(Body::Text(text)) => Vec::from(text.as_bytes()).into(),
        })
    }

    /// `deadline`, else `timeout`; what cannot be read is ignored (P-058, P-095).
    fn due(&self, fields: &Fields<'_>) -> Result<Option<Time>, Refused> {
        let deadline = fields.deadline.as_deref().and_then(rfc3339::parse);
        if let Some(deadline) = deadline {
            let left = deadline.saturating_sub(self.unix());
            if left.is_zero() {
                return Err(Refused::late());
            }
            return Ok(Some(self.now + left));
        }
        let millis = fields.timeout.filter(|ms| *ms > 0.0);
        let span = millis
            .and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok())
            .or_else(|| fields.timeout_text.as_deref().and_then(duration::parse));
        Ok(span.filter(|s| !s.is_zero()).map(|span| self.now + span))
    }
}

/// How a request is refused, as far as it could be read (P-043).
pub(super) fn answer_form(fields: Option<&Fields<'_>>) -> Form {
    match fields.is_some_and(|f| f.supports_response_streaming) {
        true => Form::Abort,
        false => Form::Error,
    }
}

/// Why a request was not opened.
pub(super) struct Refused {
    pub(super) fault: PeerFault,
    pub(super) text: String,
}

impl Refused {
    fn unsupported(what: &'static str) -> Self {
        PeerFault::Unsupported(what).into()
    }

    fn late() -> Self {
        Self {
            fault: PeerFault::Malformed,
            text: "the deadline of the request has passed".into(),
        }
    }
}

impl From<PeerFault> for Refused {
    fn from(fault: PeerFault) -> Self {
        let text = rules::refusal(fault);
        Self { fault, text }
    }
}

/// What no request of this version may ask for.
fn unsupported(fields: &Fields<'_>) -> Result<(), Refused> {
    if is_set(&fields.service_name) {
        return Err(Refused::unsupported("service routing"));
    }
    if fields.head_data {
        return Err(Refused::unsupported("head_data"));
    }
    Ok(())
}

fn is_set(field: &Option<Cow<'_, str>>) -> bool {
    field.as_deref().is_some_and(|text| !text.trim().is_empty())
}

/// A window of so many bytes.
fn window(bytes: Option<f64>) -> Option<usize> {
    bytes
        .filter(|bytes| *bytes >= 1.0)
        .map(|bytes| bytes as usize)
}
