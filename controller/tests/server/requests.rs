//! Requests of operators, relayed to an agent that answers by hand.

use std::sync::Arc;

use crate::world::{World, empty, piece, pieces, status, text, within};
use serde_json::json;

const PODS: &str = "/clusters/demo/api/v1/pods";

#[tokio::test]
async fn a_request_passes_byte_for_byte_and_its_answer_as_it_comes() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let path = "/clusters/demo/api/v1/namespaces/a%2Fb/pods/?b=%2f&a&limit=5;";
        let asked = world.asking("GET", path);
        let (id, request) = agent.request().await;
        assert_eq!(request["method"], "GET");
        assert_eq!(request["path"], "/api/v1/namespaces/a%2Fb/pods/");
        assert_eq!(request["query"], "b=%2f&a&limit=5;");
        let headers = request["headers"].as_object();
        let names: Vec<&String> = headers.into_iter().flat_map(|map| map.keys()).collect();
        assert!(names.is_empty(), "{names:?}");

        let headers = json!({"Content-Type": ["text/plain"], "X-Two": ["1", "2"]});
        agent.head(&id, 206, headers).await;
        let mut response = asked.await.unwrap();
        assert_eq!(response.status(), 206);
        assert_eq!(response.headers()["content-type"], "text/plain");
        let two: Vec<_> = response.headers().get_all("x-two").iter().collect();
        assert_eq!(two, ["1", "2"]);
        for line in ["one\n", "two\n"] {
            agent.chunk(&id, line.as_bytes()).await;
            assert_eq!(piece(&mut response).await.unwrap().unwrap(), line);
        }
        agent.end(&id).await;
        assert!(piece(&mut response).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_body_goes_up_as_it_comes_and_the_answer_need_not_wait_for_its_end() {
    within(async {
        let world = World::start().await;
        let mut agent = world.agent().await;
        let (sender, body) = pieces();
        let request = world
            .request("POST", PODS)
            .header("x-a", "b")
            .body(body)
            .unwrap();
        let mut client = world.client().await;
        let asked = tokio::spawn(async move { client.send(request).await });
        let (id, request) = agent.request().await;
        assert_eq!(request["use_streaming"], true);
        assert_eq!(request["headers"]["x-a"], json!(["b"]));
        sender.send("first".into()).await.unwrap();
        assert_eq!(agent.upload().await, b"first");
        agent.head(&id, 200, json!({})).await;
        let mut response = asked.await.unwrap();
        agent.chunk(&id, b"early").await;
        assert_eq!(piece(&mut response).await.unwrap().unwrap(), "early");
        sender.send("second".into()).await.unwrap();
        assert_eq!(agent.upload().await, b"second");
        drop(sender);
        agent.expect("proxy_request_stream_end").await;
        agent.end(&id).await;
        assert!(piece(&mut response).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn every_method_is_relayed_but_those_that_cannot_be() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
            let asked = world.asking(method, PODS);
            let (id, request) = agent.request().await;
            assert_eq!(request["method"], method);
            agent.head(&id, 200, json!({"Content-Length": ["2"]})).await;
            agent.chunk(&id, b"ok").await;
            agent.end(&id).await;
            assert_eq!(text(asked.await.unwrap()).await, "ok", "{method}");
        }
        let response = world.ask("TRACE", PODS).await;
        status(response, 405, "MethodNotAllowed").await;
    })
    .await;
}

#[tokio::test]
async fn answers_without_a_body_end_at_their_head() {
    within(async {
        let world = World::start().await;
        let mut agent = world.agent().await;
        let mut client = world.client().await;
        for (method, code, length) in [
            ("HEAD", 200, Some("1234")),
            ("HEAD", 200, None),
            ("GET", 204, None),
            ("GET", 304, None),
            ("GET", 200, Some("0")),
        ] {
            // All on one connection: none leaves a byte too many or too few.
            let request = world.request(method, PODS).body(empty()).unwrap();
            let asked = client.sender.send_request(request);
            let answer = async {
                let (id, _) = agent.request().await;
                let headers = match length {
                    Some(length) => json!({"Content-Length": [length]}),
                    None => json!({}),
                };
                agent.head(&id, code, headers).await;
                agent.end(&id).await;
            };
            let (response, ()) = tokio::join!(asked, answer);
            let response = response.unwrap();
            assert_eq!(response.status().as_u16(), code);
            let sent = response.headers().get("content-length");
            assert_eq!(sent.map(|v| v.to_str().unwrap()), length, "{method} {code}");
            assert_eq!(text(response).await, "");
        }
    })
    .await;
}

#[tokio::test]
async fn an_agent_lost_in_the_middle_is_no_clean_end() {
    within(async {
        for headers in [json!({}), json!({"Content-Length": ["100"]})] {
            let world = Arc::new(World::start().await);
            let mut agent = world.agent().await;
            let asked = world.asking("GET", PODS);
            let (id, _) = agent.request().await;
            agent.head(&id, 200, headers).await;
            agent.chunk(&id, b"half").await;
            let mut response = asked.await.unwrap();
            assert_eq!(piece(&mut response).await.unwrap().unwrap(), "half");
            drop(agent);
            assert!(piece(&mut response).await.unwrap().is_err());

            let away = world.ask("GET", PODS).await;
            assert_eq!(away.headers()["retry-after"], "1");
            let message = status(away, 503, "ServiceUnavailable").await;
            assert_eq!(message, "the agent of cluster \"demo\" is not connected");
        }
    })
    .await;
}

#[tokio::test]
async fn an_agent_lost_before_its_answer_is_a_bad_gateway() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let asked = world.asking("GET", PODS);
        agent.request().await;
        world.running.drop_agent_connections();
        let message = status(asked.await.unwrap(), 502, "InternalError").await;
        assert_eq!(message, "the connection to the cluster's agent was lost");
    })
    .await;
}

