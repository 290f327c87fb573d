//! The built-in handler behind the front end, against a Kubernetes API that is played byte by byte.

use controlplane_driver::{Kubernetes, KubernetesConfig, Runtime, Token, TokenSource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::Client;
use crate::{
    bench::on_both,
    upstream::{Api, Connection},
};

on_both! {
    an_upgrade_passes_as_the_client_made_it
    each_direction_of_an_upgrade_ends_by_itself
    p192_a_refused_upgrade_arrives_whole
    what_the_api_said_last_arrives_although_it_takes_no_more
    an_upgrade_that_breaks_is_not_closed_in_order
    another_protocol_than_was_asked_for_is_no_answer
    an_api_that_is_down_is_named
    trailers_of_an_answer_pass
    a_connection_to_the_api_is_kept_whatever_ends_the_answer
    p186_a_cancelled_request_closes_its_connection
}

fn client<R: Runtime>(runtime: &R, config: KubernetesConfig) -> Client {
    let handler = Kubernetes::new(runtime.clone(), config).unwrap();
    Client::new(runtime.clone(), handler)
}

fn asked(method: &str, protocol: &str) -> String {
    format!(
        "{method} /api/v1/namespaces/a/pods/b/exec?command=sh&command=a+b%2f; HTTP/1.1\r\n\
         Host: agent\r\nAuthorization: Bearer user\r\nConnection: Upgrade\r\n\
         Upgrade: {protocol}\r\nSec-WebSocket-Key: key\r\nSec-WebSocket-Protocol: v5,  v4\r\n\
         X-Stream-Protocol-Version: v4\r\nKubectl-Command: exec\r\n\r\n"
    )
}

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4\r\n\r\n";

/// A SPDY connection through both.
async fn opened<R: Runtime>(runtime: &R, api: &mut Api) -> (Client, Connection) {
    let mut client = client(runtime, api.config());
    client.write(&asked("POST", "SPDY/3.1")).await;
    let mut connection = api.accept().await;
    connection.head().await;
    connection.write(SWITCHED).await;
    client.head().await;
    (client, connection)
}

async fn an_upgrade_passes_as_the_client_made_it<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    for (method, protocol) in [
        ("GET", "websocket"),
        ("POST", "SPDY/3.1"),
        ("GET", "SPDY/3.1"),
    ] {
        let token = TokenSource::Fixed(Token::new("sa-token").unwrap());
        let config = KubernetesConfig {
            token: Some(token),
            ..api.config()
        };
        let mut client = client(&runtime, config);
        client.write(&asked(method, protocol)).await;
        client.write("early").await;
        let mut connection = api.accept().await;
        let request = connection.head().await;
        let mut lines: Vec<&str> = request.trim_end().lines().collect();
        assert_eq!(
            lines.remove(0),
            format!(
                "{method} /api/v1/namespaces/a/pods/b/exec?command=sh&command=a+b%2f; HTTP/1.1"
            )
        );
        lines.retain(|line| *line != "content-length: 0" && !line.starts_with("host: "));
        lines.sort_unstable();
        let upgrade = format!("upgrade: {protocol}");
        let expected = [
            "authorization: Bearer sa-token",
            "connection: Upgrade",
            "kubectl-command: exec",
            "sec-websocket-key: key",
            "sec-websocket-protocol: v5,  v4",
            &upgrade,
            "x-stream-protocol-version: v4",
        ];
        assert_eq!(lines, expected);
        // What comes with the 101 is the protocol's.
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: {protocol}\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: accept\r\nX-A: 1\r\n\r\nhello"
        );
        connection.write(&answer).await;
        let (_, lines) = client.head().await;
        let expected = [
            "connection: Upgrade",
            "sec-websocket-accept: accept",
            &upgrade,
            "x-a: 1",
        ];
        assert_eq!(lines, expected);
        assert_eq!(client.body(5).await, "hello");
        assert_eq!(connection.read_until("early").await, "early");
        // A keystroke is not waited behind, in either direction.
        for _ in 0..3 {
            client.write("a").await;
            assert_eq!(connection.read_until("a").await, "a");
            connection.write("b").await;
            assert_eq!(client.body(1).await, "b");
        }
    }
}

async fn each_direction_of_an_upgrade_ends_by_itself<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let long = "x".repeat(300_000);
    for client_first in [true, false] {
        let (mut client, mut connection) = opened(&runtime, &mut api).await;
        if client_first {
            let writing = async {
                client.write(&long).await;
                client.io.shutdown().await.unwrap();
            };
            let mut read = String::new();
            let reading = async { connection.0.read_to_string(&mut read).await.unwrap() };
            tokio::join!(writing, reading);
            assert!(read == long);
        }
        let writing = async {
            connection.write(&long).await;
            connection.0.shutdown().await.unwrap();
        };
        let ((), rest) = tokio::join!(writing, client.rest());
        assert!(rest == long);
        assert!(client.was_closed());
        if !client_first {
            client.write("late").await;
            client.io.shutdown().await.unwrap();
            let mut read = String::new();
            connection.0.read_to_string(&mut read).await.unwrap();
            assert_eq!(read, "late");
        }
        client.serving.await.unwrap();
    }
}

