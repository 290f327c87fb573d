//! What the gate refuses, and how a failure is told.

use controlplane_driver::{IdentityPolicy, Request, Responder, Runtime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{Client, HEAD, mirror, ok, say};
use crate::bench::on_both;

on_both! {
    p163_p201_a_request_meets_the_rules
    what_is_refused_says_so_and_costs_no_connection
    what_is_no_http_is_refused
    a_failure_is_told_in_a_header_of_its_own
    no_handler_speaks_for_the_agent
    p196_the_policy_decides_about_identity
}

fn header<'a>(lines: &'a [String], name: &str) -> Option<&'a str> {
    let mut values = lines.iter().filter_map(|line| line.split_once(": "));
    values.find(|(found, _)| *found == name).map(|(_, v)| v)
}

async fn p163_p201_a_request_meets_the_rules<R: Runtime>(runtime: R) {
    let mut client = Client::new(runtime, mirror);
    client
        .write(
            "PATCH /api/v1/a%2Fb;c=d?q=%2f&m&z=; HTTP/1.1\r\nHost: agent\r\nAccept: */*\r\n\
             Accept: a\r\nAuthorization: Bearer t\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
             Cookie: c\r\nImpersonate-User: root\r\nTE: trailers\r\nSec-WebSocket-Key: k\r\n\r\n",
        )
        .await;
    let (first, lines, body) = client.answer().await;
    assert_eq!(first, "HTTP/1.1 200 OK");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        body,
        "PATCH /api/v1/a%2Fb;c=d q=%2f&m&z=;\naccept: */*\naccept: a\nContent-Length: 0\n"
    );
}

async fn what_is_refused_says_so_and_costs_no_connection<R: Runtime>(runtime: R) {
    let mut client = Client::new(runtime, mirror);
    let long = format!("X: {}\r\n", "x".repeat(HEAD));
    let path = "invalid path: only Kubernetes API paths are relayed";
    let other = "an upgrade to another protocol than websocket and SPDY/3.1 is not supported";
    for (line, headers, status, text) in [
        ("GET /metrics", "", 403, path),
        ("GET /api/%2e%2e/x", "", 403, path),
        ("OPTIONS *", "", 403, path),
        ("GET http://other/api", "", 403, path),
        ("TRACE /api", "", 405, "invalid method"),
        ("get /api", "", 405, "invalid method"),
        ("GET /api", &long, 431, "head too long"),
        (
            "GET /api",
            "X: \u{80}\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n",
            400,
            other,
        ),
        (
            "GET /api",
            "Connection: Upgrade\r\nUpgrade: h2c\r\n",
            400,
            other,
        ),
        (
            "GET /api",
            "Upgrade: websocket\r\n",
            400,
            "an Upgrade that Connection does not name is not supported",
        ),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        client.write(&request).await;
        let (first, lines, body) = client.answer().await;
        assert!(
            first.starts_with(&format!("HTTP/1.1 {status} ")),
            "{line}: {first}"
        );
        assert_eq!(header(&lines, "controlplane-failure"), Some(text), "{line}");
        assert_eq!(body, format!("{text}\n"));
    }
    client.write("GET /api HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.2, "GET /api -\n");
}

async fn what_is_no_http_is_refused<R: Runtime>(runtime: R) {
    let many = "A: b\r\n".repeat(1025);
    for (request, status) in [
        ("GET /api HTTP/1.0\r\n\r\n", 505),
        ("nonsense\r\n\r\n", 400),
        ("GET /api HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (&format!("GET /api HTTP/1.1\r\n{many}\r\n"), 431),
        (
            &format!("GET /api HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(4 * HEAD)),
            431,
        ),
    ] {
        let mut client = Client::new(runtime.clone(), mirror);
        let (mut from, mut to) = tokio::io::split(client.io);
        let writing = async {
            to.write_all(request.as_bytes()).await.unwrap();
        };
        let reading = async {
            let mut answer = String::new();
            from.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let ((), answer) = tokio::join!(writing, reading);
        assert!(answer.starts_with("HTTP/1."), "{answer}");
        assert!(answer.get(9..12) == Some(&status.to_string()), "{answer}");
        client.io = from.unsplit(to);
        drop(client.io);
        client.serving.await.unwrap();
    }
}

async fn a_failure_is_told_in_a_header_of_its_own<R: Runtime>(runtime: R) {
    let handler = |request: Request, responder: Responder| async move {
        match &*request.head.path {
            "/api/fail" => responder.fail("häh?\r\nX: 1"),
            "/api/status" => {
                let mut head = ok(&[]);
                head.status = 101;
                say(responder.respond(head), "x").await;
            }
            _ => drop(responder),
        }
    };
    let mut client = Client::new(runtime, handler);
    for (path, text, body) in [
        ("fail", "häh?  X: 1", "häh?\r\nX: 1\n"),
        (
            "drop",
            "the request's handler ended without a complete answer",
            "the request's handler ended without a complete answer\n",
        ),
        (
            "status",
            "the answer has a status that is none: 101",
            "the answer has a status that is none: 101\n",
        ),
    ] {
        client
            .write(&format!("GET /api/{path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        let (first, lines, told) = client.answer().await;
        assert_eq!(first, "HTTP/1.1 502 Bad Gateway");
        assert_eq!(header(&lines, "controlplane-failure"), Some(text));
        assert_eq!(told, body);
    }
    client
        .write("HEAD /api/fail HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let (_, lines) = client.head().await;
    assert_eq!(header(&lines, "controlplane-failure"), Some("häh?  X: 1"));
}

async fn no_handler_speaks_for_the_agent<R: Runtime>(runtime: R) {
    let handler = |_: Request, responder: Responder| async move {
        let headers = [
            ("ControlPlane-Failure", "a lie"),
            ("Content-Length", "2"),
            ("Keep-Alive", "timeout=5"),
            ("Transfer-Encoding", "chunked"),
            ("X-Kept", "1"),
        ];
        say(responder.respond(ok(&headers)), "ok").await;
    };
    let mut client = Client::new(runtime, handler);
    client.write("GET /api HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (_, lines, body) = client.answer().await;
    assert_eq!(lines, ["content-length: 2", "x-kept: 1"]);
    assert_eq!(body, "ok");
}

async fn p196_the_policy_decides_about_identity<R: Runtime>(runtime: R) {
    for (policy, expected) in [
        (IdentityPolicy::ServiceAccount, ""),
        (IdentityPolicy::Impersonate, "impersonate-user: jane\n"),
        (
            IdentityPolicy::Caller,
            "authorization: Bearer t\nimpersonate-user: jane\n",
        ),
    ] {
        let mut client = Client::with(runtime.clone(), mirror, policy);
        client
            .write(
                "GET /api HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\n\
                 Impersonate-User: jane\r\n\r\n",
            )
            .await;
        let (_, _, body) = client.answer().await;
        assert_eq!(body, format!("GET /api -\n{expected}"));
    }
}
