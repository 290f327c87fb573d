//! The whole server over the loopback.

pub(super) mod client;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use self::client::{Client, chunk, collect, full, request};
use super::*;

async fn start() -> StandIn {
    StandIn::start(Options {
        watch_history: 4,
        ..Options::default()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn wants_its_token() {
    let standin = start().await;
    let mut client = Client::new(&standin).await;
    for token in [None, Some("Bearer wrong"), Some("Basic abc")] {
        let mut request = request(&standin, "GET", "/api/v1/pods?limit=1", full(""));
        request.headers_mut().remove(header::AUTHORIZATION);
        if let Some(token) = token {
            request
                .headers_mut()
                .insert(header::AUTHORIZATION, token.parse().unwrap());
        }
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            collect(response).await,
            failure::Failure::unauthorized().to_json()
        );
    }
    assert_eq!(client.get("/version").await.status(), StatusCode::OK);
    let requests = standin.requests();
    assert_eq!(requests.len(), 4);
    assert_eq!(requests[1].path, "/api/v1/pods?limit=1");
    assert_eq!(requests[1].header("authorization"), Some("Bearer wrong"));
    standin.clear_requests();
    assert!(standin.requests().is_empty());
}

#[tokio::test]
async fn answers_errors_as_the_real_one() {
    let standin = start().await;
    let mut client = Client::new(&standin).await;
    let cases = [
        (
            "GET",
            "/api/v1/namespaces/default/pods/nosuch",
            404,
            "NotFound",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/pods/nosuch/log",
            404,
            "NotFound",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/pods/web-0/log?container=x",
            400,
            "BadRequest",
        ),
        (
            "GET",
            "/api/v1/pods?watch=true&resourceVersion=x",
            400,
            "BadRequest",
        ),
        (
            "POST",
            "/api/v1/namespaces/default/pods",
            405,
            "MethodNotAllowed",
        ),
        ("POST", "/api/v1/configmaps", 405, "MethodNotAllowed"),
        ("PUT", "/version", 405, "MethodNotAllowed"),
        (
            "PATCH",
            "/api/v1/namespaces/default/configmaps/a",
            415,
            "UnsupportedMediaType",
        ),
        (
            "DELETE",
            "/api/v1/namespaces/default/configmaps/a",
            404,
            "NotFound",
        ),
    ];
    for (method, path, code, reason) in cases {
        let (status, document) = client.call(method, path, "application/json", b"{}").await;
        assert_eq!(
            (status, &document["code"]),
            (code, &json!(code)),
            "{method} {path}"
        );
        assert_eq!(document["reason"], reason, "{method} {path}");
    }
    let large = vec![b' '; 3 * 1024 * 1024 + 1];
    let path = "/api/v1/namespaces/default/configmaps";
    assert_eq!(
        client
            .call("POST", path, "application/json", &large)
            .await
            .0,
        413
    );
    let mut client = Client::new(&standin).await;
    let response = client.get("/apis/apps/v1").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(collect(response).await, "404 page not found\n");
}

#[tokio::test]
async fn keeps_config_maps() {
    let standin = start().await;
    let mut client = Client::new(&standin).await;
    let all = "/api/v1/namespaces/default/configmaps";
    let one = "/api/v1/namespaces/default/configmaps/a";
    let plain = "application/json";
    let map = |data: Value| json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": data});
    let body = map(json!({"k": "v"})).to_string();
    let dry = format!("{all}?dryRun=All");
    assert_eq!(
        client.call("POST", &dry, plain, body.as_bytes()).await.0,
        201
    );
    let (status, created) = client.call("POST", all, plain, body.as_bytes()).await;
    assert_eq!((status, &created["data"]["k"]), (201, &json!("v")));
    assert_eq!(
        client.call("POST", all, plain, body.as_bytes()).await.1["reason"],
        "AlreadyExists"
    );
    let elsewhere = "/api/v1/namespaces/nosuch/configmaps";
    assert_eq!(
        client
            .call("POST", elsewhere, plain, body.as_bytes())
            .await
            .0,
        404
    );

    let mut changed = created.clone();
    changed["data"]["k"] = json!("w");
    let put = changed.to_string();
    let (status, updated) = client.call("PUT", one, plain, put.as_bytes()).await;
    assert_eq!((status, &updated["data"]["k"]), (200, &json!("w")));
    assert_ne!(
        updated["metadata"]["resourceVersion"],
        created["metadata"]["resourceVersion"]
    );
    let (status, conflict) = client.call("PUT", one, plain, put.as_bytes()).await;
    assert_eq!((status, &conflict["reason"]), (409, &json!("Conflict")));
    // A patch that changes nothing makes no version.
    let merge = "application/merge-patch+json";
    let (_, same) = client
        .call("PATCH", one, merge, br#"{"data":{"k":"w"}}"#)
        .await;
    assert_eq!(same, updated);
    let apply = "application/apply-patch+yaml";
    let path = format!("{one}?fieldManager=ci");
    let (status, applied) = client
        .call(
            "PATCH",
            &path,
            apply,
            map(json!({"n": "1"})).to_string().as_bytes(),
        )
        .await;
    assert_eq!(
        (status, &applied["data"]),
        (200, &json!({"k": "w", "n": "1"}))
    );
    assert_eq!(
        client
            .call("PATCH", &path, apply, b"kind: ConfigMap")
            .await
            .0,
        400
    );

    let wrong = br#"{"preconditions":{"uid":"x"}}"#;
    assert_eq!(client.call("DELETE", one, plain, wrong).await.0, 409);
    assert_eq!(
        client
            .call("DELETE", one, plain, br#"{"dryRun":["All"]}"#)
            .await
            .0,
        200
    );
    let (status, deleted) = client.call("DELETE", one, plain, b"").await;
    assert_eq!((status, &deleted["status"]), (200, &json!("Success")));
    assert_eq!(deleted["details"]["uid"], created["metadata"]["uid"]);
    assert_eq!(client.call("GET", one, plain, b"").await.0, 404);
}

#[tokio::test]
async fn a_namespace_takes_its_objects_with_it() {
    let standin = start().await;
    let mut client = Client::new(&standin).await;
    let plain = "application/json";
    let object = |kind: &str, name: &str| {
        json!({"kind": kind, "apiVersion": "v1", "metadata": {"name": name}}).to_string()
    };
    let space = object("Namespace", "e");
    let (_, made) = client
        .call("POST", "/api/v1/namespaces", plain, space.as_bytes())
        .await;
    assert_eq!(made["status"]["phase"], "Active");
    assert_eq!(
        made["metadata"]["labels"]["kubernetes.io/metadata.name"],
        "e"
    );
    let maps = "/api/v1/namespaces/e/configmaps";
    let map = object("ConfigMap", "a");
    assert_eq!(
        client.call("POST", maps, plain, map.as_bytes()).await.0,
        201
    );
    assert_eq!(
        client
            .call("DELETE", "/api/v1/namespaces/e", plain, b"")
            .await
            .0,
        200
    );
    assert_eq!(
        client.call("GET", &format!("{maps}/a"), plain, b"").await.0,
        404
    );
    assert_eq!(
        client
            .call("GET", "/api/v1/namespaces/e", plain, b"")
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn events_and_lines_come_at_once() {
    let standin = start().await;
    let mut watcher = Client::new(&standin).await;
    let query = "watch=true&sendInitialEvents=false&fieldSelector=metadata.name%3Dweb-0";
    let mut events = watcher
        .get(&format!("/api/v1/namespaces/default/pods?{query}"))
        .await;
    let mut reader = Client::new(&standin).await;
    let path = "/api/v1/namespaces/default/pods/web-0/log?follow=true";
    let mut lines = reader.get(path).await;
    assert_eq!(lines.headers()[header::CONTENT_TYPE], "text/plain");
    for text in ["one", "two"] {
        standin.push_log("web-0", text).unwrap();
        assert_eq!(chunk(&mut lines).await.unwrap(), format!("{text}\n"));
        standin.touch_pod("web-0").unwrap();
        let event: Value = serde_json::from_slice(&chunk(&mut events).await.unwrap()).unwrap();
        assert_eq!(event["type"], "MODIFIED");
    }
    standin.delete_pod("web-0").unwrap();
    let event: Value = serde_json::from_slice(&chunk(&mut events).await.unwrap()).unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(chunk(&mut lines).await, None);
    assert!(matches!(
        standin.push_log("web-0", ""),
        Err(Error::NoSuchPod(_))
    ));
    assert!(matches!(standin.add_pod("web-1"), Err(Error::PodExists(_))));
    standin.end_log("web-1").unwrap();
}

#[tokio::test]
async fn echoes_chunk_by_chunk() {
    let standin = start().await;
    let mut client = Client::new(&standin).await;
    let (send, sent) = mpsc::channel::<Bytes>(1);
    let chunks = stream::unfold(sent, |mut sent| async { Some((sent.recv().await?, sent)) });
    let body = StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk)))).boxed_unsync();
    let mut echo = client
        .send(request(&standin, "POST", "/api/v1/echo", body))
        .await
        .unwrap();
    for text in ["a", "bc"] {
        send.send(Bytes::from(text)).await.unwrap();
        assert_eq!(chunk(&mut echo).await.unwrap(), text);
    }
    drop(send);
    assert_eq!(chunk(&mut echo).await, None);
    assert_eq!(standin.requests()[0].body_len, 3);
    let bytes = collect(client.get("/api/v1/bytes?n=100000").await).await;
    assert_eq!(bytes, pattern(0, 100_000));
}

#[tokio::test]
async fn fails_as_told() {
    let standin = start().await;
    let mut client = Client::new(&standin).await;
    standin.set_fault(Fault::Status(503));
    assert_eq!(
        client.get("/api").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(client.get("/version").await.status(), StatusCode::OK);
    standin.set_fault_everywhere(Fault::Status(503));
    assert_eq!(
        client.get("/version").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );

    standin.set_fault(Fault::SlowBody);
    let mut slow = client.get("/api").await;
    let mut body = chunk(&mut slow).await.unwrap().to_vec();
    assert!(slow.body_mut().frame().now_or_never().is_none());
    standin.set_fault(Fault::None);
    while let Some(rest) = chunk(&mut slow).await {
        body.extend_from_slice(&rest);
    }
    assert!(serde_json::from_slice::<Value>(&body).is_ok());

    standin.set_fault(Fault::Hang);
    let mut hanging = Client::new(&standin).await;
    let mut hung = std::pin::pin!(hanging.get("/healthz"));
    while standin
        .requests()
        .iter()
        .all(|request| request.path != "/healthz")
    {
        assert!(hung.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    standin.set_fault(Fault::Reset);
    let reset = client
        .send(request(&standin, "GET", "/api", full("")))
        .await;
    assert!(reset.is_err());
    standin.set_fault(Fault::None);
    let mut client = Client::new(&standin).await;
    assert_eq!(client.get("/api").await.status(), StatusCode::OK);
    assert!(hung.as_mut().now_or_never().is_none());
}

#[tokio::test]
async fn shutdown_ends_connections_and_frees_the_port() {
    let standin = start().await;
    let addr = standin.addr();
    let mut client = Client::new(&standin).await;
    let mut watch = client
        .get("/api/v1/pods?watch=true&sendInitialEvents=false")
        .await;
    drop(client);
    standin.shutdown().await;
    let ended = watch
        .body_mut()
        .frame()
        .await
        .is_none_or(|frame| frame.is_err());
    assert!(ended);
    let refused = TcpStream::connect(addr).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let again = Options {
        port: addr.port(),
        ..Options::default()
    };
    assert_eq!(StandIn::start(again).await.unwrap().addr(), addr);
}
