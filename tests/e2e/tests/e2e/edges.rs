//! Where ends meet badly: answers before their request is whole, handlers that panic or look away,
//! peers that never stop, and limits that must not cut what they are not meant for.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use controlplane_driver::{
    Failure, Hub, Kubernetes, KubernetesConfig, Request, RequestHead, Responder, ResponseHead,
    Runtime, UpstreamLimits,
};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::{
    bench::{agent_at, controller, head, ok, on_both, pair, pair_in, rest},
    upstream::{Api, agent_said, get, text_of, tunnel},
};

on_both! {
    an_early_answer_outlives_an_uploader_that_lets_go
    p060_the_api_can_refuse_a_body_that_has_not_come_yet
    a_handler_that_panics_before_its_future_costs_its_own_request
    a_handler_may_look_away_from_the_body_and_still_answer
    p177_a_peer_that_never_stops_sending_cannot_hold_up_a_shutdown
    p187_a_log_that_is_silent_from_the_start_is_not_cut
    p204_the_limit_for_the_head_holds_whatever_the_one_for_writes
    p207_a_body_of_another_length_than_declared_fails
    a_read_that_met_a_closing_connection_is_asked_again
    an_endless_limit_is_none
}

/// Answers at once, and never looks at the body.
async fn early(request: Request, responder: Responder) {
    let mut body = responder.respond(ResponseHead {
        status: 413,
        headers: Vec::new(),
    });
    for _ in 0..3 {
        if body.write(vec![b'x'; 30_000].into()).await.is_err() {
            return;
        }
    }
    body.finish();
    drop(request);
}

async fn an_early_answer_outlives_an_uploader_that_lets_go<R: Runtime>(runtime: R) {
    for fast in [true, false] {
        let (hub, _agent) = pair_in(fast, runtime.clone(), early).await;
        let (mut body, mut answer) = hub.request(head("/api/v1/x"), true).await.unwrap();
        while body.write("more".into()).await.is_ok() {}
        drop(body);
        assert_eq!(answer.head().await.unwrap().status, 413);
        assert_eq!(rest(&mut answer).await.map(|body| body.len()), Ok(90_000));
    }
}

async fn p060_the_api_can_refuse_a_body_that_has_not_come_yet<R: Runtime>(runtime: R) {
    const REFUSED: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    let (body, mut answer) = hub.request(head("/api/v1/x"), true).await.unwrap();
    let mut connection = api.accept().await;
    assert!(connection.head().await.starts_with("POST /api/v1/x "));
    connection.write(REFUSED).await;
    assert_eq!(answer.head().await.unwrap().status, 403);
    assert_eq!(rest(&mut answer).await.unwrap(), b"no");
    drop(body);
}

/// An upload that waits for room is told when the answer is complete, although nobody reads it.
#[test]
fn a_blocked_upload_learns_of_an_early_answer() {
    crate::bench::block_on(async {
        let (hub, address) = controller().await;
        let tcp = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}/");
        let (mut agent, _) = tokio_tungstenite::client_async(url, tcp).await.unwrap();
        let features = json!({"supports_streaming": true, "supports_response_streaming": true});
        let register = json!({"type": "register", "request_id": "r", "payload": {"agent_id": "a", "features": features}});
        agent
            .send(Message::text(register.to_string()))
            .await
            .unwrap();
        hub.wait_joined().await.unwrap();
        let (mut body, mut answer) = hub.request(head("/api/v1/x"), true).await.unwrap();
        let id = loop {
            let Message::Text(text) = agent.next().await.unwrap().unwrap() else {
                continue;
            };
            let message: serde_json::Value = serde_json::from_str(&text).unwrap();
            if message["type"] == "proxy_request" {
                break message["request_id"].clone();
            }
        };
        let upload =
            tokio::spawn(async move { while body.write(vec![0; 30_000].into()).await.is_ok() {} });
        for (kind, payload) in [
            (
                "proxy_response_header",
                json!({"status": 413, "headers": {}}),
            ),
            ("proxy_response_chunk", json!({"data": "YmlnYmln"})),
            ("proxy_response_end", json!({})),
        ] {
            let message = json!({"type": kind, "request_id": id, "payload": payload});
            agent
                .send(Message::text(message.to_string()))
                .await
                .unwrap();
        }
        upload.await.unwrap();
        assert_eq!(answer.head().await.unwrap().status, 413);
        assert_eq!(rest(&mut answer).await.unwrap(), b"bigbig");
    });
}

async fn a_handler_that_panics_before_its_future_costs_its_own_request<R: Runtime>(runtime: R) {
    let handler = |request: Request, responder: Responder| {
        assert!(request.head.path != "/api/bad", "unlucky");
        async move { responder.respond(ok()).finish() }
    };
    let (hub, _agent) = pair(runtime, handler).await;
    let (_, mut answer) = hub.request(head("/api/bad"), false).await.unwrap();
    assert!(matches!(answer.head().await, Err(Failure::Agent(_))));
    let (_, mut answer) = hub.request(head("/api/good"), false).await.unwrap();
    assert_eq!(answer.head().await.unwrap().status, 200);
}

async fn a_handler_may_look_away_from_the_body_and_still_answer<R: Runtime>(runtime: R) {
    let (go, gone) = tokio::sync::watch::channel(false);
    let handler = move |request: Request, responder: Responder| {
        let mut gone = gone.clone();
        async move {
            drop(request.body);
            let body = responder.respond(ok());
            let _ = gone.wait_for(|gone| *gone).await;
            body.finish();
        }
    };
    for fast in [true, false] {
        let (hub, _agent) = pair_in(fast, runtime.clone(), handler.clone()).await;
        go.send_replace(false);
        let (mut body, mut answer) = hub.request(head("/api/v1/x"), true).await.unwrap();
        answer.head().await.unwrap();
        // More than the agent would hold for a handler that might still read it.
        for _ in 0..80 {
            body.write(vec![0; 100_000].into()).await.unwrap();
        }
        body.finish();
        go.send_replace(true);
        assert_eq!(rest(&mut answer).await, Ok(Vec::new()));
    }
}

