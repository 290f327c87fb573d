//! What happens at a limit: to clients who are slow, too many or too much, and at the end.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use pipeops_controller::{Server, ServerConfig, ServerError};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{Agent, World, empty, piece, status, text, within};

const PODS: &str = "/clusters/demo/api/v1/pods";
/// A patience that ends soon, for tests that wait for its end.
const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_answer_and_delays_nobody() {
    within(async {
        let world = Arc::new(World::with(|config| config.agent_limits.recv_stream = 1 << 16).await);
        let mut agent = world.agent().await;
        let slow = world.asking("GET", PODS);
        let (id, _) = agent.request().await;
        agent.head(&id, 200, json!({})).await;
        let slow = slow.await.unwrap();
        flood(&mut agent, &id).await;

        let quick = world.asking("GET", PODS);
        let (id, _) = agent.request().await;
        agent.head(&id, 200, json!({})).await;
        agent.chunk(&id, b"quick").await;
        agent.end(&id).await;
        assert_eq!(text(quick.await.unwrap()).await, "quick");
        assert!(slow.into_body().collect().await.is_err());
    })
    .await;
}

/// Sends more than all sockets on the way hold, until the controller has had enough.
async fn flood(agent: &mut Agent, id: &str) {
    let chunk = vec![b'x'; 1 << 15];
    let cancelled = loop {
        agent.chunk(id, &chunk).await;
        tokio::select! {
            biased;
            message = agent.recv() => break message,
            () = std::future::ready(()) => {}
        }
    };
    assert_eq!(cancelled["type"], "proxy_cancel");
    assert_eq!(cancelled["request_id"], id);
}

