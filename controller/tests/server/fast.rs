//! The fast mode: a real agent, whose Kubernetes API is the test.

mod ends;

use std::sync::Arc;

use controlplane_driver::{
    Agent, AgentInfo, BoxFuture, ClientIo, Handler, Request, RequestHead, Responder, ResponseHead,
    Roots, TlsOptions, Token, UpgradeRequest, UpgradeResponder,
};
use controlplane_tokio::Tokio;
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use http::StatusCode;
use hyper_util::rt::TokioIo;
use pipeops_controller::Mode;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    socket::{ACCEPT, EXEC, FORWARD, V5, closed, message, socket},
    world::{World, full, status, text, within},
};

const RESULT: &[u8] = b"\x82\x16\x03{\"status\":\"Success\"}\n";

/// What the agent's Kubernetes API is asked.
#[derive(Debug)]
enum Asked {
    Request(Request, Responder),
    Upgrade(UpgradeRequest, UpgradeResponder),
    WebSocket,
}

struct Api(mpsc::UnboundedSender<Asked>);

impl Handler for Api {
    fn handle(&self, request: Request, responder: Responder) -> BoxFuture<'static, ()> {
        let _ = self.0.send(Asked::Request(request, responder));
        Box::pin(std::future::pending())
    }

    fn open(
        &self,
        _: controlplane_driver::WebSocketRequest,
        responder: controlplane_driver::WebSocketResponder,
    ) -> BoxFuture<'static, ()> {
        let _ = self.0.send(Asked::WebSocket);
        responder.fail("not today");
        Box::pin(std::future::ready(()))
    }

    fn upgrade(
        &self,
        request: UpgradeRequest,
        responder: UpgradeResponder,
    ) -> BoxFuture<'static, ()> {
        let _ = self.0.send(Asked::Upgrade(request, responder));
        Box::pin(std::future::pending())
    }
}

struct Fast {
    world: Arc<World>,
    api: mpsc::UnboundedReceiver<Asked>,
    agent: Agent<Tokio>,
}

impl Fast {
    async fn start() -> Self {
        Self::with(Mode::Fast).await
    }

    async fn with(mode: Mode) -> Self {
        let world = Arc::new(World::with(|config| config.mode = mode).await);
        let (sender, api) = mpsc::unbounded_channel();
        let url = format!("https://localhost:{}", world.running.addr().port());
        let token = Token::new(&world.agent).unwrap();
        let info = AgentInfo {
            agent_id: "agent-1".into(),
            ..AgentInfo::default()
        };
        let tls = TlsOptions {
            ca_file: Some(world.made.ca()),
            roots: Roots::Only,
            ..TlsOptions::default()
        };
        let agent = Agent::builder(url, token, info)
            .tls(tls)
            .handler(Api(sender))
            .start()
            .unwrap();
        // Registered at both ends.
        while !world.running.clusters()[0].connected {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.running.clusters()[0].fast, mode == Mode::Fast);
        Self { world, api, agent }
    }

    async fn upgrade(&mut self) -> (RequestHead, UpgradeResponder) {
        match self.api.recv().await.unwrap() {
            Asked::Upgrade(request, responder) => (request.head, responder),
            other => panic!("{other:?}"),
        }
    }

    async fn request(&mut self) -> (Request, Responder) {
        match self.api.recv().await.unwrap() {
            Asked::Request(request, responder) => (request, responder),
            other => panic!("{other:?}"),
        }
    }

    /// A WebSocket that is open: the client's response, and the API's end.
    async fn exec(&mut self) -> (http::Response<hyper::body::Incoming>, ClientIo) {
        let asked = self.world.shaking(self.offer(V5));
        let (_, responder) = self.upgrade().await;
        let api = accept(responder, &websocket(V5)).await;
        (asked.await.unwrap(), api)
    }

    fn offer(&self, protocol: &str) -> http::request::Builder {
        let request = self.world.upgrade(EXEC);
        request.header("sec-websocket-protocol", protocol)
    }

    /// A SPDY connection.
    fn spdy(&self, path: &str) -> JoinHandle<http::Response<hyper::body::Incoming>> {
        let request = self.world.request("POST", path);
        let request = request
            .header("content-length", "0")
            .header("connection", "Upgrade")
            .header("upgrade", "SPDY/3.1")
            .header("x-stream-protocol-version", "v4.channel.k8s.io")
            .header("x-stream-protocol-version", "channel.k8s.io");
        self.world.shaking(request)
    }
}

