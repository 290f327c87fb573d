//! Agents connect, register, take over from each other, and are let go.

use crate::world::{World, empty, status, within};
use futures_util::StreamExt as _;
use http::Response;
use serde_json::{Value, json};

const WS: &str = "/api/v1/clusters/agent/ws";

fn message(response: &Response<Option<Vec<u8>>>) -> Value {
    serde_json::from_slice(response.body().as_deref().unwrap()).unwrap()
}

#[tokio::test]
async fn an_agent_registers_as_what_its_credential_says() {
    within(async {
        let world = World::start().await;
        let id = world.running.clusters()[0].id.clone();
        assert!(!world.running.clusters()[0].connected);
        // A second path, and a token in the query, which is ignored.
        for path in [WS, "/ws", "/ws?token=nonsense"] {
            let mut agent = world.dial(path, &world.agent).await.unwrap();
            let registered = agent.register("service-account").await;
            assert_eq!(registered["cluster_id"], id.as_str());
            assert_eq!(registered["name"], "demo");
            assert!(world.running.clusters()[0].connected);
            agent
                .send("heartbeat", "", json!({"agent_id": "agent-1"}))
                .await;
            agent.expect("heartbeat_ack").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_wrong_token_is_told_what_to_do() {
    within(async {
        let world = World::start().await;
        for (token, part) in [
            (
                "cpa_wrong",
                "the agent's token is not known to this controller",
            ),
            (world.user.as_str(), "the token of a user"),
        ] {
            let refused = world.dial(WS, token).await.err().unwrap();
            assert_eq!(refused.status(), 401);
            let status = message(&refused);
            assert_eq!(status["reason"], "Unauthorized");
            let text = status["message"].as_str().unwrap();
            assert!(text.contains(part), "{text}");
        }
        // A token in the query is none.
        let query = format!("{WS}?token={}", world.agent);
        assert_eq!(world.dial(&query, "x").await.err().unwrap().status(), 401);
    })
    .await;
}

#[tokio::test]
async fn what_is_no_websocket_handshake_is_told_so() {
    within(async {
        let world = World::start().await;
        let request = |method: &str| {
            let mut request = world.request(method, WS).body(empty()).unwrap();
            let token = format!("Bearer {}", world.agent).parse().unwrap();
            request.headers_mut().insert("authorization", token);
            request
        };
        let response = world.client().await.send(request("GET")).await;
        assert_eq!(response.headers()["upgrade"], "websocket");
        status(response, 426, "").await;
        let response = world.client().await.send(request("POST")).await;
        assert_eq!(response.headers()["allow"], "GET");
        status(response, 405, "MethodNotAllowed").await;
    })
    .await;
}

#[tokio::test]
async fn a_newer_connection_takes_over_and_the_fourth_in_a_row_is_refused() {
    within(async {
        let world = World::start().await;
        let mut old = world.agent().await;
        for _ in 0..3 {
            let new = world.agent().await;
            let (code, reason) = old.closed().await;
            assert_eq!(code, 4001, "{reason}");
            old = new;
        }
        let refused = world.dial(WS, &world.agent).await.err().unwrap();
        assert_eq!(refused.status(), 409);
        let wait: u64 = refused.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!((1..=300).contains(&wait), "{wait}");
        let status = message(&refused);
        assert_eq!(status["reason"], "Conflict");
        assert!(
            status["message"]
                .as_str()
                .unwrap()
                .contains("a token of its own")
        );
    })
    .await;
}

#[tokio::test]
async fn a_revoked_agent_is_disconnected_and_stays_out() {
    within(async {
        let world = World::start().await;
        let mut agent = world.agent().await;
        let credentials = world.credentials.load().unwrap();
        world.credentials.revoke(&credentials.agents[0].id).unwrap();
        assert_eq!(agent.closed().await.0, 1001);
        assert_eq!(
            world.dial(WS, &world.agent).await.err().unwrap().status(),
            401
        );
        assert!(world.running.clusters().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_renewed_token_keeps_the_cluster_and_ends_the_old_connection() {
    within(async {
        let world = World::start().await;
        let mut old = world.agent().await;
        let id = world.credentials.load().unwrap().agents[0].id.clone();
        let renewed = world.credentials.renew(&id).unwrap();
        let mut agent = world.dial(WS, renewed.token.as_str()).await.unwrap();
        let registered = agent.register("service-account").await;
        assert_eq!(
            registered["cluster_id"].as_str(),
            renewed.cluster_id.as_deref()
        );
        old.closed().await;
        assert_eq!(
            world.dial(WS, &world.agent).await.err().unwrap().status(),
            401
        );
    })
    .await;
}

#[tokio::test]
async fn a_broken_credentials_file_changes_nothing() {
    within(async {
        let world = World::start().await;
        let good = std::fs::read(world.credentials.path()).unwrap();
        std::fs::write(world.credentials.path(), "{ broken").unwrap();
        let mut agent = world.agent().await;
        std::fs::remove_file(world.credentials.path()).unwrap();
        agent
            .send("heartbeat", "", json!({"agent_id": "agent-1"}))
            .await;
        agent.expect("heartbeat_ack").await;
        std::fs::write(world.credentials.path(), good).unwrap();
        assert!(world.running.clusters()[0].connected);
    })
    .await;
}

#[tokio::test]
async fn a_message_above_the_limit_closes_with_1009() {
    within(async {
        let world = World::with(|config| config.agent_limits.frame = 1 << 16).await;
        let mut agent = world.agent().await;
        agent.chunk("unknown", &vec![0; 1 << 16]).await;
        assert_eq!(agent.closed().await.0, 1009);
    })
    .await;
}

#[tokio::test]
async fn dropped_connections_look_like_a_broken_network() {
    within(async {
        let world = World::start().await;
        let mut agent = world.agent().await;
        world.running.drop_agent_connections();
        // No close frame: the bytes just end.
        while let Some(Ok(message)) = agent.socket.next().await {
            assert!(!message.is_close(), "{message:?}");
        }
    })
    .await;
}