#[tokio::test]
async fn a_client_that_takes_nothing_for_too_long_is_dropped() {
    within(async {
        let world = World::with(|config| {
            config.limits.write = SHORT;
            config.agent_limits.recv_stream = usize::MAX;
            config.agent_limits.recv_total = usize::MAX;
        });
        let world = Arc::new(world.await);
        let mut agent = world.agent().await;
        let asked = world.asking("GET", PODS);
        let (id, _) = agent.request().await;
        agent.head(&id, 200, json!({})).await;
        let response = asked.await.unwrap();
        flood(&mut agent, &id).await;
        assert!(response.into_body().collect().await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    within(async {
        let world = World::start().await;
        let _agent = world.agent().await;
        let long = "x".repeat(70 << 10);
        let request = world
            .request("GET", PODS)
            .header("x-long", long)
            .body(empty());
        let response = world.client().await.send(request.unwrap()).await;
        assert_eq!(response.status(), 431);

        // Short enough for the server, too long for the tunnel.
        let world = World::with(|config| config.agent_limits.head = 1 << 12).await;
        let _agent = world.agent().await;
        let long = "x".repeat(1 << 12);
        let request = world
            .request("GET", PODS)
            .header("x-long", long)
            .body(empty());
        let response = world.client().await.send(request.unwrap()).await;
        let message = status(response, 431, "").await;
        assert_eq!(message, "the request's path and headers are too long");
    })
    .await;
}

#[tokio::test]
async fn more_requests_than_streams_are_told_to_wait() {
    within(async {
        let world = Arc::new(World::with(|config| config.agent_limits.streams = 1).await);
        let mut agent = world.agent().await;
        let first = world.asking("GET", PODS);
        let (id, _) = agent.request().await;
        let second = world.ask("GET", PODS).await;
        assert_eq!(second.headers()["retry-after"], "1");
        status(second, 429, "TooManyRequests").await;
        agent.head(&id, 200, json!({})).await;
        agent.end(&id).await;
        assert_eq!(first.await.unwrap().status(), 200);
    })
    .await;
}

#[tokio::test]
async fn an_address_without_a_token_is_told_so_and_then_dropped() {
    within(async {
        let world = World::with(|config| config.limits.pending_per_address = 2).await;
        let held = [
            world.connect().await.unwrap(),
            world.connect().await.unwrap(),
        ];
        let response = world.ask("GET", PODS).await;
        assert!(response.headers().contains_key("retry-after"));
        let message = status(response, 503, "ServiceUnavailable").await;
        assert!(message.contains("shown no token"), "{message}");
        // Its health is told to everyone.
        let health = world.request("GET", "/healthz").body(empty()).unwrap();
        assert_eq!(text(world.client().await.send(health).await).await, "ok");
        // Beyond twice the limit there is no answer at all.
        let more = [
            world.connect().await,
            world.connect().await,
            world.connect().await,
        ];
        assert!(more.iter().any(Result::is_err));
        drop((held, more));
        while world.connect().await.is_err() || world.ask("GET", PODS).await.status() != 503 {}
    })
    .await;
}

#[tokio::test]
async fn whoever_has_shown_a_token_is_not_counted() {
    within(async {
        let world = World::with(|config| config.limits.pending_per_address = 1).await;
        let _agent = world.agent().await;
        let mut clients = Vec::new();
        for _ in 0..5 {
            let mut client = world.client().await;
            let request = world
                .request("GET", "/clusters/nowhere/api")
                .body(empty())
                .unwrap();
            status(client.send(request).await, 404, "NotFound").await;
            clients.push(client);
        }
    })
    .await;
}

#[tokio::test]
async fn there_is_a_limit_of_connections_in_all() {
    within(async {
        let world = World::with(|config| config.limits.connections = 1).await;
        let held = world.client().await;
        assert!(world.connect().await.is_err());
        drop(held.sender);
        // The server notices on its own time.
        while world.connect().await.is_err() {}
    })
    .await;
}

#[tokio::test]
async fn who_says_nothing_is_dropped() {
    within(async {
        // Not even a TLS handshake.
        let world = World::with(|config| config.limits.tls_handshake = SHORT).await;
        let mut tcp = world.tcp().await;
        assert_eq!(tcp.read(&mut [0; 64]).await.unwrap_or(0), 0);

        // Half a request.
        let world = World::with(|config| config.limits.head_read = SHORT).await;
        let mut tls = world.connect().await.unwrap();
        tls.write_all(b"GET /healthz HTTP/1.1\r\nHost:")
            .await
            .unwrap();
        assert_eq!(tls.read(&mut [0; 64]).await.unwrap_or(0), 0);

        // Nothing more after a request: a polite end, close_notify included.
        let world = World::with(|config| config.limits.idle = SHORT).await;
        let mut tls = world.connect().await.unwrap();
        let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        tls.write_all(request).await.unwrap();
        let mut answer = String::new();
        tls.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_long_request_outlives_the_patience_for_heads() {
    within(async {
        let world = Arc::new(World::with(|config| config.limits.head_read = SHORT).await);
        let mut agent = world.agent().await;
        let asked = world.asking("GET", PODS);
        let (id, _) = agent.request().await;
        tokio::time::sleep(SHORT * 4).await;
        agent.head(&id, 200, json!({})).await;
        let mut response = asked.await.unwrap();
        tokio::time::sleep(SHORT * 4).await;
        agent.chunk(&id, b"late").await;
        assert_eq!(piece(&mut response).await.unwrap().unwrap(), "late");
    })
    .await;
}

#[tokio::test]
async fn only_http_1_1_is_spoken() {
    within(async {
        let world = World::start().await;
        let tls = world.connect().await.unwrap();
        assert_eq!(
            tls.get_ref().1.alpn_protocol(),
            None,
            "kubectl's exec asks for none"
        );
        let mut tls = tls;
        tls.write_all(b"nonsense\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let _ = tls.read_to_string(&mut answer).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_lets_requests_end() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let asked = world.asking("GET", PODS);
        let (id, _) = agent.request().await;
        agent.head(&id, 200, json!({})).await;
        let mut response = asked.await.unwrap();
        let World { running, .. } = Arc::into_inner(world).unwrap();
        let address = running.addr();
        let stopping = tokio::spawn(running.shutdown(Duration::from_secs(30)));
        agent.chunk(&id, b"last").await;
        assert_eq!(piece(&mut response).await.unwrap().unwrap(), "last");
        agent.end(&id).await;
        assert!(piece(&mut response).await.is_none());
        assert_eq!(agent.closed().await.0, 1001);
        stopping.await.unwrap();
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn what_does_not_end_in_time_is_broken_off() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let asked = world.asking("GET", PODS);
        let (id, _) = agent.request().await;
        agent.head(&id, 200, json!({})).await;
        let mut response = asked.await.unwrap();
        // A client that has said nothing at all must not hold the end up either.
        let _silent = world.tcp().await;
        let World { running, .. } = Arc::into_inner(world).unwrap();
        let stopping = tokio::spawn(running.shutdown(Duration::ZERO));
        assert!(piece(&mut response).await.unwrap().is_err());
        while let Some(Ok(_)) = agent.socket.next().await {}
        stopping.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    within(async {
        let world = World::start().await;
        let mut config = ServerConfig::new(
            world.running.addr(),
            world.made.tls(),
            world.made.credentials(),
        );
        let error = Server::start(config.clone()).await.unwrap_err();
        assert!(matches!(error, ServerError::Listen { .. }), "{error}");
        config.listen = (Ipv4Addr::LOCALHOST, 0).into();
        config.credentials = world.folder.path("missing.json");
        let error = Server::start(config.clone()).await.unwrap_err().to_string();
        assert!(error.contains("missing.json"), "{error}");
        config.credentials = world.made.credentials();
        config.limits.head = 100;
        let error = Server::start(config).await.unwrap_err();
        assert!(matches!(error, ServerError::Limits));
    })
    .await;
}