impl Fast {
    /// An exec whose command has written something.
    async fn exec_that_says_out(&mut self) -> (http::Response<hyper::body::Incoming>, ClientIo) {
        let (response, mut api) = self.exec().await;
        say(&mut api, b"\x82\x04\x01out").await;
        (response, api)
    }
}

fn websocket(protocol: &str) -> Vec<(String, String)> {
    pairs(&[
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", ACCEPT),
        ("Sec-WebSocket-Protocol", protocol),
    ])
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = pairs.iter().map(|(n, v)| ((*n).into(), (*v).into()));
    pairs.collect()
}

async fn accept(responder: UpgradeResponder, headers: &[(String, String)]) -> ClientIo {
    responder.accept(headers.to_vec()).await.unwrap()
}

async fn say(api: &mut ClientIo, data: &[u8]) {
    api.write_all(data).await.unwrap();
    api.flush().await.unwrap();
}

fn values<'a>(head: &'a RequestHead, name: &str) -> Vec<&'a str> {
    let headers = head.headers.iter();
    let named = headers.filter(|(n, _)| n.eq_ignore_ascii_case(name));
    named.map(|(_, value)| &**value).collect()
}

/// Reads what is left of a failure on channel 3, and the close.
async fn told(response: http::Response<hyper::body::Incoming>, cause: &str) {
    let mut client = socket(response).await;
    assert_eq!(message(&mut client).await, Message::binary(&b"\x01out"[..]));
    let Message::Binary(failure) = message(&mut client).await else {
        panic!("no failure")
    };
    assert_eq!(failure[0], 3);
    let failure: Value = serde_json::from_slice(&failure[1..]).unwrap();
    assert_eq!(failure["status"], "Failure");
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains(cause), "{message}");
    let (_, reason) = closed(&mut client).await.unwrap();
    assert!(reason.contains(cause), "{reason}");
}

#[tokio::test]
async fn requests_go_by_http_and_fail_as_in_json_mode() {
    within(async {
        let mut it = Fast::start().await;
        for body in ["", "the body"] {
            let request = it.world.request("POST", "/clusters/demo/api/v1/pods?a=b");
            let request = request.body(full(body)).unwrap();
            let mut client = it.world.client().await;
            let response = tokio::spawn(async move { client.send(request).await });
            let (mut request, responder) = it.request().await;
            assert_eq!(request.head.path, "/api/v1/pods");
            assert_eq!(request.head.query.as_deref(), Some("a=b"));
            let mut all = Vec::new();
            while let Some(piece) = request.body.next().await {
                all.extend_from_slice(&piece.unwrap());
            }
            assert_eq!(all, body.as_bytes());
            let mut answer = responder.respond(ResponseHead {
                status: 201,
                headers: pairs(&[("X-Answer", "yes")]),
            });
            answer.write("made".into()).await.unwrap();
            answer.finish();
            let response = response.await.unwrap();
            assert_eq!(response.status(), StatusCode::CREATED);
            assert_eq!(response.headers()["x-answer"], "yes");
            assert_eq!(text(response).await, "made");
        }
        for (cause, code) in [("connection refused", 502), ("it timed out", 504)] {
            let asked = it.world.asking("GET", "/clusters/demo/api/v1/pods");
            it.request().await.1.fail(cause);
            let response = asked.await.unwrap();
            assert_eq!(response.status().as_u16(), code);
            assert!(text(response).await.contains(cause));
        }
    })
    .await;
}

#[tokio::test]
async fn a_handshake_is_between_the_client_and_the_api() {
    within(async {
        let mut it = Fast::start().await;
        let offer =
            "base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel.k8s.io,v4.channel.k8s.io";
        let asked = it.world.shaking(it.offer(offer));
        let (head, responder) = it.upgrade().await;
        for (name, value) in [
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
            (
                "sec-websocket-protocol",
                "v5.channel.k8s.io, v4.channel.k8s.io",
            ),
            ("authorization", ""),
        ] {
            let found = values(&head, name);
            let expected: &[&str] = if value.is_empty() { &[] } else { &[value] };
            assert_eq!(found, expected, "{name}");
        }
        let mut api = accept(responder, &websocket(V5)).await;
        let response = asked.await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        for (name, value) in websocket(V5) {
            assert_eq!(response.headers()[&*name.to_ascii_lowercase()], *value);
        }
        // Bytes pass as they are, either half ends by itself.
        let upgraded = hyper::upgrade::on(response).await.unwrap();
        let mut client = TokioIo::new(upgraded);
        client.write_all(b"not even a frame").await.unwrap();
        client.shutdown().await.unwrap();
        let mut sent = Vec::new();
        api.read_to_end(&mut sent).await.unwrap();
        assert_eq!(sent, b"not even a frame");
        let said = [&b"\x82\x04\x01out"[..], RESULT, b"\x88\x02\x03\xe8"].concat();
        say(&mut api, &said).await;
        api.close().await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, said);
    })
    .await;
}

