//! The handshakes of WebSocket and SPDY, with the real server's answers. It writes them itself once
//! it has taken the connection over from HTTP, with a body that ends where the connection does.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::channel::Subprotocol;

/// What a subprotocol begins with that is no subprotocol but the bearer token.
const TOKEN: &str = "base64url.bearer.authorization.k8s.io.";

/// The subprotocol of port forwarding, whose messages are the bytes of a SPDY connection.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// The header that says what the streams of SPDY are for.
const STREAMS: &str = "x-stream-protocol-version";

/// What a client wants its connection to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upgrade {
    WebSocket,
    Spdy,
}

impl Upgrade {
    /// What a request asks for.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut options = text(headers, header::CONNECTION).split(',');
        if !options.any(|option| option.trim().eq_ignore_ascii_case("upgrade")) {
            return None;
        }
        match text(headers, header::UPGRADE) {
            name if name.eq_ignore_ascii_case("websocket") => Some(Self::WebSocket),
            name if name.eq_ignore_ascii_case("spdy/3.1") => Some(Self::Spdy),
            _ => None,
        }
    }
}

/// What the two agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agreement {
    pub(super) subprotocol: Subprotocol,
    /// The head of the answer.
    pub(super) head: Vec<u8>,
}

/// The bearer token among the subprotocols, where browsers have to put it.
pub(in crate::standin) fn token(headers: &HeaderMap) -> Option<String> {
    if Upgrade::of(headers) != Some(Upgrade::WebSocket) {
        return None;
    }
    let encoded = offered(headers).find_map(|name| name.strip_prefix(TOKEN))?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}

/// Agrees with the client of a process, or says why not: the whole answer.
pub(super) fn agree(request: &Parts) -> Result<Agreement, Vec<u8>> {
    let mut subprotocol = Subprotocol::Unnamed;
    let head = web_socket(request, |offered| {
        subprotocol = Subprotocol::choose(&mut offered.iter().copied())?;
        Some(subprotocol.name())
    })?;
    Ok(Agreement { subprotocol, head })
}

/// Agrees with the client of ports on a WebSocket: the head of the answer, or the whole of it.
pub(super) fn agree_on_tunnel(request: &Parts) -> Result<Vec<u8>, Vec<u8>> {
    web_socket(request, |offered| {
        offered.contains(&TUNNEL).then_some(TUNNEL)
    })
}

fn web_socket(
    request: &Parts,
    choose: impl FnOnce(&[&str]) -> Option<&'static str>,
) -> Result<Vec<u8>, Vec<u8>> {
    let refuse = |head: &str, body: &str| {
        format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{body}").into_bytes()
    };
    if request.method != Method::GET {
        return Err(refuse("405 Method Not Allowed", "bad method"));
    }
    let key = text(&request.headers, header::SEC_WEBSOCKET_KEY);
    if key.is_empty() {
        return Err(refuse("400 Bad Request", "mismatch challenge/response"));
    }
    if text(&request.headers, header::SEC_WEBSOCKET_VERSION) != "13" {
        let head = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nSec-Websocket-Version: 13";
        return Err(format!("{head}\r\n\r\nmissing or bad WebSocket Version").into());
    }
    let offered = offered(&request.headers).filter(|name| !name.starts_with(TOKEN));
    let offered: Vec<_> = offered.collect();
    let subprotocol = choose(&offered).ok_or_else(|| refuse("403 Forbidden", ""))?;
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\
         Sec-WebSocket-Protocol: {}\r\n\r\n",
        derive_accept_key(key.as_bytes()),
        subprotocol,
    );
    Ok(head.into_bytes())
}

/// Agrees with a client on SPDY whose streams are of that protocol: the head of the answer, or
/// the whole of it.
pub(super) fn agree_on_spdy(request: &Parts, protocol: &str) -> Result<Vec<u8>, Vec<u8>> {
    let offered = request.headers.get_all(STREAMS).into_iter();
    let offered: Vec<_> = offered.filter_map(|name| name.to_str().ok()).collect();
    if offered.iter().any(|name| name.trim() == protocol) {
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\n\
             Connection: Upgrade\r\n\
             Upgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: {protocol}\r\n\r\n"
        );
        return Ok(head.into_bytes());
    }
    let body = format!(
        "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts \
         [{protocol}]\n",
        offered.join(" ")
    );
    let answer = format!(
        "HTTP/1.1 403 Forbidden\r\n\
         Connection: close\r\n\
         Content-Length: {}\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         X-Accepted-Stream-Protocol-Versions: {protocol}\r\n\r\n{body}",
        body.len()
    );
    Err(answer.into_bytes())
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let names = text(headers, header::SEC_WEBSOCKET_PROTOCOL).split(',');
    names.map(str::trim).filter(|name| !name.is_empty())
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn request(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder()
            .method(method)
            .header("upgrade", "WebSocket")
            .header("connection", "keep-alive, Upgrade");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn refusal(method: &str, headers: &[(&str, &str)]) -> String {
        String::from_utf8(agree(&request(method, headers)).unwrap_err()).unwrap()
    }

    #[test]
    fn agrees_and_strips_the_token() {
        let mut headers = vec![
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ];
        let unnamed = agree(&request("GET", &headers)).unwrap();
        let head = String::from_utf8(unnamed.head).unwrap();
        assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(head.ends_with("\r\nSec-WebSocket-Protocol: \r\n\r\n"));
        let offer = format!("{TOKEN}czNjcjN0, v5.channel.k8s.io");
        headers.push(("sec-websocket-protocol", &offer));
        let request = request("GET", &headers);
        assert_eq!(token(&request.headers).as_deref(), Some("s3cr3t"));
        let agreement = agree(&request).unwrap();
        assert_eq!(agreement.subprotocol, Subprotocol::V5);
        assert_eq!(Upgrade::of(&request.headers), Some(Upgrade::WebSocket));
    }

    #[test]
    fn agrees_on_spdy() {
        let offer = [
            ("x-stream-protocol-version", "v5.channel.k8s.io"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
        ];
        let mut request = request("POST", &offer);
        let spdy = http::HeaderValue::from_static("SPDY/3.1");
        request.headers.insert("upgrade", spdy);
        assert_eq!(Upgrade::of(&request.headers), Some(Upgrade::Spdy));
        let head = agree_on_spdy(&request, "v4.channel.k8s.io").unwrap();
        assert_eq!(
            String::from_utf8(head).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
        );
        let refusal = agree_on_spdy(&request, "portforward.k8s.io").unwrap_err();
        assert!(refusal.starts_with(b"HTTP/1.1 403 Forbidden\r\n"));
        request.headers.remove("connection");
        assert_eq!(Upgrade::of(&request.headers), None);
    }

    #[test]
    fn refuses_as_the_real_server() {
        assert_eq!(
            refusal("POST", &[]),
            "HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n\r\nbad method"
        );
        assert_eq!(
            refusal("GET", &[("sec-websocket-version", "13")]),
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nmismatch challenge/response"
        );
        let key = ("sec-websocket-key", "AAAA");
        assert_eq!(
            refusal("GET", &[key, ("sec-websocket-version", "8")]),
            "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nSec-Websocket-Version: 13\r\n\r\n\
             missing or bad WebSocket Version"
        );
        let version = ("sec-websocket-version", "13");
        let unknown = ("sec-websocket-protocol", "v9.channel.k8s.io");
        assert_eq!(
            refusal("GET", &[key, version, unknown]),
            "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n"
        );
    }
}
