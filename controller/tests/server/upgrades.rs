//! Requests for a WebSocket: when the client gets one, and what it gets otherwise.

use std::{sync::Arc, time::Duration};

use futures_util::SinkExt as _;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    socket::{ACCEPT, EXEC, V5, passes, socket},
    world::{World, empty, status, text, within},
};

fn protocol(response: &Response<Incoming>) -> Vec<&str> {
    let values = response.headers().get_all("sec-websocket-protocol").iter();
    values.map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn p192_the_client_gets_its_101_when_the_kubernetes_api_has_given_one() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let request = world
            .upgrade(EXEC)
            .header(
                "sec-websocket-protocol",
                "v4.channel.k8s.io,,v5.channel.k8s.io",
            )
            .header("sec-websocket-protocol", "v4.channel.k8s.io")
            .header("sec-websocket-extensions", "permessage-deflate")
            .header("cookie", "a=b")
            .header("origin", "https://ui.example.com");
        let asked = world.shaking(request);
        let (id, request) = agent.request().await;
        assert_eq!(request["is_websocket"], true);
        assert_eq!(request["method"], "GET");
        assert_eq!(request["path"], "/api/v1/namespaces/n/pods/p/exec");
        assert_eq!(request["query"], "command=sh");
        assert_eq!(request["protocol"], "v4.channel.k8s.io, v5.channel.k8s.io");
        let headers = json!({"origin": ["https://ui.example.com"]});
        assert_eq!(request["headers"], headers);
        agent.settled().await;
        assert!(!asked.is_finished());

        agent.accept(&id, &[V5]).await;
        let response = asked.await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(protocol(&response), [V5]);
        let mut names: Vec<&str> = response.headers().keys().map(|n| n.as_str()).collect();
        names.sort_unstable();
        let expected = [
            "connection",
            "date",
            "sec-websocket-accept",
            "sec-websocket-protocol",
            "upgrade",
        ];
        assert_eq!(names, expected);
        assert_eq!(response.headers()["connection"], "Upgrade");
        assert_eq!(response.headers()["upgrade"], "websocket");
        assert_eq!(response.headers()["sec-websocket-accept"], ACCEPT);
    })
    .await;
}

