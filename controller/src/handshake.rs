//! The server's half of the WebSocket handshake, the same toward agents and clients: no extension
//! is ever negotiated.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{body::ResponseBody, route::lists};

/// The only version of WebSocket.
pub(crate) const VERSION: &str = "13";

/// Whether a request is to become a WebSocket.
pub(crate) fn is_asked(version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_11
        && lists(headers, header::CONNECTION, "upgrade")
        && lists(headers, header::UPGRADE, "websocket")
}

/// Whether the client speaks [`VERSION`].
pub(crate) fn is_current(headers: &HeaderMap) -> bool {
    let version = headers.get(header::SEC_WEBSOCKET_VERSION);
    version.is_some_and(|version| version == VERSION)
}

/// What `Sec-WebSocket-Accept` says to the client's key; nothing to a key that is none.
pub(crate) fn accept(headers: &HeaderMap) -> Option<HeaderValue> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes();
    let nonce = STANDARD.decode(key).ok()?;
    let accept = derive_accept_key(key);
    HeaderValue::try_from(accept)
        .ok()
        .filter(|_| nonce.len() == 16)
}

/// The answer after which the connection is a WebSocket.
pub(crate) fn switching(accept: HeaderValue) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p004_no_extension_and_no_subprotocol_is_selected() {
        let response = switching(HeaderValue::from_static("x"));
        let names: Vec<_> = response
            .headers()
            .keys()
            .map(|name| name.as_str())
            .collect();
        assert_eq!(names, ["upgrade", "connection", "sec-websocket-accept"]);
    }
}
