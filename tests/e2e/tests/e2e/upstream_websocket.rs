//! The built-in handler's WebSocket streams against a Kubernetes API that is played frame by frame.

mod ends;
mod limits;
mod peer;

use bytes::Bytes;
use controlplane_driver::{
    BoxFuture, Failure, Handler, KubernetesConfig, Limits, Message, Request, Responder, Runtime,
    Token, TokenSource, Upgraded, WebSocketRequest, WebSocketResponder,
};
use tokio::net::TcpListener;

use self::peer::{BINARY, ByHand, PONG, Peer, TEXT, accepted, ask, end, next, open, opened};
use crate::{
    bench::{on_both, pair, pattern, rest},
    upstream::{Api, Connection, agent_said, get, tunnel},
};

on_both! {
    an_upgrade_asks_for_what_the_stream_names_and_passes_the_answer_on
    an_answer_without_a_subprotocol_stays_empty
    messages_pass_verbatim_and_each_as_one_frame
    p154_messages_that_come_early_are_sent_first
    p192_a_refusal_arrives_whole
    an_upgrade_that_is_not_the_answer_fails
    an_api_that_is_down_fails_the_stream
    p170_a_stream_that_is_given_up_leaves_nothing_behind
    streams_need_no_place_among_the_requests
    p161_a_handler_that_ends_without_an_answer_ends_the_stream
}

/// Opens nothing: it ends at once, panics, or knows no streams at all.
struct Idle {
    panics: bool,
}

impl Handler for Idle {
    fn handle(&self, _: Request, responder: Responder) -> BoxFuture<'static, ()> {
        responder.fail("not asked for");
        Box::pin(async {})
    }

    fn open(
        &self,
        request: WebSocketRequest,
        responder: WebSocketResponder,
    ) -> BoxFuture<'static, ()> {
        let panics = self.panics;
        Box::pin(async move {
            let _held = (request, responder);
            assert!(!panics, "on purpose");
        })
    }
}

async fn p161_a_handler_that_ends_without_an_answer_ends_the_stream<R: Runtime>(runtime: R) {
    for panics in [false, true] {
        let (hub, _agent) = pair(runtime.clone(), Idle { panics }).await;
        let refused = ask(&hub, &[]).await.answer().await.unwrap_err();
        let text = "the stream's handler ended without an answer";
        assert_eq!(agent_said(refused), text);
    }
    // One that says nothing of streams refuses them.
    let other = |_: Request, responder: Responder| async { responder.fail("not asked for") };
    let (hub, _agent) = pair(runtime, other).await;
    match ask(&hub, &[]).await.answer().await.unwrap() {
        Upgraded::Refused(head, _) => assert_eq!(head.status, 501),
        other => panic!("{other:?}"),
    }
}

async fn an_upgrade_asks_for_what_the_stream_names_and_passes_the_answer_on<R: Runtime>(
    runtime: R,
) {
    let mut api = Api::new().await;
    let config = KubernetesConfig {
        token: Some(TokenSource::Fixed(Token::new("sa-token").unwrap())),
        ..api.config()
    };
    let (hub, _agent) = tunnel(runtime, config).await;
    let mut head = get("/api/v1/namespaces/a/pods/b/exec");
    head.query = Some("command=sh&command=a+b%2f;&stdin=true".into());
    for (name, value) in [("Kubectl-Command", "kubectl exec"), ("X-Stream", "1")] {
        head.headers.push((name.into(), value.into()));
    }
    let protocols = ["v5.channel.k8s.io", "v4.channel.k8s.io"].map(String::from);
    let upgrade = hub.open_websocket(None, head, protocols.into());
    let upgrade = upgrade.await.unwrap();
    let mut connection = api.accept().await;
    let request = connection.head().await;
    let mut lines: Vec<&str> = request.trim_end().lines().collect();
    assert_eq!(
        lines.remove(0),
        "GET /api/v1/namespaces/a/pods/b/exec?command=sh&command=a+b%2f;&stdin=true HTTP/1.1"
    );
    lines.sort_unstable();
    let host = format!("host: {}", api.config().url.trim_start_matches("http://"));
    let mut expected = vec![
        "authorization: Bearer sa-token",
        "connection: Upgrade",
        &host,
        "kubectl-command: kubectl exec",
        "sec-websocket-protocol: v5.channel.k8s.io, v4.channel.k8s.io",
        "sec-websocket-version: 13",
        "upgrade: websocket",
        "x-stream: 1",
    ];
    let key = lines
        .iter()
        .find(|l| l.starts_with("sec-websocket-key: "))
        .unwrap();
    expected.push(key);
    expected.sort_unstable();
    assert_eq!(lines, expected);

    let more = "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\nX-A: 1\r\n";
    connection.write(&accepted(&request, more)).await;
    let Connection(tcp) = connection;
    let stream = opened(upgrade.answer().await, Peer(tcp));
    assert_eq!(stream.head.status, 101);
    let mut names: Vec<&str> = stream.head.headers.iter().map(|(n, _)| &**n).collect();
    names.sort_unstable();
    let expected = [
        "connection",
        "sec-websocket-accept",
        "sec-websocket-protocol",
        "upgrade",
        "x-a",
    ];
    assert_eq!(names, expected);
}