#[tokio::test]
async fn the_subprotocol_is_the_kubernetes_apis_be_it_empty_or_none() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        for (offered, chosen) in [
            (None, &[""][..]),
            (None, &[]),
            (Some("v9.channel.k8s.io"), &[""]),
            (Some("v9.channel.k8s.io"), &[]),
            (Some("a, b, c"), &["b"]),
        ] {
            let mut request = world.upgrade(EXEC);
            if let Some(offered) = offered {
                request = request.header("sec-websocket-protocol", offered);
            }
            let asked = world.shaking(request);
            let (id, request) = agent.request().await;
            assert_eq!(request["protocol"].as_str(), offered);
            agent.accept(&id, chosen).await;
            let response = asked.await.unwrap();
            assert_eq!(protocol(&response), chosen, "{offered:?}");
            let mut client = socket(response).await;
            let message = Message::binary("x");
            passes(&mut client, &mut agent, &id, message).await;
            drop(client);
            agent.close_of(&id).await;
        }
        // One that was not offered is no answer.
        let asked = world.shaking(world.upgrade(EXEC));
        let (id, _) = agent.request().await;
        agent.accept(&id, &[V5]).await;
        status(asked.await.unwrap(), 502, "InternalError").await;
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_the_kubernetes_apis_own() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let body = r#"{"kind":"Status","status":"Failure","code":404}"#;
        for (code, body) in [(404, body), (403, ""), (500, "text"), (200, "no stream")] {
            let request = world.upgrade(EXEC).header("sec-websocket-protocol", V5);
            let mut client = world.client().await;
            let asked = client.send(request.body(empty()).unwrap());
            let (response, ()) = tokio::join!(asked, async {
                let (id, _) = agent.request().await;
                let headers = json!({"Audit-Id": ["1"], "Connection": ["close"]});
                agent.head(&id, code, headers).await;
                if !body.is_empty() {
                    agent.chunk(&id, body.as_bytes()).await;
                }
                agent.end(&id).await;
            });
            assert_eq!(response.status().as_u16(), code);
            assert_eq!(response.headers()["audit-id"], "1");
            assert!(!response.headers().contains_key("connection"));
            assert_eq!(text(response).await, body);
            // The connection goes on.
            let again = world.request("GET", "/healthz").body(empty()).unwrap();
            assert_eq!(text(client.send(again).await).await, "ok");
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_fails_before_it_opens_is_told_like_a_request() {
    within(async {
        let world = Arc::new(World::start().await);
        let request = || world.upgrade(EXEC).header("sec-websocket-protocol", V5);
        let away = world.shaking(request()).await.unwrap();
        assert_eq!(away.headers()["retry-after"], "1");
        status(away, 503, "ServiceUnavailable").await;

        let mut agent = world.agent().await;
        for (text, code, reason) in [
            ("connection refused", 502, "InternalError"),
            ("the dial timed out", 504, "Timeout"),
        ] {
            let asked = world.shaking(request());
            let (id, _) = agent.request().await;
            agent.send("proxy_error", &id, json!({"error": text})).await;
            assert_eq!(status(asked.await.unwrap(), code, reason).await, text);
        }
        let asked = world.shaking(request());
        agent.request().await;
        world.running.drop_agent_connections();
        status(asked.await.unwrap(), 502, "InternalError").await;
    })
    .await;
}

#[tokio::test]
async fn p102_the_status_that_a_foreign_agent_tells_reaches_the_client() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent_saying(json!({"upgrade_answer": false})).await;
        let asked = world.shaking(world.upgrade(EXEC).header("sec-websocket-protocol", V5));
        let start = agent.expect("proxy_websocket_start").await;
        assert_eq!(start["payload"]["protocol"], V5);
        let id = start["request_id"].as_str().unwrap();
        let text = "failed to connect to K8s API: bad handshake (status: 403)";
        agent.send("proxy_error", id, json!({"error": text})).await;
        assert_eq!(status(asked.await.unwrap(), 403, "Forbidden").await, text);

        // Its first message says that it is open, and counts.
        let asked = world.shaking(world.upgrade(EXEC).header("sec-websocket-protocol", V5));
        let start = agent.expect("proxy_websocket_start").await;
        let id = start["request_id"].as_str().unwrap();
        agent.says(id, &Message::binary(&b"\x01"[..])).await;
        let response = asked.await.unwrap();
        assert_eq!(protocol(&response), [V5]);
        let mut client = socket(response).await;
        let first = crate::socket::message(&mut client).await;
        assert_eq!(first, Message::binary(&b"\x01"[..]));
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_gives_its_stream_up() {
    within(async {
        let world = World::start().await;
        let mut agent = world.agent().await;
        let mut client = world.client().await;
        let request = world.upgrade(EXEC).body(empty()).unwrap();
        let asked = tokio::spawn(client.sender.send_request(request));
        let (id, _) = agent.request().await;
        client.task.abort();
        let cancel = agent.expect("proxy_cancel").await;
        assert_eq!(cancel["request_id"], id.as_str());
        asked.await.unwrap().unwrap_err();
        // It is not asked for again, and what comes late is of no effect.
        agent.accept(&id, &[]).await;
        agent.settled().await;
    })
    .await;
}

#[tokio::test]
async fn what_a_client_sends_before_its_101_is_not_lost() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    within(async {
        let world = World::start().await;
        let mut agent = world.agent().await;
        let request = format!(
            "GET {EXEC} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            world.user
        );
        let mut early = world.connect().await.unwrap();
        // A binary message "hi", masked with zeros.
        let frame = [0x82, 0x82, 0, 0, 0, 0, b'h', b'i'];
        let all = [request.as_bytes(), &frame].concat();
        early.write_all(&all).await.unwrap();
        let (id, _) = agent.request().await;
        agent.accept(&id, &[]).await;
        assert_eq!(agent.message(&id).await, (2, b"hi".to_vec()));
        // And gone, before it has read anything.
        early.shutdown().await.unwrap();
        let (code, reason) = agent.close_of(&id).await;
        assert_eq!((code, reason), (json!(1001), json!("the client is gone")));
        let mut answer = Vec::new();
        let _ = early.read_to_end(&mut answer).await;
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
    })
    .await;
}

#[tokio::test]
async fn no_stream_begins_when_the_controller_stops() {
    within(async {
        let world = World::start().await;
        let mut agent = world.agent().await;
        let mut client = world.client().await;
        let request = world.upgrade(EXEC).body(empty()).unwrap();
        let asked = tokio::spawn(async move { client.send(request).await });
        let (id, _) = agent.request().await;
        let World { running, .. } = world;
        let address = running.addr();
        let stopping = tokio::spawn(running.shutdown(Duration::from_secs(30)));
        while TcpStream::connect(address).await.is_ok() {}
        agent.accept(&id, &[]).await;
        let response = asked.await.unwrap();
        assert_eq!(response.headers()["retry-after"], "1");
        status(response, 503, "ServiceUnavailable").await;
        agent.close_of(&id).await;
        stopping.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_stream_can_be_opened_on_a_connection_that_had_requests_before() {
    within(async {
        let world = World::start().await;
        let mut agent = world.agent().await;
        let mut client = world.client().await;
        let first = world.request("GET", "/healthz").body(empty()).unwrap();
        assert_eq!(text(client.send(first).await).await, "ok");
        let request = world.upgrade(EXEC).body(empty()).unwrap();
        let (response, id) = tokio::join!(client.send(request), async {
            let (id, _) = agent.request().await;
            agent.accept(&id, &[]).await;
            id
        });
        let mut client = socket(response).await;
        client.send(Message::text("hi")).await.unwrap();
        assert_eq!(agent.message(&id).await, (1, b"hi".to_vec()));
    })
    .await;
}
