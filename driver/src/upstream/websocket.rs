//! The way of one WebSocket stream to the Kubernetes API: a connection of its own, and an upgrade
//! by plain HTTP, so that a refusal keeps its real status, headers and body.

use std::sync::Arc;

use controlplane_core::{RequestHead, rules::Credentials};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use hyper::body::Incoming;
use tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::{
    Shared,
    body::UpstreamBody,
    carry::Carry,
    pool::{self, Wire},
    relay::{answer, response_head, upstream_request},
};
use crate::{
    hyper_io::HyperIo,
    links::{chain, config_for},
    meter::Metered,
    runtime::Runtime,
    websocket::{WebSocketRequest, WebSocketResponder},
};

/// Buffer for reading; kubectl's and the API's messages are no longer than this.
const READ: usize = 32 << 10;
/// What may wait to be written: any message that a tunnel carries, and answers to pings of an API
/// that sends them faster than it reads, which are left out beyond this.
const WRITE: usize = 32 << 20;

pub(super) async fn open<R: Runtime>(
    shared: Arc<Shared<R>>,
    request: WebSocketRequest,
    responder: WebSocketResponder,
) {
    let WebSocketRequest {
        head,
        protocols,
        credentials,
        messages,
    } = request;
    let key = generate_key();
    let asked = ask(&shared, head, credentials, &protocols, &key).await;
    let (wire, response) = match asked {
        Ok(asked) => asked,
        Err(text) => return responder.fail(text),
    };
    let head = response_head(&response);
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let writer = responder.refuse(head);
        answer(&shared, response.into_body(), writer, false).await;
        return;
    }
    let (io, read) = match switch::<R>(response, &key).await {
        Ok(switched) => switched,
        Err(text) => return responder.fail(text),
    };
    let limits = &shared.config.limits;
    let config = config_for(limits.message)
        .read_buffer_size(READ)
        .max_write_buffer_size(WRITE);
    let socket = shared.runtime.websocket_over(io, read, config).await;
    let carry = Carry {
        runtime: &shared.runtime,
        limits,
        meter: &wire.meter,
    };
    let writer = responder.accept(head.headers);
    carry.run(socket, messages, writer).await;
}

/// Asks for the upgrade and waits for the head of the answer.
async fn ask<R: Runtime>(
    shared: &Shared<R>,
    head: RequestHead,
    credentials: Credentials,
    protocols: &[String],
    key: &str,
) -> Result<(Wire, Response<Incoming>), String> {
    let mut request = upstream_request(shared, head, credentials, UpstreamBody::Empty)?;
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    let key = HeaderValue::try_from(key).map_err(|e| e.to_string())?;
    headers.insert(SEC_WEBSOCKET_KEY, key);
    if !protocols.is_empty() {
        let offered = HeaderValue::try_from(protocols.join(", ")).map_err(|e| e.to_string())?;
        headers.insert(SEC_WEBSOCKET_PROTOCOL, offered);
    }
    pool::ask_alone(shared, request).await
}

/// Whether a 101 is the answer to what was asked (RFC 6455, section 4.1).
fn check(headers: &HeaderMap, key: &str) -> Result<(), String> {
    let has = |name: &HeaderName, token: &str| {
        let values = headers.get_all(name).iter();
        let mut tokens = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        tokens.any(|found| found.trim().eq_ignore_ascii_case(token))
    };
    let accept = headers.get(SEC_WEBSOCKET_ACCEPT);
    let accept = accept.is_some_and(|value| {
        value.as_bytes().trim_ascii() == derive_accept_key(key.as_bytes()).as_bytes()
    });
    let wrong = match () {
        () if !has(&UPGRADE, "websocket") => UPGRADE,
        () if !has(&CONNECTION, "upgrade") => CONNECTION,
        () if !accept => SEC_WEBSOCKET_ACCEPT,
        () => return Ok(()),
    };
    Err(format!(
        "the Kubernetes API answered the upgrade with 101, but its header {wrong} is wrong"
    ))
}

/// Takes the connection back from HTTP, with what was read beyond the answer's head.
async fn switch<R: Runtime>(
    response: Response<Incoming>,
    key: &str,
) -> Result<(Metered<R::Io>, Vec<u8>), String> {
    check(response.headers(), key)?;
    let upgraded = hyper::upgrade::on(response).await.map_err(|e| chain(&e))?;
    let parts = upgraded.downcast::<HyperIo<Metered<R::Io>>>();
    let parts = parts.map_err(|_| "the upgraded connection is not the one that was dialled")?;
    Ok((parts.io.into_inner(), parts.read_buf.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(lines: &[(&'static str, &'static str)]) -> Result<(), String> {
        let pairs = lines.iter().map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_static(value))
        });
        // The key and its answer are those of RFC 6455, section 1.3.
        check(&pairs.collect(), "dGhlIHNhbXBsZSBub25jZQ==")
    }

    #[test]
    fn a_101_must_answer_what_was_asked() {
        let accept = ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let upgrade = ("Upgrade", "WebSocket");
        let connection = ("Connection", "keep-alive, upgrade");
        assert_eq!(checked(&[accept, upgrade, connection]), Ok(()));
        for (lines, wrong) in [
            (&[accept, connection][..], "upgrade"),
            (&[accept, connection, ("Upgrade", "h2c")], "upgrade"),
            (&[accept, upgrade], "connection"),
            (&[upgrade, connection], "sec-websocket-accept"),
            (
                &[upgrade, connection, ("Sec-WebSocket-Accept", "no")],
                "sec-websocket-accept",
            ),
        ] {
            let text = checked(lines).unwrap_err();
            assert!(text.contains(&format!("its header {wrong} is")), "{text}");
        }
    }
}
