//! What passes of a request and of its answer, and at which pace.

use http::header;
use http_body_util::StreamBody;
use hyper::body::Frame;

use super::*;

type Frames = Vec<Result<Frame<Bytes>, std::io::Error>>;

fn frames(frames: Frames) -> UnsyncBoxBody<Bytes, std::io::Error> {
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

/// Answers with what the request was.
async fn echo(request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    let line = format!("{} {} ", parts.method, parts.uri);
    let mut all = vec![
        Ok(Frame::data(line.into())),
        Ok(Frame::data(body.to_bytes())),
    ];
    all.extend(trailers.map(Frame::trailers).map(Ok));
    let mut response = Response::new(frames(all));
    let headers = response.headers_mut();
    *headers = parts.headers;
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    Ok(response)
}

#[tokio::test]
async fn method_target_headers_bodies_and_trailers_pass() {
    let world = World::serving(echo);
    let headers = [("accept", "a/b"), ("trailer", "x-sum"), ("x-t", "täxt")];
    let (mut body, mut answer) = world.ask(head("POST", &headers), true).await;
    for piece in ["one ", "", "two"] {
        body.write(piece.into()).await.unwrap();
    }
    body.finish_with(vec![
        ("x-sum".into(), "7".into()),
        ("unannounced".into(), "0".into()),
    ]);
    let relayed = answer.head().await.unwrap();
    assert_eq!(relayed.status, 200);
    let has = |name: &str, value: &str| {
        let found = relayed.headers.iter().find(|(n, _)| n == name);
        assert_eq!(found.map(|(_, v)| &**v), Some(value), "{name}");
    };
    has("accept", "a/b");
    has("x-t", "täxt");
    has("host", "kubernetes");
    let hop = |(name, _): &(String, String)| matches!(&**name, "te" | "trailer" | "connection");
    assert!(!relayed.headers.iter().any(hop), "{relayed:?}");
    let all = rest(&mut answer).await.unwrap();
    assert_eq!(all, b"POST /api/v1/pods?watch=true one two");
    assert_eq!(answer.trailers(), [("x-sum".into(), "7".into())]);
}

#[tokio::test]
async fn a_body_passes_whatever_the_method_and_with_its_length() {
    let world = World::serving(echo);
    for (method, headers) in [
        ("GET", &[][..]),
        ("DELETE", &[]),
        ("GET", &[("content-length", "4")]),
        ("PUT", &[("content-length", "4")]),
    ] {
        let (mut body, mut answer) = world.ask(head(method, headers), true).await;
        body.write("body".into()).await.unwrap();
        body.finish();
        answer.head().await.unwrap();
        let all = rest(&mut answer).await.unwrap();
        assert!(all.ends_with(b" body"), "{method}, {headers:?}");
    }
}

#[tokio::test]
async fn a_body_of_another_length_than_declared_is_no_body() {
    let world = World::serving(async |request: Request<Incoming>| {
        // hyper's server sees the break.
        assert!(request.into_body().collect().await.is_err());
        text(200, "never")
    });
    for (piece, cause) in [("123", "shorter"), ("12345", "longer")] {
        let head = head("PUT", &[("content-length", "4")]);
        let (mut body, mut answer) = world.ask(head, true).await;
        body.write(piece.into()).await.unwrap();
        body.finish();
        let failure = answer.head().await.unwrap_err();
        assert!(failure.to_string().contains(cause), "{failure}");
    }
}

#[tokio::test]
async fn a_head_that_hyper_cannot_send_fails_as_the_agent_would_say() {
    let world = World::serving(echo);
    for (bad, said) in [
        (head("GE T", &[]), "invalid method"),
        (head("GET", &[("a b", "")]), "invalid header"),
        (head("GET", &[("a", "\n")]), "invalid header"),
    ] {
        let (_, mut answer) = world.ask(bad, false).await;
        let failure = answer.head().await.unwrap_err();
        assert_eq!(failure, Failure::Agent(said.into()));
    }
    let long = head("GET", &[("a", &"x".repeat(1 << 16))]);
    let refused = world.client.request(None, None, long, false).await;
    assert_eq!(refused.err(), Some(OpenError::HeadTooLong));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_read_holds_the_writer_up() {
    let (go, wait) = futures_channel::oneshot::channel::<()>();
    let wait = Arc::new(Mutex::new(Some(wait)));
    let world = World::serving(move |request: Request<Incoming>| {
        let wait = wait.lock().unwrap().take();
        async move {
            wait.unwrap().await.unwrap();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body.len(), 4 << 20);
            text(200, "")
        }
    });
    let (mut body, mut answer) = world.ask(head("POST", &[]), true).await;
    let written = AtomicUsize::new(0);
    let writing = async {
        let piece = Bytes::from(vec![0; 1 << 16]);
        while written.load(Ordering::Relaxed) < 4 << 20 {
            body.write(piece.clone()).await.unwrap();
            written.fetch_add(piece.len(), Ordering::Relaxed);
        }
        body.finish();
    };
    let mut writing = std::pin::pin!(writing);
    // Everything that can move does before time does.
    let stuck = tokio::time::timeout(Duration::from_millis(1), writing.as_mut()).await;
    assert!(stuck.is_err());
    let taken = written.load(Ordering::Relaxed);
    assert!(taken < 1 << 20, "{taken} bytes were taken");
    go.send(()).unwrap();
    writing.await;
    assert_eq!(answer.head().await.unwrap().status, 200);
}

#[tokio::test]
async fn an_answer_streams_before_the_request_is_complete() {
    let world = World::serving(async |request: Request<Incoming>| {
        // Each piece of the request comes back as it comes.
        Ok(Response::new(
            request
                .into_body()
                .map_err(std::io::Error::other)
                .boxed_unsync(),
        ))
    });
    let (mut body, mut answer) = world.ask(head("POST", &[]), true).await;
    assert_eq!(answer.head().await.unwrap().status, 200);
    for piece in ["a", "b"] {
        body.write(piece.into()).await.unwrap();
        assert_eq!(answer.next().await.unwrap().unwrap(), piece);
    }
    body.finish();
    assert!(answer.next().await.is_none());
}
