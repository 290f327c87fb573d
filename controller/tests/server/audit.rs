//! What is logged of a request, and what never is.

use std::{
    io,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer as _, filter::Targets, fmt::MakeWriter, layer::SubscriberExt as _};

use crate::{
    socket::{EXEC, FORWARD, TUNNEL, V5, close, closed, message, passes, socket},
    world::{World, empty, full, piece, pieces, text, within},
};

const PODS: &str = "/clusters/demo/api/v1/pods";

/// Everything that is logged on this thread, one JSON object a line.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let filter = Targets::new()
            .with_default(LevelFilter::DEBUG)
            .with_target("pipeops_", LevelFilter::TRACE)
            .with_target("controlplane_", LevelFilter::TRACE);
        let layer = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(log.clone())
            .with_filter(filter);
        let subscriber = tracing_subscriber::registry().with(layer);
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines of the audit log, once there are `count`.
    async fn audit(&self, count: usize) -> Vec<Value> {
        loop {
            let text = self.text();
            let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
            let lines: Vec<Value> = lines
                .filter(|line: &Value| line["target"] == "audit")
                .collect();
            if lines.len() >= count {
                return lines;
            }
            tokio::task::yield_now().await;
        }
    }
}

impl io::Write for Log {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn ends(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["end"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_request_leaves_one_line_without_its_query() {
    let (log, _guard) = Log::capture();
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let path = format!("{PODS}?token=hidden");
        let request = world.request("PUT", &path).body(full("12345")).unwrap();
        let mut client = world.client().await;
        let asked = tokio::spawn(async move { client.send(request).await });
        let (id, _) = agent.request().await;
        assert_eq!(agent.upload().await, b"12345");
        agent.head(&id, 201, json!({})).await;
        agent.chunk(&id, b"created").await;
        agent.end(&id).await;
        assert_eq!(text(asked.await.unwrap()).await, "created");

        let lines = log.audit(1).await;
        let [line] = &lines[..] else {
            panic!("{lines:?}")
        };
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["user"], "admin");
        assert_eq!(line["cluster"], "demo");
        assert_eq!(line["method"], "PUT");
        assert_eq!(line["path"], "/api/v1/pods");
        assert_eq!(line["status"], 201);
        assert_eq!(line["bytes_in"], 5);
        assert_eq!(line["bytes_out"], 7);
        assert!(line["duration_ms"].is_u64());
        assert_eq!(line["end"], "complete");
        assert!(!log.text().contains("hidden"));
    })
    .await;
}

#[tokio::test]
async fn each_way_to_end_has_its_word() {
    let (log, _guard) = Log::capture();
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;

        let asked = world.asking("GET", PODS);
        let (id, _) = agent.request().await;
        agent.head(&id, 200, json!({"Content-Length": ["2"]})).await;
        agent.chunk(&id, b"ok").await;
        agent.end(&id).await;
        text(asked.await.unwrap()).await;
        log.audit(1).await;

        world.ask("GET", "/clusters/nowhere/api/v1").await;
        log.audit(2).await;

        let asked = world.asking("GET", PODS);
        let (id, _) = agent.request().await;
        agent
            .send("proxy_error", &id, json!({"error": "no\nroute"}))
            .await;
        asked.await.unwrap();
        log.audit(3).await;

        let mut client = world.client().await;
        let request = world.request("GET", PODS).body(empty()).unwrap();
        let asked = tokio::spawn(client.sender.send_request(request));
        agent.request().await;
        client.task.abort();
        asked.await.unwrap().unwrap_err();
        log.audit(4).await;

        let mut client = world.client().await;
        let (sender, body) = pieces();
        let request = world.request("PUT", PODS).body(body).unwrap();
        let asked = tokio::spawn(client.sender.send_request(request));
        agent.request().await;
        sender.send("half".into()).await.unwrap();
        agent.upload().await;
        client.task.abort();
        asked.await.unwrap().unwrap_err();
        log.audit(5).await;

        let asked = world.asking("GET", PODS);
        let (id, _) = agent.request().await;
        agent.head(&id, 200, json!({})).await;
        let mut response = asked.await.unwrap();
        world.running.drop_agent_connections();
        piece(&mut response).await.unwrap().unwrap_err();
        let lines = log.audit(6).await;

        let expected = [
            "complete",
            "refused",
            "failed: no\\nroute",
            "client gone",
            "client gone",
            "agent lost",
        ];
        assert_eq!(ends(&lines), expected);
        let statuses: Vec<u64> = lines
            .iter()
            .map(|l| l["status"].as_u64().unwrap())
            .collect();
        assert_eq!(statuses, [200, 404, 502, 0, 0, 200]);
    })
    .await;
}

