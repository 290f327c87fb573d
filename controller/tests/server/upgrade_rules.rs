//! Who may have a WebSocket, and what the others are told.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    socket::{EXEC, FORWARD, closed, socket},
    world::{World, empty, full, status, within},
};

#[tokio::test]
async fn what_is_no_handshake_gets_the_kubernetes_apis_code() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        for (method, name, value, code, reason) in [
            ("GET", "sec-websocket-version", "8", 400, "BadRequest"),
            ("GET", "sec-websocket-key", "", 400, "BadRequest"),
            ("GET", "sec-websocket-key", "c2hvcnQ=", 400, "BadRequest"),
            ("GET", "sec-websocket-protocol", "a b", 400, "BadRequest"),
            ("GET", "sec-websocket-protocol", "\u{e4}", 400, "BadRequest"),
            ("POST", "origin", "x", 405, "MethodNotAllowed"),
        ] {
            let request = world.upgrade(EXEC).method(method).body(empty());
            let mut request = request.unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
            let response = world.client().await.send(request).await;
            if name == "sec-websocket-version" {
                assert_eq!(response.headers()[name], "13");
            }
            status(response, code, reason).await;
        }
        let request = world.upgrade(EXEC).body(full("a body")).unwrap();
        let response = world.client().await.send(request).await;
        status(response, 400, "BadRequest").await;
        agent.settled().await;
    })
    .await;
}

#[tokio::test]
async fn streams_have_the_same_rules_as_requests() {
    within(async {
        let world = Arc::new(World::start().await);
        let jane = world.add_user(&["demo"], Some(("jane", &["dev"])));
        let request = |path: &str, token: &str| {
            let mut request = world.upgrade(path).header("impersonate-user", "root");
            let value = format!("Bearer {token}").parse().unwrap();
            let headers = request.headers_mut().unwrap();
            headers.insert("authorization", value);
            request
        };
        let _agent = world.agent().await;
        for (path, token, code) in [
            (EXEC, "cpu_wrong", 401),
            (EXEC, world.agent.as_str(), 401),
            ("/clusters/nowhere/api/v1/x/exec", &world.user, 404),
            ("/clusters/demo/metrics", &world.user, 403),
            ("/clusters/demo/api/../x", &world.user, 403),
            (EXEC, &jane, 403),
        ] {
            let response = world.shaking(request(path, token)).await.unwrap();
            assert_eq!(response.status().as_u16(), code, "{path}");
        }
        world.running.drop_agent_connections();
        let mut agent = world.agent_with("impersonate").await;
        let asked = world.shaking(request(EXEC, &jane));
        let (id, relayed) = agent.request().await;
        let expected = json!({"Impersonate-User": ["jane"], "Impersonate-Group": ["dev"]});
        assert_eq!(relayed["headers"], expected);
        agent.accept(&id, &[]).await;
        assert_eq!(asked.await.unwrap().status(), 101);
    })
    .await;
}

#[tokio::test]
async fn limits_of_requests_are_those_of_streams() {
    within(async {
        let world = World::with(|config| {
            config.agent_limits.streams = 1;
            config.agent_limits.head = 1 << 12;
        });
        let world = Arc::new(world.await);
        let mut agent = world.agent().await;
        let first = world.shaking(world.upgrade(EXEC));
        let (id, _) = agent.request().await;
        let second = world.shaking(world.upgrade(EXEC)).await.unwrap();
        status(second, 429, "TooManyRequests").await;
        agent.accept(&id, &[]).await;
        let client = socket(first.await.unwrap()).await;
        let second = world.shaking(world.upgrade(EXEC)).await.unwrap();
        status(second, 429, "TooManyRequests").await;
        drop(client);
        agent.close_of(&id).await;
        let long = world.upgrade(EXEC).header("x-long", "x".repeat(1 << 12));
        status(world.shaking(long).await.unwrap(), 431, "").await;
    })
    .await;
}

#[tokio::test]
async fn a_browser_shows_its_token_among_the_subprotocols() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let request = |offers: &[String]| {
            let mut request = world.upgrade(FORWARD);
            request.headers_mut().unwrap().remove("authorization");
            let offers = offers.join(", ");
            world.shaking(request.header("sec-websocket-protocol", offers))
        };
        let hidden = |token: &str| {
            let token = URL_SAFE_NO_PAD.encode(token);
            format!("base64url.bearer.authorization.k8s.io.{token}")
        };
        let right = hidden(&world.user);
        let asked = request(&["a".into(), right.clone(), "b".into()]);
        let (id, relayed) = agent.request().await;
        assert_eq!(relayed["protocol"], "a, b");
        assert_eq!(relayed["headers"], Value::Null);
        agent.accept(&id, &["b"]).await;
        let mut client = socket(asked.await.unwrap()).await;
        agent.closes(&id, Some(1000), "").await;
        assert_eq!(closed(&mut client).await, Some((1000, String::new())));

        for offers in [
            &[hidden("cpu_wrong"), "a".into()][..],
            &[hidden(&world.agent), "a".into()],
            &[right.clone(), right.clone(), "a".into()],
            std::slice::from_ref(&right),
            &["a".into()],
        ] {
            let response = request(offers).await.unwrap();
            let message = status(response, 401, "Unauthorized").await;
            assert!(!message.contains("authorization.k8s.io"), "{message}");
        }
        // Only where there is no other, and only for a WebSocket.
        let mut with_both = world.upgrade(EXEC);
        let wrong = "Bearer cpu_wrong".parse().unwrap();
        let headers = with_both.headers_mut().unwrap();
        headers.insert("authorization", wrong);
        headers.insert(
            "sec-websocket-protocol",
            format!("{right}, a").parse().unwrap(),
        );
        let response = world.shaking(with_both).await.unwrap();
        status(response, 401, "Unauthorized").await;
        let mut plain = world.request("GET", "/clusters/demo/api/v1/pods");
        let headers = plain.headers_mut().unwrap();
        headers.remove("authorization");
        headers.insert("sec-websocket-protocol", right.parse().unwrap());
        let response = world.shaking(plain).await.unwrap();
        status(response, 401, "Unauthorized").await;
    })
    .await;
}
