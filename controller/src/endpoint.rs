//! Where agents connect: checks the token and the WebSocket handshake (P-001 to P-004), then
//! hands the connection to the agent's hub.

use controlplane_driver::{Hub, Meter, websocket_config};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
use tokio_util::compat::{FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};

use crate::{
    body::ResponseBody,
    connection::Client,
    credentials::{AgentCredential, USER_PREFIX},
    handshake,
    route::bearer,
    server::App,
    status::Refusal,
};

pub(crate) async fn respond(
    app: &App,
    client: &Client,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Refusal> {
    if request.method() != Method::GET {
        let refusal = Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "agents connect here by a WebSocket, which begins with a GET",
        );
        return Err(refusal.with(header::ALLOW, HeaderValue::from_static("GET")));
    }
    let credentials = app.credentials.current();
    let agent = authenticate(bearer(request.headers()), |token| {
        credentials.agent_by_token(token)
    })?;
    client.visit.authenticated();
    if !app.admission.handshake(Instant::now()) {
        let message = "too many agents are connecting at this moment";
        return Err(Refusal::unavailable(message).retry_after(spread()));
    }
    let accept = shake(request.version(), request.headers())?;
    let hub = app.agents.enlist(agent).map_err(|error| {
        tracing::error!(%error, agent = agent.name, "cannot take in an agent");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    })?;
    if let Err(wait) = hub.admit().await {
        let message = "agents with the same token keep taking over from each other: give each \
                       agent a token of its own";
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        return Err(Refusal::new(StatusCode::CONFLICT, message).retry_after(seconds));
    }
    tracing::info!(agent = agent.name, peer = %client.peer, "agent connects");
    let limits = app.config.agent_limits;
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => accept_socket(&hub, upgraded, &limits).await,
            Err(error) => tracing::debug!(%error, "the agent left in the middle of the handshake"),
        }
    });
    Ok(handshake::switching(accept))
}

async fn accept_socket(hub: &Hub, upgraded: Upgraded, limits: &controlplane_driver::Limits) {
    let meter = Meter::new();
    let io = meter.wrap(TokioIo::new(upgraded).compat()).compat();
    let config = websocket_config(limits);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    hub.accept(socket, meter);
}

fn authenticate<'a>(
    token: Option<&str>,
    find: impl FnOnce(&str) -> Option<&'a AgentCredential>,
) -> Result<&'a AgentCredential, Refusal> {
    let Some(token) = token else {
        return Err(Refusal::unauthorized(
            "the agent sent no token: it belongs into the header `Authorization: Bearer TOKEN`",
        ));
    };
    find(token).ok_or_else(|| {
        Refusal::unauthorized(if token.starts_with(USER_PREFIX) {
            "this is the token of a user: give the agent the one that `pipeops-controller token \
             agent NAME` prints"
        } else {
            "the agent's token is not known to this controller: it may have been revoked; give \
             the agent the one that `pipeops-controller token agent NAME` prints"
        })
    })
}

/// Checks a WebSocket handshake and returns what `Sec-WebSocket-Accept` says. Extensions and
/// subprotocols are not negotiated, origin and user agent do not matter.
fn shake(version: Version, headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    if !handshake::is_asked(version, headers) {
        let message = "agents connect here by a WebSocket: the request asks for no upgrade";
        return Err(upgrade_required(message));
    }
    if !handshake::is_current(headers) {
        return Err(upgrade_required("only version 13 of WebSocket is spoken"));
    }
    handshake::accept(headers)
        .ok_or_else(|| Refusal::bad_request("Sec-WebSocket-Key is missing or wrong"))
}

fn upgrade_required(message: &str) -> Refusal {
    Refusal::new(StatusCode::UPGRADE_REQUIRED, message)
        .with(header::UPGRADE, HeaderValue::from_static("websocket"))
        .with(header::CONNECTION, HeaderValue::from_static("Upgrade"))
        .with(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static(handshake::VERSION),
        )
}

/// 1 to 5 seconds, so that those who were refused together do not come back together.
pub(crate) fn spread() -> u64 {
    1 + getrandom::u32().map_or(0, |number| u64::from(number % 5))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(changes: &[(&'static str, Option<&'static str>)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "h"),
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for (name, value) in changes {
            headers.remove(*name);
            if let Some(value) = value {
                headers.insert(*name, HeaderValue::from_static(value));
            }
        }
        headers
    }

    #[test]
    fn p003_no_more_is_required_than_a_websocket_client_sends() {
        let accept = shake(Version::HTTP_11, &headers(&[])).unwrap();
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let shouted = [
            ("upgrade", Some("WebSocket")),
            ("connection", Some("keep-alive, UPGRADE")),
            ("sec-websocket-extensions", Some("permessage-deflate")),
            ("sec-websocket-protocol", Some("chat")),
            ("origin", Some("https://elsewhere.example.com")),
        ];
        assert!(shake(Version::HTTP_11, &headers(&shouted)).is_ok());
    }

    #[test]
    fn what_is_no_handshake_is_told_so() {
        for (change, code) in [
            (("upgrade", None), 426),
            (("upgrade", Some("h2c")), 426),
            (("connection", None), 426),
            (("connection", Some("close")), 426),
            (("sec-websocket-version", None), 426),
            (("sec-websocket-version", Some("8")), 426),
            (("sec-websocket-key", None), 400),
            (("sec-websocket-key", Some("short")), 400),
            (("sec-websocket-key", Some("dGhlIHNhbXBsZQ==")), 400),
        ] {
            let refusal = shake(Version::HTTP_11, &headers(&[change])).unwrap_err();
            assert_eq!(refusal.code.as_u16(), code, "{change:?}");
        }
        let refusal = shake(Version::HTTP_10, &headers(&[])).unwrap_err();
        assert_eq!(refusal.code, StatusCode::UPGRADE_REQUIRED);
    }

    #[test]
    fn a_refused_token_is_told_what_to_do_and_not_repeated() {
        for (token, part) in [
            (None, "sent no token"),
            (Some("cpa_wrong"), "not known to this controller"),
            (Some("cpu_wrong"), "the token of a user"),
        ] {
            let refusal = authenticate(token, |_| None).unwrap_err();
            assert_eq!(refusal.code, StatusCode::UNAUTHORIZED);
            assert!(refusal.message.contains(part), "{}", refusal.message);
            assert!(!refusal.message.contains("wrong"), "{}", refusal.message);
        }
    }

    #[test]
    fn waits_are_spread_over_five_seconds() {
        assert!((0..100).all(|_| (1..=5).contains(&spread())));
    }
}