async fn p177_a_peer_that_never_stops_sending_cannot_hold_up_a_shutdown<R: Runtime>(runtime: R) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = agent_at(runtime, listener.local_addr().unwrap(), early);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let (begun, flooding) = tokio::sync::oneshot::channel();
    let flood = std::thread::spawn(move || {
        let (tcp, _) = listener.accept().unwrap();
        let mut socket = tungstenite::accept(tcp).unwrap();
        socket.read().unwrap();
        let frames = [0x81, 0x02, b'{', b'}'].repeat(20_000);
        begun.send(()).unwrap();
        while !stopped.load(Ordering::Relaxed) {
            if socket.get_mut().write_all(&frames).is_err() {
                return;
            }
        }
    });
    flooding.await.unwrap();
    agent.shutdown(Duration::ZERO).await;
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
}

/// Limits that a test can wait for.
fn short(config: KubernetesConfig) -> KubernetesConfig {
    let short = Duration::from_millis(50);
    let limits = UpstreamLimits {
        head: short,
        write: short,
        ..UpstreamLimits::default()
    };
    KubernetesConfig { limits, ..config }
}

async fn p187_a_log_that_is_silent_from_the_start_is_not_cut<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, short(api.config())).await;
    let mut log = get("/api/v1/namespaces/a/pods/b/log");
    log.query = Some("follow=true".into());
    let (_, mut following) = hub.request(log, false).await.unwrap();
    let mut silent = api.accept().await;
    silent.head().await;
    // That this one is given up shows that the limit has passed for the other, too.
    let text = agent_said(text_of(&hub, get("/api")).await.unwrap_err());
    assert!(text.contains("timeout"), "{text}");
    silent
        .write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nline")
        .await;
    assert_eq!(following.head().await.unwrap().status, 200);
    assert_eq!(rest(&mut following).await.unwrap(), b"line");
}

async fn p204_the_limit_for_the_head_holds_whatever_the_one_for_writes<R: Runtime>(runtime: R) {
    let api = Api::new().await;
    let mut config = short(api.config());
    config.limits.write = Duration::MAX;
    let (hub, _agent) = tunnel(runtime, config).await;
    let text = agent_said(text_of(&hub, get("/api")).await.unwrap_err());
    assert!(text.contains("timeout"), "{text}");
}

async fn p207_a_body_of_another_length_than_declared_fails<R: Runtime>(runtime: R) {
    let api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    for (sent, problem) in [
        ("hello world", "longer"),
        ("hi", "shorter"),
        ("", "shorter"),
    ] {
        let mut asked = head("/api/v1/x");
        asked.headers.push(("content-length".into(), "5".into()));
        let (mut body, mut answer) = hub.request(asked, true).await.unwrap();
        if !sent.is_empty() {
            body.write(sent.into()).await.unwrap();
        }
        body.finish();
        let text = agent_said(answer.head().await.unwrap_err());
        let expected = format!("the request's body is {problem} than its Content-Length");
        assert!(text.contains(&expected), "{text}");
    }
}

async fn a_read_that_met_a_closing_connection_is_asked_again<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    // A connection is kept as soon as its answer was read, and a moment later it may be used: a
    // request that comes too soon goes on a new one, and says nothing.
    while !meets_a_close(&hub, &mut api, get("/api"), true).await {}
    while !meets_a_close(&hub, &mut api, head("/api"), false).await {}
}

/// Whether the request went on a connection that was kept, where it met a close, to be asked again
/// where it may be.
async fn meets_a_close(hub: &Hub, api: &mut Api, asked: RequestHead, repeated: bool) -> bool {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const LAST: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let first = async {
        let mut kept = api.accept().await;
        kept.head().await;
        kept.write(OK).await;
        kept
    };
    let (mut kept, text) = tokio::join!(first, text_of(hub, get("/api")));
    assert_eq!(text.unwrap(), "ok");
    let closing = async {
        let other = tokio::select! {
            _ = kept.head() => None,
            other = api.accept() => Some(other),
        };
        // It took the request, and closes without a word.
        drop(kept);
        let met = other.is_none();
        if repeated || !met {
            let mut again = match other {
                Some(other) => other,
                None => api.accept().await,
            };
            again.head().await;
            again.write(LAST).await;
        }
        met
    };
    let (met, text) = tokio::join!(closing, text_of(hub, asked));
    assert_eq!(text.is_ok(), repeated || !met, "{text:?}");
    met
}

async fn an_endless_limit_is_none<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let limits = UpstreamLimits {
        connections: 1,
        connect: Duration::MAX,
        head: Duration::MAX,
        write: Duration::MAX,
        idle: Duration::MAX,
        ping: Duration::MAX,
        silence: Duration::MAX,
        stall: Duration::MAX,
        message: usize::MAX,
    };
    let config = KubernetesConfig {
        limits,
        ..api.config()
    };
    assert!(Kubernetes::new(runtime.clone(), config.clone()).is_ok());
    let (hub, _agent) = tunnel(runtime, config).await;
    let served = async {
        let mut connection = api.accept().await;
        connection.head().await;
        connection
            .write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
        connection
    };
    let (_connection, text) = tokio::join!(served, text_of(&hub, get("/api")));
    assert_eq!(text.unwrap(), "ok");
}
