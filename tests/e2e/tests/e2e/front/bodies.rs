//! Bodies, trailers and the answers that have none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use controlplane_driver::{Request, Responder, ResponseHead, Runtime};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{body::Frame, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{Client, echo, mirror, ok, say};
use crate::bench::{on_both, pattern};

on_both! {
    bodies_pass_both_ways_at_once_and_whole
    trailers_pass_both_ways
    answers_without_a_body_keep_their_headers
    a_connection_takes_one_request_after_the_other
    an_early_answer_reaches_the_client
    the_body_is_asked_for_when_it_is_wanted
    a_reader_that_stops_stops_the_handler
}

async fn bodies_pass_both_ways_at_once_and_whole<R: Runtime>(runtime: R) {
    let client = Client::new(runtime, echo);
    let (mut sender, connection) = http1::handshake(TokioIo::new(client.io)).await.unwrap();
    tokio::spawn(connection);
    let long = Bytes::from(pattern(3 << 20));
    let pieces = [0..1, 1..70_000, 70_000..70_001, 70_001..3 << 20];
    let pieces = pieces.map(|range| Ok::<_, std::io::Error>(Frame::data(long.slice(range))));
    let chunked = StreamBody::new(futures_util::stream::iter(pieces)).boxed();
    let whole = Full::new(long.clone()).map_err(|never| match never {});
    for (body, length) in [(whole.boxed(), Some("3145728")), (chunked, None)] {
        let request = hyper::Request::put("/api").body(body).unwrap();
        sender.ready().await.unwrap();
        let response = sender.send_request(request).await.unwrap();
        let declared = response.headers().get("content-length");
        assert_eq!(declared.map(|value| value.to_str().unwrap()), length);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body == long, "{}", body.len());
    }
}

async fn trailers_pass_both_ways<R: Runtime>(runtime: R) {
    let handler = |mut request: Request, responder: Responder| async move {
        while let Some(Ok(_)) = request.body.next().await {}
        let mut body = responder.respond(ok(&[("Trailer", "x-sum, controlplane-failure")]));
        body.write("hi".into()).await.unwrap();
        let mut trailers = request.body.trailers().to_vec();
        trailers.push(("x-other".into(), "not announced".into()));
        trailers.push(("controlplane-failure".into(), "a lie".into()));
        body.finish_with(trailers);
    };
    let mut client = Client::new(runtime, handler);
    for (te, end) in [
        ("TE: trailers\r\n", "2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n"),
        ("", "2\r\nhi\r\n0\r\n\r\n"),
    ] {
        let head =
            format!("POST /api HTTP/1.1\r\nHost: a\r\n{te}Transfer-Encoding: chunked\r\n\r\n");
        client.write(&head).await;
        client
            .write("1\r\nx\r\n0\r\nX-Sum: 7\r\nAuthorization: t\r\n\r\n")
            .await;
        let (first, lines) = client.head().await;
        assert_eq!(first, "HTTP/1.1 200 OK");
        assert!(lines.contains(&"trailer: x-sum, controlplane-failure".into()));
        assert_eq!(client.read_until("\r\n\r\n").await, end);
    }
}