#[tokio::test]
async fn the_agents_reason_reaches_the_client() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        for (text, code, reason) in [
            ("connection refused: 10.0.0.1:443", 502, "InternalError"),
            ("context deadline exceeded", 504, "Timeout"),
        ] {
            let asked = world.asking("GET", PODS);
            let (id, _) = agent.request().await;
            agent.send("proxy_error", &id, json!({"error": text})).await;
            assert_eq!(status(asked.await.unwrap(), code, reason).await, text);
        }
        // For a HEAD there is still time when the end is known.
        let asked = world.asking("HEAD", PODS);
        let (id, _) = agent.request().await;
        agent.head(&id, 200, json!({})).await;
        agent
            .send("proxy_error", &id, json!({"error": "broken"}))
            .await;
        assert_eq!(asked.await.unwrap().status(), 502);
    })
    .await;
}

#[tokio::test]
async fn a_failure_after_the_head_breaks_the_body_off() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        for kind in ["proxy_error", "proxy_response_abort"] {
            let asked = world.asking("GET", PODS);
            let (id, _) = agent.request().await;
            agent.head(&id, 200, json!({})).await;
            let mut response = asked.await.unwrap();
            agent
                .send(kind, &id, json!({"error": "upstream died"}))
                .await;
            assert!(piece(&mut response).await.unwrap().is_err(), "{kind}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_of_another_length_than_declared_is_broken_off() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        for chunks in [&["abc"][..], &["abcde", "f"], &["abcdef"]] {
            let asked = world.asking("GET", PODS);
            let (id, _) = agent.request().await;
            agent.head(&id, 200, json!({"Content-Length": ["5"]})).await;
            for chunk in chunks {
                agent.chunk(&id, chunk.as_bytes()).await;
            }
            agent.end(&id).await;
            let mut response = asked.await.unwrap();
            let mut broken = false;
            while let Some(piece) = piece(&mut response).await {
                broken |= piece.is_err();
                if broken {
                    break;
                }
            }
            assert!(broken, "{chunks:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    within(async {
        let world = World::start().await;
        let mut agent = world.agent().await;
        // Before the answer.
        let mut client = world.client().await;
        let request = world.request("GET", PODS).body(empty()).unwrap();
        let asked = client.sender.send_request(request);
        let (id, ()) = tokio::select! {
            _ = asked => panic!("no answer was given"),
            (id, _) = agent.request() => (id, ()),
        };
        client.task.abort();
        assert_eq!(
            agent.expect("proxy_cancel").await["request_id"],
            id.as_str()
        );

        // In the middle of the answer.
        let mut client = world.client().await;
        let request = world.request("GET", PODS).body(empty()).unwrap();
        let asked = client.sender.send_request(request);
        let (response, id) = tokio::join!(asked, async {
            let (id, _) = agent.request().await;
            agent.head(&id, 200, json!({})).await;
            id
        });
        client.task.abort();
        drop(response);
        assert_eq!(
            agent.expect("proxy_cancel").await["request_id"],
            id.as_str()
        );

        // In the middle of the request's body.
        let mut client = world.client().await;
        let (sender, body) = pieces();
        let request = world.request("PUT", PODS).body(body).unwrap();
        let asked = tokio::spawn(client.sender.send_request(request));
        let (id, _) = agent.request().await;
        sender.send("half".into()).await.unwrap();
        assert_eq!(agent.upload().await, b"half");
        client.task.abort();
        assert_eq!(
            agent.expect("proxy_cancel").await["request_id"],
            id.as_str()
        );
        drop((sender, asked));
    })
    .await;
}

#[tokio::test]
async fn a_cluster_has_its_id_for_a_name_too() {
    within(async {
        let world = World::start().await;
        let mut agent = world.agent().await;
        let path = format!("/clusters/{}/version", world.running.clusters()[0].id);
        let (response, ()) = tokio::join!(world.ask("GET", &path), async {
            let (id, request) = agent.request().await;
            assert_eq!(request["path"], "/version");
            agent.head(&id, 200, json!({})).await;
            agent.end(&id).await;
        });
        assert_eq!(response.status(), 200);
    })
    .await;
}
