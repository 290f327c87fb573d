//! What a request asks for beside an answer, and the credentials that it may carry in the request
//! for a WebSocket.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use controlplane_driver::rules::{self, BEARER_PROTOCOL};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Body;
use serde::Deserialize;

use super::{answer::Pour, permit::fault};
use crate::{
    handshake,
    route::{bearer, lists},
    status::Refusal,
};

/// Longest answer of the Kubernetes API that is looked into.
const MAX_STATUS: usize = 16 << 10;
/// Kubernetes' list of what a SPDY connection is for.
pub(super) const SPDY_STREAMS: &str = "x-stream-protocol-version";
/// The only SPDY that is spoken.
const SPDY: &str = "SPDY/3.1";
/// What the Kubernetes API says to a request for a stream that asks for no upgrade.
const UPGRADE_REQUIRED: &str = "Upgrade request required";

/// As much of a `metav1.Status` as is looked at.
#[derive(Deserialize)]
struct Status {
    kind: String,
    message: String,
}

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Wish {
    /// An answer.
    Answer,
    /// A stream in a protocol that does not fit through the tunnel. It is asked for without, so
    /// that the client sees the Kubernetes API's own refusal where there is one.
    Spdy,
    /// A WebSocket.
    WebSocket(Handshake),
}

/// A request for a WebSocket that can be met.
#[derive(Debug)]
pub(super) struct Handshake {
    /// Value of `Sec-WebSocket-Accept`.
    pub(super) accept: HeaderValue,
    /// The subprotocols on offer.
    pub(super) protocols: Vec<String>,
}

impl Wish {
    pub(super) fn of<B: Body>(request: &Request<B>) -> Result<Self, Refusal> {
        let headers = request.headers();
        // Any other upgrade is none of our business: HTTP lets a server go on without.
        if handshake::is_asked(request.version(), headers) {
            return Handshake::of(request).map(Self::WebSocket);
        }
        Ok(match asks_spdy(headers) {
            true => Self::Spdy,
            false => Self::Answer,
        })
    }

    /// The protocol that an agent in the fast mode is asked to switch to, if any.
    pub(super) fn protocol<B>(&self, request: &Request<B>) -> Option<&'static str> {
        let spdy = |headers| {
            lists(headers, header::CONNECTION, "upgrade") && lists(headers, header::UPGRADE, SPDY)
        };
        match self {
            Self::WebSocket(_) => Some("websocket"),
            Self::Spdy if spdy(request.headers()) => Some(SPDY),
            Self::Answer | Self::Spdy => None,
        }
    }

    /// Headers of a request to switch to `protocol` in the fast mode: those of the handshake are
    /// between the client and the Kubernetes API.
    pub(super) fn switching(
        protocol: &str,
        mut headers: Vec<(String, String)>,
    ) -> Vec<(String, String)> {
        let offer = header::SEC_WEBSOCKET_PROTOCOL;
        // Nothing is left of an offer of a token alone.
        headers.retain(|(name, value)| {
            !name.eq_ignore_ascii_case(offer.as_str()) || !value.is_empty()
        });
        headers.push(("Connection".into(), "Upgrade".into()));
        headers.push(("Upgrade".into(), protocol.into()));
        headers
    }

    /// Headers of the request in JSON mode: an upgrade is asked for anew on each hop, or not at
    /// all.
    pub(super) fn headers(&self, headers: Vec<(String, String)>) -> Vec<(String, String)> {
        let mut headers = rules::without_handshake(headers);
        if matches!(self, Self::Spdy) {
            headers.retain(|(name, _)| !name.eq_ignore_ascii_case(SPDY_STREAMS));
        }
        headers
    }
}

impl Handshake {
    /// The checks of the Kubernetes API, with its status codes.
    fn of<B: Body>(request: &Request<B>) -> Result<Self, Refusal> {
        if request.method() != Method::GET {
            let text = "bad method: a WebSocket begins with a GET";
            let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text);
            return Err(refusal.with(header::ALLOW, HeaderValue::from_static("GET")));
        }
        let headers = request.headers();
        if !handshake::is_current(headers) {
            let text = "missing or bad WebSocket version: only 13 is spoken";
            let version = HeaderValue::from_static(handshake::VERSION);
            let refusal = Refusal::bad_request(text);
            return Err(refusal.with(header::SEC_WEBSOCKET_VERSION, version));
        }
        let accept = handshake::accept(headers).ok_or_else(|| {
            Refusal::bad_request("Sec-WebSocket-Key is missing, or is not 16 bytes in base64")
        })?;
        if !request.body().is_end_stream() {
            return Err(Refusal::bad_request(
                "the request for a WebSocket has a body, which none can have",
            ));
        }
        let mut protocols = rules::subprotocols(offers(headers)?).map_err(fault)?;
        protocols.retain(|name| !name.starts_with(BEARER_PROTOCOL));
        Ok(Self { accept, protocols })
    }
}

