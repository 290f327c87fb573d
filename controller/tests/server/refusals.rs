//! Who may ask what, and what the others are told.

use std::sync::Arc;

use serde_json::json;

use crate::world::{World, empty, full, piece, status, text, within};

const PODS: &str = "/clusters/demo/api/v1/pods";

#[tokio::test]
async fn wrong_tokens_and_unknown_clusters_are_told_apart_from_nothing() {
    within(async {
        let world = World::start().await;
        world.credentials.add_agent("other", None).unwrap();
        let jane = world.add_user(&["demo"], None);
        let ask = async |token: &str, path: &str| {
            let mut request = world.request("GET", path).body(empty()).unwrap();
            let headers = request.headers_mut();
            headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
            world.client().await.send(request).await
        };
        let message = status(ask("cpu_wrong", PODS).await, 401, "Unauthorized").await;
        assert!(
            message.contains("not known to this controller"),
            "{message}"
        );
        let message = status(ask(&world.agent, PODS).await, 401, "Unauthorized").await;
        assert!(message.contains("the token of an agent"), "{message}");
        let mut request = world.request("GET", PODS).body(empty()).unwrap();
        request.headers_mut().remove("authorization");
        let response = world.client().await.send(request).await;
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let message = status(response, 401, "Unauthorized").await;
        assert!(message.starts_with("no bearer token"), "{message}");

        // Whether a cluster exists is told to nobody who may not reach it.
        let forbidden = status(ask(&jane, "/clusters/other/api").await, 404, "NotFound").await;
        let unknown = status(ask(&jane, "/clusters/nowhere/api").await, 404, "NotFound").await;
        assert_eq!(forbidden.replace("other", "nowhere"), unknown);
        let away = ask(&jane, PODS).await;
        status(away, 503, "ServiceUnavailable").await;
        for path in ["/", "/metrics", "/clusters", "/clusters/"] {
            status(ask(&jane, path).await, 404, "NotFound").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_revoked_user_is_out_at_once() {
    within(async {
        let world = World::start().await;
        let id = world.credentials.load().unwrap().users[0].id.clone();
        status(world.ask("GET", PODS).await, 503, "ServiceUnavailable").await;
        world.credentials.revoke(&id).unwrap();
        status(world.ask("GET", PODS).await, 401, "Unauthorized").await;
    })
    .await;
}

#[tokio::test]
async fn what_the_kubernetes_api_has_not_is_refused_here() {
    within(async {
        let world = World::start().await;
        let _agent = world.agent().await;
        for path in [
            "/clusters/demo",
            "/clusters/demo/",
            "/clusters/demo/metrics",
            "/clusters/demo/api/../metrics",
            "/clusters/demo/api/%2e%2e/metrics",
            "/clusters/demo//api",
            "/clusters/demo/apifoo",
        ] {
            let message = status(world.ask("GET", path).await, 403, "Forbidden").await;
            assert!(
                message.starts_with("this path is not relayed"),
                "{path}: {message}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_becomes_the_service_account_by_accident() {
    within(async {
        let world = World::start().await;
        let jane = world.add_user(&["demo"], Some(("jane", &["dev", "ops"])));
        let request = || {
            let mut request = world
                .request("GET", PODS)
                .header("impersonate-user", "root")
                .header("x-remote-user", "root")
                .header("cookie", "a=b")
                .body(empty())
                .unwrap();
            let token = format!("Bearer {jane}").parse().unwrap();
            request.headers_mut().insert("authorization", token);
            request
        };
        for policy in ["service-account", "caller", "unheard-of"] {
            let _agent = world.agent_with(policy).await;
            let response = world.client().await.send(request()).await;
            let message = status(response, 403, "Forbidden").await;
            assert!(message.contains("impersonates nobody"), "{message}");
            world.running.drop_agent_connections();
        }
        let mut agent = world.agent_with("impersonate").await;
        let mut client = world.client().await;
        let (response, ()) = tokio::join!(client.send(request()), async {
            let (id, relayed) = agent.request().await;
            let expected = json!({
                "Impersonate-User": ["jane"], "Impersonate-Group": ["dev", "ops"],
            });
            assert_eq!(relayed["headers"], expected);
            agent.head(&id, 200, json!({})).await;
            agent.end(&id).await;
        });
        assert_eq!(text(response).await, "");
    })
    .await;
}

#[tokio::test]
async fn a_refused_upload_is_read_so_that_the_answer_arrives() {
    within(async {
        let world = World::start().await;
        let body = full(vec![b'x'; 200 << 10]);
        let request = world
            .request("POST", "/clusters/nowhere/api")
            .body(body)
            .unwrap();
        let mut client = world.client().await;
        status(client.send(request).await, 404, "NotFound").await;
        // The connection is still good.
        let again = world.request("GET", "/healthz").body(empty()).unwrap();
        assert_eq!(text(client.send(again).await).await, "ok");
    })
    .await;
}

#[tokio::test]
async fn a_revoked_user_loses_what_is_still_open() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let asked = world.asking("GET", PODS);
        let (id, _) = agent.request().await;
        agent.head(&id, 200, json!({})).await;
        agent.chunk(&id, b"before").await;
        let mut response = asked.await.unwrap();
        assert_eq!(piece(&mut response).await.unwrap().unwrap(), "before");
        // Another user is none of this one's business.
        world.add_user(&["demo"], None);
        status(
            world.ask("GET", "/clusters/nowhere/api").await,
            404,
            "NotFound",
        )
        .await;
        agent.chunk(&id, b"still").await;
        assert_eq!(piece(&mut response).await.unwrap().unwrap(), "still");

        let user = world.credentials.load().unwrap().users[0].id.clone();
        world.credentials.revoke(&user).unwrap();
        status(world.ask("GET", PODS).await, 401, "Unauthorized").await;
        agent.chunk(&id, b"after").await;
        assert!(piece(&mut response).await.unwrap().is_err());
        assert_eq!(
            agent.expect("proxy_cancel").await["request_id"],
            id.as_str()
        );
    })
    .await;
}

#[tokio::test]
async fn kubectls_discovery_is_told_by_a_warning() {
    within(async {
        let world = World::start().await;
        let response = world.ask("GET", "/clusters/demo/api").await;
        let warning = r#"299 - "the agent of cluster \"demo\" is not connected""#;
        assert_eq!(response.headers()["warning"], warning);
        let response = world.ask("GET", PODS).await;
        assert!(!response.headers().contains_key("warning"));
    })
    .await;
}
