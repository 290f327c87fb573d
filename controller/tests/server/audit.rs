//! What is logged of a request, and what never is.

use std::{
    io,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer as _, filter::Targets, fmt::MakeWriter, layer::SubscriberExt as _};

use crate::world::{World, empty, full, piece, pieces, text, within};

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
        log.audit(1).await;
        let text = log.text();
        for secret in [&world.user, &world.agent, "s3cret"] {
            assert!(!text.contains(secret), "{secret}");
        }
        assert!(text.contains("agent registered"), "logs were captured");
    })
    .await;
}