async fn answers_without_a_body_keep_their_headers<R: Runtime>(runtime: R) {
    let handler = |request: Request, responder: Responder| async move {
        let status = request.head.path.trim_start_matches("/api/").parse();
        let headers = ok(&[
            ("Content-Length", "5"),
            ("Connection", "close, X-A"),
            ("X-A", "1"),
        ]);
        let head = ResponseHead {
            status: status.unwrap(),
            ..headers
        };
        let mut body = responder.respond(head);
        // Nobody wants it.
        while body.write("hello".into()).await.is_ok() {}
    };
    let mut client = Client::new(runtime, handler);
    for (method, status, length) in [
        ("HEAD", 200, true),
        ("GET", 304, true),
        ("GET", 204, false),
        ("HEAD", 404, true),
    ] {
        let request = format!("{method} /api/{status} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.write(&request).await;
        let (first, lines) = client.head().await;
        assert!(first.starts_with(&format!("HTTP/1.1 {status} ")), "{first}");
        let expected = if length {
            &["content-length: 5"][..]
        } else {
            &[]
        };
        assert_eq!(lines, expected, "{method} {status}");
    }
}

async fn a_connection_takes_one_request_after_the_other<R: Runtime>(runtime: R) {
    let mut client = Client::new(runtime, mirror);
    for number in 0..100 {
        let method = ["GET", "POST"][number % 2];
        let body = ["", "Content-Length: 3\r\n"][number % 2];
        let text = ["", "abc"][number % 2];
        let head = format!("{method} /api/{number}?q HTTP/1.1\r\nHost: a\r\n{body}\r\n{text}");
        client.write(&head).await;
        let (first, _, body) = client.answer().await;
        assert_eq!(first, "HTTP/1.1 200 OK");
        assert!(
            body.starts_with(&format!("{method} /api/{number} q\n")),
            "{body}"
        );
    }
    drop(client.io);
    client.serving.await.unwrap();
}

async fn an_early_answer_reaches_the_client<R: Runtime>(runtime: R) {
    let handler = |request: Request, responder: Responder| async move {
        drop(request);
        let head = ResponseHead {
            status: 413,
            ..ok(&[("Content-Length", "100000")])
        };
        say(responder.respond(head), &"x".repeat(100_000)).await;
    };
    let client = Client::new(runtime, handler);
    let (mut from, mut to) = tokio::io::split(client.io);
    let writing = async {
        let head = "PUT /api HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
        to.write_all(head.as_bytes()).await.unwrap();
        // Nobody wants it; read all the same, so that the answer is not lost to a reset.
        to.write_all(&[b'x'; 999_999]).await.unwrap();
    };
    let reading = async {
        let mut answer = String::new();
        from.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let ((), answer) = tokio::join!(writing, reading);
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"));
    assert!(answer.ends_with(&format!("\r\n\r\n{}", "x".repeat(100_000))));
}

/// A connection that is given up takes with it what the client has not read yet.
#[test]
fn an_early_answer_waits_for_a_client_however_slow() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(async {
        let handler = |request: Request, responder: Responder| async move {
            drop(request);
            let head = ok(&[("Content-Length", "2")]);
            say(responder.respond(head), "no").await;
        };
        let mut client = Client::new(controlplane_tokio::Tokio, handler);
        client
            .write("PUT /api HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
            .await;
        assert_eq!(client.answer().await.2, "no");
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!client.serving.is_finished());
        drop(client.io);
        client.serving.await.unwrap();
    });
}

async fn the_body_is_asked_for_when_it_is_wanted<R: Runtime>(runtime: R) {
    let wanted = |mut request: Request, responder: Responder| async move {
        let body = request.body.next().await.unwrap().unwrap();
        assert_eq!(request.body.next().await, None);
        let text = String::from_utf8(body.to_vec()).unwrap();
        say(responder.respond(ok(&[("Content-Length", "2")])), &text).await;
    };
    let mut client = Client::new(runtime.clone(), wanted);
    let head = "PUT /api HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    client.write(head).await;
    assert_eq!(
        client.read_until("\r\n\r\n").await,
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    client.write("ok").await;
    assert_eq!(client.answer().await.2, "ok");

    let unwanted = |_: Request, responder: Responder| async move {
        say(responder.respond(ok(&[("Content-Length", "2")])), "no").await;
    };
    let mut client = Client::new(runtime, unwanted);
    client.write(head).await;
    let (first, _, body) = client.answer().await;
    assert_eq!((&*first, &*body), ("HTTP/1.1 200 OK", "no"));
}

async fn a_reader_that_stops_stops_the_handler<R: Runtime>(runtime: R) {
    const PIECE: usize = 32 << 10;
    /// hyper's buffer, the pipe, and a piece in each hand.
    const AHEAD: usize = 256 << 10;
    let written = Arc::new(AtomicUsize::new(0));
    let counter = written.clone();
    let handler = move |_: Request, responder: Responder| {
        let written = counter.clone();
        async move {
            let mut body = responder.respond(ok(&[]));
            for _ in 0..4096 {
                if body.write(vec![b'x'; PIECE].into()).await.is_err() {
                    return;
                }
                written.fetch_add(PIECE, Ordering::SeqCst);
            }
            body.finish();
        }
    };
    let mut client = Client::new(runtime, handler);
    client.write("GET /api HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.head().await;
    let mut read = 0;
    let mut buffer = vec![0; 1000];
    for _ in 0..1000 {
        client.io.read_exact(&mut buffer).await.unwrap();
        read += buffer.len();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let ahead = written.load(Ordering::SeqCst).saturating_sub(read);
        assert!(ahead <= AHEAD, "{ahead} bytes ahead");
    }
    assert!(written.load(Ordering::SeqCst) >= read - AHEAD);
}