async fn an_answer_without_a_subprotocol_stays_empty<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    let upgrade = ask(&hub, &[]).await;
    let mut connection = api.accept().await;
    let request = connection.head().await;
    assert!(!request.contains("sec-websocket-protocol"), "{request}");
    let answer = accepted(&request, "Sec-WebSocket-Protocol: \r\n");
    connection.write(&answer).await;
    let Upgraded::Open { head, .. } = upgrade.answer().await.unwrap() else {
        panic!("refused");
    };
    let empty = ("sec-websocket-protocol".to_string(), String::new());
    assert!(head.headers.contains(&empty), "{head:?}");
}

async fn messages_pass_verbatim_and_each_as_one_frame<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    let mut stream = open(&hub, &mut api).await;
    let long = pattern(Limits::agent().message);
    let messages: [(u8, &[u8]); 7] = [
        (BINARY, b""),
        (TEXT, "häh?".as_bytes()),
        (BINARY, &[0xff, 0, 0x80]),
        (TEXT, b""),
        (BINARY, &long),
        (BINARY, &long[..40_000]),
        (BINARY, b"x"),
    ];
    let as_message = |(first, payload): (u8, &[u8])| match first {
        TEXT => Message::Text(Bytes::copy_from_slice(payload)),
        _ => Message::Binary(Bytes::copy_from_slice(payload)),
    };
    for message in messages {
        stream.writer.write(as_message(message)).await.unwrap();
        let (first, payload) = stream.peer.next().await.unwrap();
        assert!((first, &*payload) == message, "{first} {}", payload.len());
    }
    for message in messages {
        stream.peer.send(message.0, message.1).await;
        assert!(next(&mut stream.reader).await == as_message(message));
    }
    // Only what arrives in fragments is joined; a ping is answered and goes no further.
    for (first, payload) in [(0x02, "a"), (0x89, "?"), (0x00, "b"), (0x80, "c")] {
        stream.peer.send(first, payload.as_bytes()).await;
    }
    assert_eq!(
        next(&mut stream.reader).await,
        Message::Binary("abc".into())
    );
    assert_eq!(stream.peer.next().await, Some((PONG, b"?".to_vec())));
}

async fn p154_messages_that_come_early_are_sent_first<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let mut controller = ByHand::new(runtime, &api).await;
    controller.start().await;
    controller.say("first").await;
    controller.say("second").await;
    let mut connection = api.accept().await;
    let request = connection.head().await;
    controller.say("third").await;
    connection.write(&accepted(&request, "")).await;
    let mut peer = Peer(connection.0);
    for expected in ["first", "second", "third"] {
        let frame = peer.next().await;
        assert_eq!(frame, Some((BINARY, expected.as_bytes().to_vec())));
    }
}

async fn p192_a_refusal_arrives_whole<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    let long = "x".repeat(100_000);
    for (status, body) in [(403, "{\"kind\":\"Status\"}"), (404, ""), (400, &long)] {
        let upgrade = ask(&hub, &["v5.channel.k8s.io"]).await;
        let mut connection = api.accept().await;
        connection.head().await;
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} No\r\nAudit-Id: 1\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        connection.write(&answer).await;
        let Upgraded::Refused(head, mut answer) = upgrade.answer().await.unwrap() else {
            panic!("open");
        };
        assert_eq!(head.status, status);
        assert!(head.headers.contains(&("audit-id".into(), "1".into())));
        assert!(rest(&mut answer).await.unwrap() == body.as_bytes());
        // It is of no further use.
        connection.closed().await;
    }
}

async fn an_upgrade_that_is_not_the_answer_fails<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    let upgrade = ask(&hub, &[]).await;
    let mut connection = api.accept().await;
    connection.head().await;
    let other = accepted("sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", "");
    connection.write(&other).await;
    let text = agent_said(upgrade.answer().await.unwrap_err());
    assert!(
        text.contains("its header sec-websocket-accept is wrong"),
        "{text}"
    );
    connection.closed().await;
}

async fn an_api_that_is_down_fails_the_stream<R: Runtime>(runtime: R) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (hub, _agent) = tunnel(runtime, KubernetesConfig::new(format!("http://{address}"))).await;
    let failure = ask(&hub, &[]).await.answer().await.unwrap_err();
    let text = agent_said(failure);
    assert!(
        text.contains(&format!("connecting to {address}: ")),
        "{text}"
    );
}

async fn p170_a_stream_that_is_given_up_leaves_nothing_behind<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    let upgrade = ask(&hub, &[]).await;
    let mut before_head = api.accept().await;
    before_head.head().await;
    drop(upgrade);
    before_head.closed().await;

    let mut stream = open(&hub, &mut api).await;
    drop((stream.reader, stream.writer));
    stream.peer.ended().await;

    // A lost link leaves nothing behind, either.
    let mut stream = open(&hub, &mut api).await;
    hub.disconnect();
    stream.peer.ended().await;
    let (_, _, failure) = end(&mut stream.reader).await;
    assert_eq!(failure, Some(Failure::Disconnected));
}

async fn streams_need_no_place_among_the_requests<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let mut config = api.config();
    config.limits.connections = 1;
    let (hub, _agent) = tunnel(runtime, config).await;
    let head = get("/api");
    let (_, mut answer) = hub.request(head, false).await.unwrap();
    let mut connection = api.accept().await;
    connection.head().await;
    let mut first = open(&hub, &mut api).await;
    let mut second = open(&hub, &mut api).await;
    for stream in [&mut first, &mut second] {
        stream.peer.send(BINARY, b"hello").await;
        assert_eq!(
            next(&mut stream.reader).await,
            Message::Binary("hello".into())
        );
    }
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    connection.write(ok).await;
    answer.head().await.unwrap();
    assert_eq!(rest(&mut answer).await.unwrap(), b"ok");
}