/// The token of a request: that of its `Authorization`, or else the one that a browser, which
/// cannot set headers, hides among the subprotocols of a WebSocket.
pub(super) fn token<B>(request: &Request<B>) -> Result<Option<Cow<'_, str>>, Refusal> {
    let headers = request.headers();
    let websocket = handshake::is_asked(request.version(), headers);
    if !websocket || headers.contains_key(header::AUTHORIZATION) {
        return Ok(bearer(headers).map(Cow::Borrowed));
    }
    let offers = offers(headers)?;
    let names = || {
        let names = offers.iter().flat_map(|list| list.split(','));
        names.map(str::trim).filter(|name| !name.is_empty())
    };
    let mut hidden = names().filter_map(|name| name.strip_prefix(BEARER_PROTOCOL));
    let (encoded, second) = (hidden.next(), hidden.next());
    let Some(encoded) = encoded else {
        return Ok(None);
    };
    if second.is_some() {
        let text = "more than one token among the subprotocols of the WebSocket";
        return Err(Refusal::unauthorized(text));
    }
    if names().all(|name| name.starts_with(BEARER_PROTOCOL)) {
        let text = "the WebSocket's only subprotocol is the token: offer one to speak, too";
        return Err(Refusal::unauthorized(text));
    }
    let token = URL_SAFE_NO_PAD.decode(encoded).ok();
    let token = token.and_then(|token| String::from_utf8(token).ok());
    token.map(|token| Some(Cow::Owned(token))).ok_or_else(|| {
        Refusal::unauthorized(
            "the token among the WebSocket's subprotocols is no base64url without padding",
        )
    })
}

fn offers(headers: &HeaderMap) -> Result<Vec<&str>, Refusal> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let texts = values.map(|value| value.to_str());
    let texts: Result<_, _> = texts.collect();
    texts.map_err(|_| fault(controlplane_driver::PeerFault::Subprotocol))
}

fn asks_spdy(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::UPGRADE).iter();
    let mut names = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    names.any(|name| {
        let start = name.trim().get(..5);
        start.is_some_and(|start| start.eq_ignore_ascii_case("spdy/"))
    })
}

/// Whether the Kubernetes API had no other objection to a request for a SPDY stream than that it
/// asked for no upgrade, which was taken off it.
pub(super) async fn lacks_only_upgrade(status: u16, answer: &mut Pour) -> bool {
    if status != StatusCode::BAD_REQUEST.as_u16() {
        return false;
    }
    let body = answer.peek(MAX_STATUS).await;
    body.is_some_and(|body| says_upgrade_required(&body))
}

fn says_upgrade_required(body: &Bytes) -> bool {
    // A client may have asked for protobuf.
    if let Some(status) = body.strip_prefix(b"k8s\0") {
        let text = UPGRADE_REQUIRED.as_bytes();
        return status.windows(text.len()).any(|window| window == text);
    }
    let status: Option<Status> = serde_json::from_slice(body).ok();
    status.is_some_and(|it| it.kind == "Status" && it.message.contains(UPGRADE_REQUIRED))
}

/// What kubectl is told that would have got its stream if it spoke by WebSocket.
pub(super) fn no_spdy() -> Refusal {
    Refusal::new(
        StatusCode::NOT_IMPLEMENTED,
        "this controller carries WebSocket streams, but no SPDY: use kubectl 1.31 or newer, and \
         do not set KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false or \
         KUBECTL_PORT_FORWARD_WEBSOCKETS=false; if kubectl came here because a WebSocket failed, \
         it says why with -v=4",
    )
}

#[cfg(test)]
mod tests {
    use http_body_util::{Empty, Full};

    use super::*;

