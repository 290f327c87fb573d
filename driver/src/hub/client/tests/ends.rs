//! How a request ends otherwise than by a complete answer.

use super::*;

/// Answers one request with this text, and then does what `then` says.
fn saying<F: Future<Output = ()> + Send + 'static>(
    text: &'static str,
    then: impl Fn(ByteStream) -> F + Send + Sync + 'static,
) -> World {
    let then = Arc::new(then);
    World::new(move |mut stream| {
        let then = then.clone();
        async move {
            read_head(&mut stream).await.unwrap();
            say(&mut stream, text).await;
            then(stream).await;
        }
    })
}

async fn ends(mut stream: ByteStream) {
    stream.close().await.unwrap();
    // Until the client has seen it.
    let _ = stream.read(&mut [0]).await;
}

async fn resets(stream: ByteStream) {
    drop(stream);
}

#[tokio::test]
async fn an_agents_failure_comes_as_in_json_mode() {
    let world = saying(
        "HTTP/1.1 502 Bad Gateway\r\ncontrolplane-failure: connection refused\r\n\
         content-length: 4\r\n\r\ntext",
        resets,
    );
    let failure = world.get().await.unwrap_err();
    assert_eq!(failure, Failure::Agent("connection refused".into()));
    // Only so: the API's own 502 has no such header, and other answers are answers.
    for status in [
        "502 Bad Gateway\r\nx: y",
        "503 No\r\ncontrolplane-failure: x",
    ] {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok");
        let world = saying(answer.leak(), ends);
        assert_eq!(world.get().await.unwrap().1, b"ok", "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_none() {
    for head in ["content-length: 9", "transfer-encoding: chunked"] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n2\r\nab\r\n");
        let answer: &str = answer.leak();
        let broken = saying(answer, ends).get().await.unwrap_err();
        let text = "the cluster's agent broke off the answer";
        assert_eq!(broken, Failure::Agent(text.into()), "{head}");
        let reset = saying(answer, resets).get().await.unwrap_err();
        assert_eq!(reset, Failure::Reset, "{head}");
    }
    let broken = saying("HTTP/1.1 200", ends).get().await.unwrap_err();
    assert!(matches!(broken, Failure::Agent(_)), "{broken}");
    let reset = saying("", resets).get().await.unwrap_err();
    assert_eq!(reset, Failure::Reset);
    let garbage = saying("garbage\r\n\r\n", ends).get().await.unwrap_err();
    assert_eq!(
        garbage,
        Failure::Fault(controlplane_core::PeerFault::Malformed)
    );
}

#[tokio::test]
async fn an_answer_that_switches_protocols_unasked_is_none() {
    let world = saying(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        ends,
    );
    let failure = world.get().await.unwrap_err();
    assert!(matches!(failure, Failure::Fault(_)), "{failure}");
}

/// A server that tells how its stream ended, after it has said that.
fn watched(text: &'static str) -> (World, futures_channel::mpsc::UnboundedReceiver<Ended>) {
    let (tell, told) = futures_channel::mpsc::unbounded();
    let world = World::new(move |mut stream| {
        let tell = tell.clone();
        async move {
            read_head(&mut stream).await.unwrap();
            tell.unbounded_send(Ended::NotYet).unwrap();
            say(&mut stream, text).await;
            let mut rest = Vec::new();
            let ended = match stream.read_to_end(&mut rest).await {
                Ok(_) => Ended::Cleanly,
                Err(_) => Ended::Reset,
            };
            tell.unbounded_send(ended).unwrap();
        }
    });
    (world, told)
}

#[derive(Debug, Eq, PartialEq)]
enum Ended {
    Cleanly,
    NotYet,
    Reset,
}

#[tokio::test]
async fn a_dropped_answer_resets_the_stream_at_once() {
    // Before the head, and in the middle of the body.
    let (world, mut told) = watched("");
    let (_body, answer) = world.ask(head("GET", &[]), false).await;
    assert_eq!(told.next().await, Some(Ended::NotYet));
    drop(answer);
    assert_eq!(told.next().await, Some(Ended::Reset));
    let (world, mut told) = watched("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    let (_body, mut answer) = world.ask(head("GET", &[]), false).await;
    answer.head().await.unwrap();
    assert_eq!(told.next().await, Some(Ended::NotYet));
    drop(answer);
    assert_eq!(told.next().await, Some(Ended::Reset));
    assert_eq!(world.client.pool.len(), 0);
}

#[tokio::test]
async fn a_dropped_body_cancels_the_request() {
    let (world, mut told) = watched("");
    let (mut body, mut answer) = world.ask(head("POST", &[]), true).await;
    body.write("half".into()).await.unwrap();
    assert_eq!(told.next().await, Some(Ended::NotYet));
    drop(body);
    assert_eq!(answer.head().await.unwrap_err(), Failure::Cancelled);
    assert_eq!(told.next().await, Some(Ended::Reset));
}

#[tokio::test]
async fn nobody_wants_the_rest_of_a_request_that_was_answered() {
    let (world, mut told) = watched("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    let (mut body, mut answer) = world.ask(head("POST", &[]), true).await;
    body.write("some".into()).await.unwrap();
    assert_eq!(answer.head().await.unwrap().status, 403);
    assert_eq!(rest(&mut answer).await.unwrap(), b"no");
    while body.write("more".into()).await.is_ok() {}
    assert_eq!(told.next().await, Some(Ended::NotYet));
    assert_eq!(told.next().await, Some(Ended::Reset));
    assert_eq!(world.client.pool.len(), 0);
}

/// Says an answer while the request is under way, and ends its half; then it reads, or resets.
fn early(then_reads: bool) -> World {
    World::new(move |mut stream| async move {
        read_head(&mut stream).await.unwrap();
        let answer = "HTTP/1.1 413 No\r\ntransfer-encoding: chunked\r\n\r\n3\r\nbig\r\n0\r\n\r\n";
        say(&mut stream, answer).await;
        stream.close().await.unwrap();
        let mut rest = [0; 1000];
        while then_reads && matches!(stream.read(&mut rest).await, Ok(1..)) {}
    })
}

#[tokio::test]
async fn an_early_answer_outlives_its_upload() {
    for then_reads in [true, false] {
        let world = early(then_reads);
        let (mut body, mut answer) = world.ask(head("POST", &[]), true).await;
        // Nobody wants it, and its sender is told, although nobody reads the answer.
        while body.write("more".into()).await.is_ok() {}
        drop(body);
        assert_eq!(answer.head().await.unwrap().status, 413);
        assert_eq!(rest(&mut answer).await.unwrap(), b"big");
        // Nor is the connection kept.
        world.get().await.unwrap();
        assert_eq!(world.dials(), 2);
    }
}

#[tokio::test]
async fn an_upload_dropped_before_there_is_an_answer_cancels_the_request() {
    let world = World::new(async |mut stream| {
        let mut rest = [0; 1000];
        while matches!(stream.read(&mut rest).await, Ok(1..)) {}
    });
    let (mut body, mut answer) = world.ask(head("POST", &[]), true).await;
    body.write("half".into()).await.unwrap();
    drop(body);
    assert_eq!(answer.head().await, Err(Failure::Cancelled));
}

#[tokio::test]
async fn why_an_answer_broke_off_comes_in_its_trailer() {
    for (length, sent) in [
        ("", "2\r\nab\r\n"),
        ("controlplane-length: 9\r\n", "2\r\nab\r\n"),
        ("", ""),
    ] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{length}\r\n{sent}0\r\n\
             controlplane-failure: the cable is cut\r\nx-sum: 7\r\n\r\n"
        );
        let world = saying(answer.leak(), ends);
        let (_body, mut answer) = world.ask(head("GET", &[]), false).await;
        answer.head().await.unwrap();
        let failure = Failure::Agent("the cable is cut".into());
        assert_eq!(rest(&mut answer).await, Err(failure));
        assert_eq!(answer.next().await, None);
    }
}

#[tokio::test]
async fn the_length_of_a_chunked_answer_is_given_back_and_held() {
    let malformed = Err(Failure::Fault(controlplane_core::PeerFault::Malformed));
    for (length, whole) in [("3", true), ("2", false), ("4", false), ("x", false)] {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nControlplane-Length: {length}\r\n\r\n\
             3\r\nabc\r\n0\r\n\r\n"
        );
        let world = saying(answer.leak(), ends);
        let got = world.get().await;
        if !whole {
            assert_eq!(got, malformed, "{length}");
            continue;
        }
        let (head, body) = got.unwrap();
        assert_eq!(head.headers, [("Content-Length".into(), "3".into())]);
        assert_eq!(body, b"abc");
    }
}