#[tokio::test]
async fn a_refusal_comes_back_whole_so_that_kubectl_falls_back() {
    within(async {
        let mut it = Fast::start().await;
        let websocket = it.world.shaking(it.offer(V5));
        let (_, responder) = it.upgrade().await;
        let mut body = responder.refuse(ResponseHead {
            status: 403,
            headers: pairs(&[("Content-Type", "text/plain"), ("X-Why", "so")]),
        });
        body.write("no such right".into()).await.unwrap();
        body.finish();
        let refused = websocket.await.unwrap();
        assert_eq!(refused.status(), 403);
        assert_eq!(refused.headers()["x-why"], "so");
        assert_eq!(text(refused).await, "no such right");
        // An agent's own failure, before there was an answer.
        let websocket = it.world.shaking(it.offer(V5));
        it.upgrade().await.1.fail("connection refused");
        let said = status(websocket.await.unwrap(), 502, "InternalError").await;
        assert!(said.contains("connection refused"), "{said}");
    })
    .await;
}

#[tokio::test]
async fn spdy_passes_and_a_break_is_told_on_the_error_stream() {
    within(async {
        let mut it = Fast::start().await;
        let asked = it.spdy(EXEC);
        let (head, responder) = it.upgrade().await;
        assert_eq!(head.method, "POST");
        let offered = values(&head, "x-stream-protocol-version");
        assert_eq!(offered, ["v4.channel.k8s.io", "channel.k8s.io"]);
        let headers = pairs(&[
            ("Upgrade", "SPDY/3.1"),
            ("Connection", "Upgrade"),
            ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
        ]);
        let mut api = accept(responder, &headers).await;
        let response = asked.await.unwrap();
        assert_eq!(response.headers()["upgrade"], "SPDY/3.1");
        let protocol = &response.headers()["x-stream-protocol-version"];
        assert_eq!(protocol, "v4.channel.k8s.io");
        let mut client = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        let open = b"\x80\x03\0\x01\0\0\0\x0a\0\0\0\x01\0\0\0\0\0\0";
        client.write_all(open).await.unwrap();
        let mut came = [0; 18];
        api.read_exact(&mut came).await.unwrap();
        assert_eq!(&came, open);
        it.world.running.drop_agent_connections();
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert_eq!(said[..5], [0, 0, 0, 1, 1], "data and the end of stream 1");
        let words = String::from_utf8_lossy(&said);
        assert!(words.contains("\"status\":\"Failure\""), "{words}");
        assert!(words.contains("agent was lost"), "{words}");
    })
    .await;
}

#[tokio::test]
async fn in_json_mode_all_is_as_it_was() {
    within(async {
        let mut it = Fast::with(Mode::Json).await;
        let asked = it.world.shaking(it.offer(V5));
        let api = it.api.recv().await.unwrap();
        assert!(matches!(api, Asked::WebSocket), "{api:?}");
        status(asked.await.unwrap(), 502, "InternalError").await;
        let asked = it.spdy(FORWARD);
        let (_, responder) = it.request().await;
        let mut body = responder.respond(ResponseHead {
            status: 400,
            headers: Vec::new(),
        });
        let text = r#"{"kind":"Status","message":"Upgrade request required"}"#;
        body.write(text.into()).await.unwrap();
        body.finish();
        status(asked.await.unwrap(), 501, "NotImplemented").await;
    })
    .await;
}

#[tokio::test]
async fn a_request_to_switch_with_a_body_is_refused() {
    within(async {
        let it = Fast::start().await;
        let request = it.world.request("POST", FORWARD);
        let request = request
            .header("connection", "Upgrade")
            .header("upgrade", "SPDY/3.1");
        let request = request.body(full("body")).unwrap();
        let response = it.world.client().await.send(request).await;
        status(response, 400, "BadRequest").await;
    })
    .await;
}
