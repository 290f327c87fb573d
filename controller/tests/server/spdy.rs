//! SPDY and other upgrades, which do not fit through the tunnel.

use std::sync::Arc;

use http::Response;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::{
    socket::{EXEC, V5},
    world::{Agent, World, status, text, within},
};

const UPGRADE_REQUIRED: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Upgrade request required","reason":"BadRequest","code":400}
"#;

/// What kubectl sends where its WebSocket was not opened; the agent answers it with this.
async fn spdy(world: &Arc<World>, agent: &mut Agent, code: u16, body: &str) -> Response<Incoming> {
    let mut request = world
        .request("POST", EXEC)
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .header("kubectl-command", "kubectl exec");
    for protocol in [V5, "v4.channel.k8s.io"] {
        request = request.header("x-stream-protocol-version", protocol);
    }
    let asked = world.shaking(request);
    let (id, relayed) = agent.request().await;
    assert_eq!(relayed["method"], "POST");
    assert_eq!(relayed["is_websocket"], Value::Null);
    let headers = json!({"kubectl-command": ["kubectl exec"]});
    assert_eq!(relayed["headers"], headers);
    let headers = json!({"Content-Type": ["application/json"]});
    agent.head(&id, code, headers).await;
    for half in [&body[..body.len() / 2], &body[body.len() / 2..]] {
        if !half.is_empty() {
            agent.chunk(&id, half.as_bytes()).await;
        }
    }
    agent.end(&id).await;
    asked.await.unwrap()
}

#[tokio::test]
async fn spdy_is_asked_for_as_a_request_so_that_a_real_refusal_comes_back() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let long = format!(
            "{{\"kind\":\"Status\",\"message\":\"{}\"}}",
            "x".repeat(1 << 16)
        );
        for (code, body) in [
            (403, r#"{"kind":"Status","reason":"Forbidden","code":403}"#),
            (404, ""),
            (
                400,
                r#"{"kind":"Status","message":"container x is not valid"}"#,
            ),
            (400, ""),
            (400, &long),
            (500, UPGRADE_REQUIRED),
        ] {
            let response = spdy(&world, &mut agent, code, body).await;
            assert_eq!(response.status().as_u16(), code);
            assert_eq!(response.headers()["content-type"], "application/json");
            assert_eq!(text(response).await, body);
        }
        let response = spdy(&world, &mut agent, 400, UPGRADE_REQUIRED).await;
        let message = status(response, 501, "NotImplemented").await;
        for part in [
            "kubectl 1.31",
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false",
            "KUBECTL_PORT_FORWARD_WEBSOCKETS=false",
        ] {
            assert!(message.contains(part), "{message}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_agent_without_streams_is_told_of() {
    within(async {
        let world = Arc::new(World::start().await);
        let features = json!({"supports_websocket_proxy": false});
        let mut agent = world.agent_saying(features).await;
        let refused = world.shaking(world.upgrade(EXEC)).await.unwrap();
        let message = status(refused, 501, "NotImplemented").await;
        assert!(message.contains("opens no WebSocket streams"), "{message}");
        // Which kubectl shows only if it is told again.
        let again = spdy(&world, &mut agent, 400, UPGRADE_REQUIRED).await;
        assert_eq!(status(again, 501, "NotImplemented").await, message);
    })
    .await;
}

#[tokio::test]
async fn other_upgrades_are_left_out_as_http_permits() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        for (upgrade, connection) in [
            (Some("h2c"), "Upgrade, HTTP2-Settings"),
            // No WebSocket: its connection does not say so.
            (Some("websocket"), "keep-alive"),
            (None, "keep-alive"),
        ] {
            let mut request = world.request("GET", EXEC);
            if let Some(upgrade) = upgrade {
                request = request.header("upgrade", upgrade);
            }
            let request = request
                .header("connection", connection)
                .header("http2-settings", "x")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-protocol", V5);
            let asked = world.shaking(request);
            let (id, relayed) = agent.request().await;
            assert_eq!(relayed["is_websocket"], Value::Null);
            assert_eq!(relayed["headers"], Value::Null);
            agent.head(&id, 400, json!({})).await;
            agent.chunk(&id, UPGRADE_REQUIRED.as_bytes()).await;
            agent.end(&id).await;
            let response = asked.await.unwrap();
            assert_eq!(response.status(), 400);
            assert_eq!(text(response).await, UPGRADE_REQUIRED, "{upgrade:?}");
        }
    })
    .await;
}