    fn request(changes: &[(&'static str, &str)]) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        for (name, value) in [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            let value = HeaderValue::from_static(value);
            request.headers_mut().insert(name, value);
        }
        for (name, value) in changes {
            let headers = request.headers_mut();
            if headers.contains_key(*name) {
                headers.remove(*name);
            }
            if !value.is_empty() {
                headers.append(*name, HeaderValue::from_str(value).unwrap());
            }
        }
        request
    }

    fn hidden(token: &str) -> String {
        format!("{BEARER_PROTOCOL}{}", URL_SAFE_NO_PAD.encode(token))
    }

    #[test]
    fn a_request_asks_for_what_its_upgrade_says() {
        for (upgrade, connection, kind) in [
            ("websocket", "Upgrade", "WebSocket"),
            ("WebSocket", "keep-alive, upgrade", "WebSocket"),
            ("SPDY/3.1", "Upgrade", "Spdy"),
            ("spdy/3.1", "", "Spdy"),
            // Not for a WebSocket unless the connection says so.
            ("websocket", "", "Answer"),
            ("h2c", "Upgrade", "Answer"),
            ("TLS/1.0", "Upgrade", "Answer"),
            ("", "", "Answer"),
        ] {
            let request = request(&[("upgrade", upgrade), ("connection", connection)]);
            let wish = format!("{:?}", Wish::of(&request).unwrap());
            assert!(wish.starts_with(kind), "{upgrade}, {connection}: {wish}");
        }
        let mut old = request(&[]);
        *old.version_mut() = http::Version::HTTP_10;
        assert!(matches!(Wish::of(&old), Ok(Wish::Answer)));
    }

    #[test]
    fn a_handshake_is_refused_with_the_codes_of_the_kubernetes_api() {
        for (change, code) in [
            (("sec-websocket-version", ""), 400),
            (("sec-websocket-version", "8"), 400),
            (("sec-websocket-key", ""), 400),
            (("sec-websocket-key", "c2hvcnQ="), 400),
            (("sec-websocket-key", "no base64"), 400),
            (("sec-websocket-protocol", "v5 v4"), 400),
        ] {
            let refused = Wish::of(&request(&[change])).unwrap_err();
            assert_eq!(refused.code.as_u16(), code, "{change:?}");
        }
        let mut post = request(&[]);
        *post.method_mut() = Method::POST;
        assert_eq!(Wish::of(&post).unwrap_err().code, 405);
        let (parts, _) = request(&[]).into_parts();
        let body = Request::from_parts(parts, Full::new(Bytes::from_static(b"x")));
        assert_eq!(Wish::of(&body).unwrap_err().code, 400);
    }

    #[test]
    fn a_token_among_the_subprotocols_is_found_and_not_offered() {
        let offer = format!("v4.channel.k8s.io, {} ,v5.channel.k8s.io", hidden("tök"));
        let request = request(&[("sec-websocket-protocol", &offer)]);
        assert_eq!(token(&request).unwrap().as_deref(), Some("tök"));
        let Wish::WebSocket(handshake) = Wish::of(&request).unwrap() else {
            panic!("no WebSocket")
        };
        let rest = ["v4.channel.k8s.io", "v5.channel.k8s.io"];
        assert_eq!(handshake.protocols, rest);
    }

    #[test]
    fn a_token_among_the_subprotocols_is_one_and_not_alone() {
        let (one, other) = (hidden("a"), hidden("b"));
        for offer in [
            &format!("{one}, {other}, v5.channel.k8s.io"),
            &one,
            &format!("{one},,"),
            &format!("{one}=, v5.channel.k8s.io"),
            &format!("{BEARER_PROTOCOL}_w, v5.channel.k8s.io"),
        ] {
            let request = request(&[("sec-websocket-protocol", offer)]);
            let refused = token(&request).unwrap_err();
            assert_eq!(refused.code, 401, "{offer}");
            assert!(!refused.message.contains(BEARER_PROTOCOL));
        }
    }

    #[test]
    fn a_token_among_the_subprotocols_counts_only_where_a_browser_needs_it() {
        let offer = format!("{}, v5.channel.k8s.io", hidden("t"));
        let of = |changes: &[(&'static str, &str)]| {
            let offer = [("sec-websocket-protocol", &*offer)];
            let request = request(&[&offer[..], changes].concat());
            token(&request).unwrap().map(Cow::into_owned)
        };
        assert_eq!(of(&[]).as_deref(), Some("t"));
        assert_eq!(of(&[("authorization", "Bearer h")]).as_deref(), Some("h"));
        assert_eq!(of(&[("authorization", "Basic h")]), None);
        assert_eq!(of(&[("upgrade", "")]), None);
        assert_eq!(token(&request(&[])).unwrap(), None);
    }

    #[test]
    fn the_refusal_of_a_request_without_upgrade_is_recognised() {
        let says = |body: &'static [u8]| says_upgrade_required(&Bytes::from_static(body));
        let recorded = br#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Upgrade request required","reason":"BadRequest","code":400}
"#;
        assert!(says(recorded));
        assert!(says(
            b"k8s\0\x0a\x0c\x0a\x02v1\x12\x06Status\x12\x18Upgrade request required"
        ));
        assert!(!says(
            br#"{"kind":"Status","message":"container x is not valid"}"#
        ));
        assert!(!says(
            br#"{"kind":"Pod","message":"Upgrade request required"}"#
        ));
        assert!(!says(b"Upgrade request required"));
        assert!(!says(b""));
    }
}
