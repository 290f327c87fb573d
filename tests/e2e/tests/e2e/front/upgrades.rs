//! Requests that switch protocols, with a handler that the test plays.

use controlplane_driver::{
    BoxFuture, ClientIo, Handler, Request, Responder, ResponseHead, Runtime, UpgradeRequest,
    UpgradeResponder,
};
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::{io::AsyncWriteExt as _, sync::mpsc};

use super::client::{Client, mirror, ok, say};
use crate::bench::on_both;

on_both! {
    both_protocols_are_switched_to_and_each_direction_ends_by_itself
    a_refused_upgrade_reaches_the_client_whole
    a_connection_that_is_dropped_is_not_closed
    a_handler_that_knows_no_upgrades_says_so
}

const SPDY: &str = "POST /api/exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
    Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n";
const WEBSOCKET: &str = "GET /api/exec HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Hands the client's side to the test, or refuses.
struct Played {
    switched: mpsc::UnboundedSender<(UpgradeRequest, ClientIo)>,
}

impl Handler for Played {
    fn handle(&self, request: Request, responder: Responder) -> BoxFuture<'static, ()> {
        Box::pin(mirror(request, responder))
    }

    fn upgrade(
        &self,
        request: UpgradeRequest,
        responder: UpgradeResponder,
    ) -> BoxFuture<'static, ()> {
        let switched = self.switched.clone();
        Box::pin(async move {
            match &*request.head.path {
                "/api/refuse" => {
                    let head = ResponseHead {
                        status: 403,
                        ..ok(&[("X-A", "1"), ("Content-Length", "9")])
                    };
                    return say(responder.refuse(head), "forbidden").await;
                }
                "/api/fail" => return responder.fail("no API"),
                _ => {}
            }
            let headers = [
                ("Connection", "Upgrade"),
                ("Upgrade", request.to.as_str()),
                ("Sec-WebSocket-Accept", "a"),
                ("Keep-Alive", "1"),
                ("Controlplane-Failure", "a lie"),
            ];
            let headers = headers.map(|(n, v)| (n.to_string(), v.to_string()));
            let client = responder.accept(headers.into()).await.unwrap();
            switched.send((request, client)).unwrap();
            // As one that carries would.
            switched.closed().await;
        })
    }
}

async fn both_protocols_are_switched_to_and_each_direction_ends_by_itself<R: Runtime>(runtime: R) {
    for (request, protocol, headers) in [
        (
            SPDY,
            "SPDY/3.1",
            &[
                "x-stream-protocol-version",
                "Content-Length",
                "Connection",
                "Upgrade",
            ][..],
        ),
        (
            WEBSOCKET,
            "websocket",
            &[
                "sec-websocket-key",
                "sec-websocket-version",
                "Connection",
                "Upgrade",
            ],
        ),
    ] {
        for client_first in [true, false] {
            let (sender, mut switched) = mpsc::unbounded_channel();
            let mut client = Client::new(runtime.clone(), Played { switched: sender });
            // Bytes that come with the request are the protocol's.
            client.write(&format!("{request}early")).await;
            let (first, lines) = client.head().await;
            assert_eq!(first, "HTTP/1.1 101 Switching Protocols");
            let upgrade = format!("upgrade: {protocol}");
            let expected = ["connection: Upgrade", "sec-websocket-accept: a", &upgrade];
            assert_eq!(lines, expected);
            let (asked, mut api) = switched.recv().await.unwrap();
            assert_eq!(asked.to.as_str(), protocol);
            let mut names: Vec<&str> = asked.head.headers.iter().map(|(n, _)| &**n).collect();
            let mut headers = headers.to_vec();
            names.sort_unstable();
            headers.sort_unstable();
            assert_eq!(names, headers);
            let mut early = [0; 5];
            api.read_exact(&mut early).await.unwrap();
            assert_eq!(&early, b"early");
            let long = "x".repeat(100_000);
            if client_first {
                let writing = async {
                    client.write(&long).await;
                    client.io.shutdown().await.unwrap();
                };
                let mut read = String::new();
                let reading = async { api.read_to_string(&mut read).await.unwrap() };
                tokio::join!(writing, reading);
                assert!(read == long);
            }
            let writing = async {
                api.write_all(long.as_bytes()).await.unwrap();
                api.close().await.unwrap();
            };
            let ((), rest) = tokio::join!(writing, client.rest());
            assert!(rest == long);
            if !client_first {
                client.write("late").await;
                client.io.shutdown().await.unwrap();
                let mut read = String::new();
                api.read_to_string(&mut read).await.unwrap();
                assert_eq!(read, "late");
            }
            drop(api);
            drop(switched);
            client.serving.await.unwrap();
        }
    }
}

async fn a_refused_upgrade_reaches_the_client_whole<R: Runtime>(runtime: R) {
    let (sender, _switched) = mpsc::unbounded_channel();
    let mut client = Client::new(runtime, Played { switched: sender });
    for request in [SPDY, WEBSOCKET] {
        client.write(&request.replace("/exec", "/refuse")).await;
        let (first, lines, body) = client.answer().await;
        assert_eq!(first, "HTTP/1.1 403 Forbidden");
        assert_eq!(lines, ["content-length: 9", "x-a: 1"]);
        assert_eq!(body, "forbidden");
        client.write(&request.replace("/exec", "/fail")).await;
        let (first, lines, _) = client.answer().await;
        assert_eq!(first, "HTTP/1.1 502 Bad Gateway");
        assert!(
            lines.contains(&"controlplane-failure: no API".into()),
            "{lines:?}"
        );
    }
    // The connection is of further use.
    client.write("GET /api HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.2, "GET /api -\n");
}

async fn a_connection_that_is_dropped_is_not_closed<R: Runtime>(runtime: R) {
    let (sender, mut switched) = mpsc::unbounded_channel();
    let mut client = Client::new(runtime, Played { switched: sender });
    client.write(SPDY).await;
    client.head().await;
    let (_, api) = switched.recv().await.unwrap();
    drop(api);
    // At once, although the handler still runs.
    assert_eq!(client.rest().await, "");
    assert!(!client.was_closed());
    drop(switched);
    client.serving.await.unwrap();
}

async fn a_handler_that_knows_no_upgrades_says_so<R: Runtime>(runtime: R) {
    let mut client = Client::new(runtime, mirror);
    client.write(WEBSOCKET).await;
    let (first, _) = client.head().await;
    assert_eq!(first, "HTTP/1.1 501 Not Implemented");
    let text = client.read_until("0\r\n\r\n").await;
    assert!(
        text.contains("this agent switches to no other protocol\n"),
        "{text}"
    );
}