async fn p192_a_refused_upgrade_arrives_whole<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let mut client = client(&runtime, api.config());
    let long = "x".repeat(100_000);
    for (protocol, body) in [("SPDY/3.1", "{\"kind\":\"Status\"}"), ("websocket", &long)] {
        client.write(&asked("GET", protocol)).await;
        let mut connection = api.accept().await;
        connection.head().await;
        let length = body.len();
        let answer =
            format!("HTTP/1.1 403 No\r\nAudit-Id: 1\r\nContent-Length: {length}\r\n\r\n{body}");
        let ((), (first, lines, told)) = tokio::join!(connection.write(&answer), client.answer());
        assert_eq!(first, "HTTP/1.1 403 Forbidden");
        assert_eq!(
            lines,
            ["audit-id: 1".into(), format!("content-length: {length}")]
        );
        assert!(told == body);
    }
}

async fn what_the_api_said_last_arrives_although_it_takes_no_more<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (mut client, mut connection) = opened(&runtime, &mut api).await;
    let word = "x".repeat(3000);
    connection.write(&word).await;
    client.write("read, so that nothing is reset").await;
    connection.read_until("reset").await;
    drop(connection);
    // The API is gone; the client does not know yet.
    let (mut from, mut to) = tokio::io::split(client.io);
    let mut told = String::new();
    from.read_to_string(&mut told).await.unwrap();
    assert!(told == word, "{}", told.len());
    for _ in 0..100 {
        if to.write_all(&[b'y'; 1000]).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    to.shutdown().await.unwrap();
    client.serving.await.unwrap();
    assert!(client.closed.load(std::sync::atomic::Ordering::SeqCst));
}

async fn an_upgrade_that_breaks_is_not_closed_in_order<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    // The API resets: it ends with what it has not read.
    let (mut client, connection) = opened(&runtime, &mut api).await;
    client.write("not read").await;
    connection.0.peek(&mut [0]).await.unwrap();
    drop(connection);
    assert_eq!(client.rest().await, "");
    client.serving.await.unwrap();
    assert!(!client.closed.load(std::sync::atomic::Ordering::SeqCst));

    // The client is lost.
    let (client, mut connection) = opened(&runtime, &mut api).await;
    client.serving.abort();
    connection.closed().await;
    drop(client.io);
}

async fn another_protocol_than_was_asked_for_is_no_answer<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let mut client = client(&runtime, api.config());
    client.write(&asked("GET", "websocket")).await;
    let mut connection = api.accept().await;
    connection.head().await;
    connection.write(SWITCHED).await;
    let (first, _, text) = client.answer().await;
    assert_eq!(first, "HTTP/1.1 502 Bad Gateway");
    assert!(
        text.contains("another protocol than it was asked for"),
        "{text}"
    );
    connection.closed().await;
}

async fn an_api_that_is_down_is_named<R: Runtime>(runtime: R) {
    let api = Api::new().await;
    let config = api.config();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop((api, listener));
    let config = KubernetesConfig {
        url: format!("http://{address}"),
        ..config
    };
    let mut client = client(&runtime, config);
    let plain = "GET /api HTTP/1.1\r\nHost: a\r\n\r\n";
    let spdy = asked("POST", "SPDY/3.1");
    for (request, start) in [(plain, "kubernetes API request failed: "), (&spdy, "")] {
        client.write(request).await;
        let (first, lines, _) = client.answer().await;
        assert_eq!(first, "HTTP/1.1 502 Bad Gateway");
        let expected = format!("controlplane-failure: {start}connecting to {address}: ");
        let told = lines.iter().any(|line| line.starts_with(&expected));
        assert!(told, "{lines:?}");
    }
}

async fn trailers_of_an_answer_pass<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let mut client = client(&runtime, api.config());
    client
        .write("GET /api HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
        .await;
    let mut connection = api.accept().await;
    connection.head().await;
    connection
        .write(
            "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n",
        )
        .await;
    client.head().await;
    let body = client.read_until("\r\n\r\n").await;
    assert_eq!(body, "2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n");
}

async fn a_connection_to_the_api_is_kept_whatever_ends_the_answer<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let mut config = api.config();
    // The next request is refused until the handler of the last one is through.
    config.limits.connections = 1;
    let mut client = client(&runtime, config);
    client.write("GET /api HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut connection = api.accept().await;
    connection.head().await;
    let two = "200 OK\r\nContent-Length: 2\r\n\r\n";
    let chunked = "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    for (next, answer, end) in [
        ("GET", &*format!("{two}ok"), "ok"),
        ("HEAD", chunked, "0\r\n\r\n"),
        ("DELETE", two, "\r\n\r\n"),
        ("GET", "204 No Content\r\n\r\n", "\r\n\r\n"),
        (
            "GET",
            "304 Not Modified\r\nContent-Length: 2\r\n\r\n",
            "\r\n\r\n",
        ),
        ("GET", "200 OK\r\nContent-Length: 0\r\n\r\n", "\r\n\r\n"),
    ] {
        connection.write(&format!("HTTP/1.1 {answer}")).await;
        client.read_until(end).await;
        loop {
            let request = format!("{next} /api HTTP/1.1\r\nHost: a\r\n\r\n");
            client.write(&request).await;
            tokio::select! {
                _ = connection.head() => break,
                _ = api.accept() => panic!("a new connection after {answer:?}"),
                (first, _) = client.head() => assert!(first.contains(" 502 "), "{first}"),
            }
            if next != "HEAD" {
                client.read_until("under way\n").await;
            }
        }
    }
}

async fn p186_a_cancelled_request_closes_its_connection<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    for (answer, lost) in [
        ("", true),
        ("", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", false),
    ] {
        let mut client = client(&runtime, api.config());
        client.write("GET /api HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut connection = api.accept().await;
        connection.head().await;
        connection.write(answer).await;
        if !answer.is_empty() {
            client.read_until("half").await;
        }
        if lost {
            client.serving.abort();
        } else {
            drop(client.io);
        }
        connection.closed().await;
    }
}