#[tokio::test]
async fn a_stream_leaves_one_line_when_it_ends() {
    let (log, _guard) = Log::capture();
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
        passes(&mut client, &mut agent, &id, Message::text("12345")).await;
        passes(&mut client, &mut agent, &id, Message::binary("67")).await;
        agent.says(&id, &Message::text("123")).await;
        message(&mut client).await;
        client.send(close(1000, "bye")).await.unwrap();
        message(&mut client).await;

        let lines = log.audit(1).await;
        let [line] = &lines[..] else {
            panic!("{lines:?}")
        };
        assert_eq!(line["user"], "admin");
        assert_eq!(line["cluster"], "demo");
        assert_eq!(line["method"], "GET");
        assert_eq!(line["path"], "/api/v1/namespaces/n/pods/p/exec");
        assert_eq!(line["status"], 101);
        assert_eq!(line["bytes_in"], 7);
        assert_eq!(line["bytes_out"], 3);
        assert!(line["duration_ms"].is_u64());
        assert_eq!(line["end"], "closed by client: 1000 bye");
        assert!(!log.text().contains("command=sh"));
    })
    .await;
}

#[tokio::test]
async fn each_way_for_a_stream_to_end_has_its_word() {
    let (log, _guard) = Log::capture();
    within(async {
        let world = World::with(|config| config.agent_limits.message = 100);
        let world = Arc::new(world.await);
        let mut agent = world.agent().await;

        let asked = world.shaking(world.upgrade(EXEC));
        let (id, _) = agent.request().await;
        agent.head(&id, 403, json!({})).await;
        agent.end(&id).await;
        text(asked.await.unwrap()).await;
        log.audit(1).await;

        let asked = world.shaking(world.upgrade(EXEC));
        let (id, _) = agent.request().await;
        agent.send("proxy_error", &id, json!({"error": "no"})).await;
        text(asked.await.unwrap()).await;
        log.audit(2).await;

        let mut client = world.client().await;
        let request = world.upgrade(EXEC).body(empty()).unwrap();
        let asked = tokio::spawn(client.sender.send_request(request));
        agent.request().await;
        client.task.abort();
        asked.await.unwrap().unwrap_err();
        agent.expect("proxy_cancel").await;
        log.audit(3).await;

        let (id, mut client) = world.open(&mut agent, FORWARD, TUNNEL).await;
        agent.closes(&id, None, "").await;
        closed(&mut client).await;
        log.audit(4).await;

        let (id, client) = world.open(&mut agent, EXEC, V5).await;
        drop(client);
        agent.close_of(&id).await;
        log.audit(5).await;

        let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
        let payload = json!({"error": "the API\nis gone"});
        agent.send("proxy_error", &id, payload).await;
        message(&mut client).await;
        log.audit(6).await;

        let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
        client.send(Message::binary(vec![0; 101])).await.unwrap();
        agent.close_of(&id).await;
        log.audit(7).await;

        let (_, _client) = world.open(&mut agent, EXEC, V5).await;
        world.running.drop_agent_connections();
        log.audit(8).await;

        let mut agent = world.agent().await;
        let (id, _client) = world.open(&mut agent, EXEC, V5).await;
        let user = world.credentials.load().unwrap().users[0].id.clone();
        world.credentials.revoke(&user).unwrap();
        agent.close_of(&id).await;
        let lines = log.audit(9).await;

        let expected = [
            "complete",
            "failed: no",
            "client gone",
            "closed by cluster: no code",
            "client gone",
            "failed: the API\\nis gone",
            "failed: a message of the client is longer than 100 bytes",
            "agent lost",
            r"failed: the user\'s right to reach the cluster was withdrawn",
        ];
        assert_eq!(ends(&lines), expected);
        let statuses: Vec<u64> = lines
            .iter()
            .map(|line| line["status"].as_u64().unwrap())
            .collect();
        assert_eq!(statuses, [403, 502, 0, 101, 101, 101, 101, 101, 101]);
    })
    .await;
}

#[tokio::test]
async fn no_token_is_ever_logged() {
    let (log, _guard) = Log::capture();
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let asked = world.asking("GET", PODS);
        let (id, _) = agent.request().await;
        agent
            .head(&id, 200, json!({"Set-Cookie": ["s3cret"]}))
            .await;
        agent.end(&id).await;
        text(asked.await.unwrap()).await;
        world.dial("/ws", "cpa_s3cret").await.err().unwrap();
        let hidden = URL_SAFE_NO_PAD.encode(&world.user);
        let offering = |offer: &str| {
            let mut request = world.upgrade(EXEC);
            request.headers_mut().unwrap().remove("authorization");
            let offer = format!("base64url.bearer.authorization.k8s.io.{hidden}{offer}");
            world.shaking(request.header("sec-websocket-protocol", offer))
        };
        for offer in ["", "=, a"] {
            assert_eq!(offering(offer).await.unwrap().status(), 401);
        }
        let asked = offering(", a");
        let (id, _) = agent.request().await;
        agent.accept(&id, &["a"]).await;
        let mut client = socket(asked.await.unwrap()).await;
        passes(&mut client, &mut agent, &id, Message::text("s3cret")).await;
        drop(client);
        log.audit(4).await;
        let text = log.text();
        for secret in [&world.user, &world.agent, &hidden, "s3cret"] {
            assert!(!text.contains(secret), "{secret}");
        }
        assert!(text.contains("agent registered"), "logs were captured");
    })
    .await;
}
