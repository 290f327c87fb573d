//! Messages in and out, by statement.

mod streams;

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use serde_json::{Value, json};

use super::{
    base64::Base64,
    decode::{Body, decode},
    encode,
};
use crate::{
    config::{AgentInfo, HeartbeatStatus, Monitoring, MonitoringService},
    error::PeerFault,
    input::{RequestHead, ResponseHead},
    rules::IdentityPolicy,
};

fn read(text: &str) -> Value {
    assert!(text.ends_with("}\n"), "P-010: one object and a newline");
    serde_json::from_str(text).unwrap()
}

// ---------------------------------------------------------------- in

#[test]
fn p025_what_is_tolerated() {
    for text in [
        r#"{"type":"ping","request_id":"a","payload":{},"timestamp":""}"#,
        r#"{"type":"ping","request_id":"a","payload":null,"timestamp":7}"#,
        r#"{"TYPE":"ping","Request_ID":"a"}"#,
        r#" {"type":"ping","request_id":"a","extra":{"x":[1,{"y":null}]},"payload":{"z":[[]]}} "#,
        "{\"payload\":{\"error\":1},\"request_id\":\"a\",\"type\":\"ping\"}\n",
        r#"{"type":"x","type":"ping","request_id":5,"request_id":"a"}"#,
    ] {
        let envelope = decode(text.as_bytes()).unwrap();
        assert_eq!(
            (&*envelope.kind, envelope.id.as_deref(), envelope.fault),
            ("ping", Some("a"), None),
            "{text}"
        );
    }
    let null = decode(br#"{"type":"ping","request_id":null}"#).unwrap();
    assert_eq!((null.id, null.fault), (None, None));
    let empty = decode(br#"{"type":"ping","request_id":""}"#).unwrap();
    assert_eq!((empty.id, empty.fault), (None, None));
}

#[test]
fn p159_p190_what_costs_itself_still_tells_its_id() {
    for text in [
        r#"{"type":"proxy_request","request_id":"a","payload":[]}"#,
        r#"{"type":"proxy_request","request_id":"a","payload":"x"}"#,
        r#"{"type":"proxy_request","payload":1,"request_id":"a"}"#,
        r#"{"type":"proxy_request","request_id":"a"} {}"#,
        r#"{"type":"proxy_request","request_id":"a"}x"#,
    ] {
        let envelope = decode(text.as_bytes()).unwrap();
        let told = (&*envelope.kind, envelope.id.as_deref(), envelope.fault);
        assert_eq!(
            told,
            ("proxy_request", Some("a"), Some(PeerFault::Malformed)),
            "{text}"
        );
    }
    let number = decode(br#"{"type":"ping","request_id":7}"#).unwrap();
    assert_eq!(
        (number.id, number.fault),
        (None, Some(PeerFault::Malformed))
    );
}

#[test]
fn what_is_no_envelope_at_all() {
    let deep = "[".repeat(100_000);
    let bad: [&[u8]; 8] = [
        b"",
        b"null",
        b"[]",
        b"\"x\"",
        b"{\"type\":",
        b"{\"type\":\"\xff\"}",
        b"\x00\x01r",
        deep.as_bytes(),
    ];
    for frame in bad {
        assert_eq!(decode(frame).unwrap_err(), PeerFault::Malformed);
    }
}

#[test]
fn nesting_is_no_way_to_overflow_the_stack() {
    let deep = "[".repeat(200_000);
    let frame = alloc::format!("{{\"type\":\"a\",\"payload\":{{\"x\":{deep}");
    assert_eq!(decode(frame.as_bytes()).unwrap_err(), PeerFault::Malformed);
    let body = alloc::format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let frame = alloc::format!(
        "{{\"type\":\"a\",\"payload\":{{\"body\":{body},\"labels\":{body},\"data\":{body}}}}}"
    );
    let envelope = decode(frame.as_bytes()).unwrap();
    assert!(
        matches!(envelope.payload.unwrap().body, Some(Body::Json(json)) if json == body.as_bytes())
    );
}

#[test]
fn p028_p058_a_field_of_another_type_is_absent() {
    let frame = r#"{"type":"proxy_request","payload":{
        "method":1,"path":["/api"],"query":{},"timeout":"1s","status":"ok","use_streaming":"true",
        "supports_response_streaming":1,"headers":["A"],"body":true,"workspace_id":"5",
        "Path":"/api","is_websocket":null}}"#;
    let fields = decode(frame.as_bytes()).unwrap().payload.unwrap();
    assert!(fields.method.is_none() && fields.path.is_none() && fields.query.is_none());
    assert!(fields.timeout.is_none() && fields.status.is_none() && fields.workspace_id.is_none());
    assert_eq!(fields.timeout_text.as_deref(), Some("1s"));
    assert_eq!(fields.status_text.as_deref(), Some("ok"));
    assert!(!fields.use_streaming && !fields.supports_response_streaming && !fields.is_websocket);
    assert!(fields.headers.is_none() && fields.body.is_none());
}

#[test]
fn p058_headers_are_texts_or_lists_of_texts() {
    let frame =
        r#"{"type":"a","payload":{"headers":{"A":"1","B":["2",3,"4"],"C":5,"A":"6","D":[]}}}"#;
    let fields = decode(frame.as_bytes()).unwrap().payload.unwrap();
    let expected = [("A", "6"), ("B", "2"), ("B", "4")];
    let expected: Vec<_> = expected.map(|(n, v)| (n.to_string(), v.to_string())).into();
    assert_eq!(fields.headers, Some(expected));
}

#[test]
fn t015_a_body_is_a_text_or_json() {
    let body = |json: &str| {
        let frame = alloc::format!("{{\"type\":\"a\",\"payload\":{{\"body\":{json}}}}}");
        match decode(frame.as_bytes()).unwrap().payload.unwrap().body {
            Some(Body::Text(text)) => Some(text.into_owned()),
            Some(Body::Json(json)) => Some(String::from_utf8(json).unwrap()),
            None => None,
        }
    };
    assert_eq!(body(r#""a\nb""#).as_deref(), Some("a\nb"));
    assert_eq!(
        body(r#"{"n":123456789012345678901}"#).as_deref(),
        Some(r#"{"n":123456789012345678901}"#)
    );
    assert_eq!(body("[1]").as_deref(), Some("[1]"));
    assert_eq!((body("1"), body("null"), body("true")), (None, None, None));
}

#[test]
fn t029_t031_variants_of_names() {
    let fields = |payload: &str| {
        let frame = alloc::format!("{{\"type\":\"a\",\"payload\":{payload}}}");
        let envelope = decode(frame.as_bytes()).unwrap();
        let fields = envelope.payload.unwrap();
        (fields.use_streaming, fields.is_websocket, fields.head_data)
    };
    assert_eq!(
        fields(r#"{"streaming":true,"use_streaming":false}"#),
        (true, false, false)
    );
    assert_eq!(
        fields(r#"{"isWebSocket":true,"headData":[1]}"#),
        (false, true, true)
    );
    assert_eq!(
        fields(r#"{"is_websocket":true,"head_data":""}"#),
        (false, true, false)
    );
}

#[test]
fn p199_secrets_are_read_over() {
    let frame = r#"{"type":"register","payload":{"k8s_service_token":"S3CRET","token":"S3CRET",
        "prometheus_password":"S3CRET","worker_join":{"token":"S3CRET"},"name":"n"}}"#;
    let envelope = decode(frame.as_bytes()).unwrap();
    assert!(!alloc::format!("{envelope:?}").contains("S3CRET"));
}

// ---------------------------------------------------------------- out

fn info() -> AgentInfo {
    AgentInfo {
        agent_id: "agent-1f2e".into(),
        name: "prod \"1\"".into(),
        labels: [("hostname".to_string(), "n1".to_string())].into(),
        ..AgentInfo::default()
    }
}

#[test]
fn p032_register_has_every_field_that_is_always_there() {
    let text = encode::register(
        "req_1",
        "T",
        &info(),
        IdentityPolicy::Impersonate,
        None,
        1024,
    );
    let value = read(&text);
    assert_eq!(
        (&value["type"], &value["request_id"], &value["timestamp"]),
        (&json!("register"), &json!("req_1"), &json!("T"))
    );
    let payload = value["payload"].as_object().unwrap();
    for field in [
        "agent_id",
        "name",
        "k8s_version",
        "region",
        "hostname",
        "agent_version",
        "server_ip",
        "cloud_provider",
        "tunnel_port_config",
        "labels",
        "server_specs",
        "features",
    ] {
        assert!(payload.contains_key(field), "{field}");
    }
    for field in ["cluster_id", "metadata", "k8s_service_token"] {
        assert!(!payload.contains_key(field), "{field}");
    }
    assert_eq!(
        payload["tunnel_port_config"],
        json!({"kubernetes_api":6443,"kubelet":10250,"agent_http":8080})
    );
    assert_eq!(payload["features"]["identity"], "impersonate");
    assert_eq!(payload["features"]["supports_response_streaming"], true);
    assert_eq!(payload["features"]["supports_websocket_proxy"], true);
    assert_eq!(payload["features"]["upgrade_answer"], true);
    assert_eq!(payload["features"]["request_window"], 1024);
    let again = encode::register(
        "req_1",
        "T",
        &info(),
        IdentityPolicy::Impersonate,
        Some("6f1c"),
        1024,
    );
    assert_eq!(read(&again)["payload"]["cluster_id"], "6f1c");
    let fields = decode(again.as_bytes()).unwrap().payload.unwrap();
    assert_eq!(fields.features.identity.as_deref(), Some("impersonate"));
    assert_eq!(fields.name.as_deref(), Some("prod \"1\""));
}

fn monitoring(service: MonitoringService, url: &str) -> Monitoring {
    Monitoring {
        service,
        url: url.into(),
        username: "u".into(),
        password: "p".into(),
        ssl: true,
    }
}

#[test]
fn p034_a_heartbeat_tells_monitoring_services_that_have_a_url() {
    let status = HeartbeatStatus {
        k8s_nodes: Some(3),
        k8s_pods: None,
        metadata: [
            ("agent_version".to_string(), "forged".to_string()),
            ("zone".to_string(), "b".to_string()),
        ]
        .into(),
        monitoring: Vec::from([
            monitoring(MonitoringService::Loki, "http://loki"),
            monitoring(MonitoringService::OpenCost, "http://oc"),
            monitoring(MonitoringService::Grafana, ""),
        ]),
    };
    let payload = &read(&encode::heartbeat("T", "6f1c", &info(), &status, true))["payload"];
    let expected = json!({
        "cluster_id": "6f1c", "agent_id": "agent-1f2e", "status": "healthy", "tunnel_status": "connected",
        "metadata": {"agent_version": "", "k8s_version": "", "k8s_nodes": 3, "zone": "b"},
        "loki_url": "http://loki", "loki_username": "u", "loki_password": "p", "loki_ssl": true,
        "opencost_base_url": "http://oc", "opencost_username": "u", "opencost_password": "p",
    });
    assert_eq!(*payload, expected);
    let without = encode::heartbeat("T", "6f1c", &info(), &status, false);
    assert!(!without.contains("loki"));
    let debug = alloc::format!("{status:?}");
    assert!(!debug.contains("\"p\"") && debug.contains("Loki"));
}

#[test]
fn p037_headers_are_lists_or_null() {
    let base64 = Base64::new();
    let none = ResponseHead {
        status: 204,
        headers: Vec::new(),
    };
    let expected =
        json!({"type":"proxy_response","request_id":"r2","payload":{"status":204,"headers":null}});
    assert_eq!(
        read(&encode::proxy_response("r2", &none, &[], &base64)),
        expected
    );
    let pairs = [("Set-Cookie", "a"), ("Warning", "w"), ("set-cookie", "b")];
    let headers = pairs.map(|(n, v)| (n.to_string(), v.to_string())).into();
    let head = ResponseHead {
        status: 200,
        headers,
    };
    let body = ["{".into(), "}".into()];
    let value = read(&encode::proxy_response("r1", &head, &body, &base64));
    let expected = json!({"status":200,"headers":{"Set-Cookie":["a","b"],"Warning":["w"]},"body":"e30=","encoding":"base64"});
    assert_eq!(value["payload"], expected);
}

#[test]
fn p042_a_streamed_answer() {
    let head = ResponseHead {
        status: 200,
        headers: Vec::from([("Content-Type".into(), "text/plain".into())]),
    };
    assert_eq!(
        read(&encode::response_head("r1", &head)),
        json!({"type":"proxy_response_header","request_id":"r1","payload":{"status":200,"headers":{"Content-Type":["text/plain"]}}})
    );
    assert_eq!(
        read(&encode::response_chunk("r1", b"hi", &Base64::new())),
        json!({"type":"proxy_response_chunk","request_id":"r1","payload":{"data":"aGk=","encoding":"base64","size":2}})
    );
    assert_eq!(
        read(&encode::response_end("r1")),
        json!({"type":"proxy_response_end","request_id":"r1","payload":{}})
    );
    assert_eq!(
        read(&encode::response_abort("r1", "unexpected EOF")),
        json!({"type":"proxy_response_abort","request_id":"r1","payload":{"error":"unexpected EOF"}})
    );
}

#[test]
fn p041_p057_errors() {
    assert_eq!(
        read(&encode::proxy_error("r1", "no")),
        json!({"type":"proxy_error","request_id":"r1","payload":{"error":"no"}})
    );
    assert_eq!(
        read(&encode::error(None, "no")),
        json!({"type":"error","payload":{"error":"no"}})
    );
    assert_eq!(read(&encode::error(Some("x"), "no"))["request_id"], "x");
}

#[test]
fn p049_a_fallback_names_what_is_understood() {
    let value = read(&encode::protocol_fallback("new", Some("a\r\nb"), "T"));
    let payload = &value["payload"];
    assert!(value.get("request_id").is_none());
    assert_eq!(payload["agent_version"], "pipeops-k8-agent");
    assert_eq!(payload["unknown_type"], "new");
    assert_eq!(payload["original_request_id"], "ab");
    assert_eq!(payload["fallback_mode"], "legacy_proxy");
    assert_eq!(
        payload["supported_types"].as_array().unwrap().len(),
        encode::SUPPORTED_TYPES.len()
    );
}

#[test]
fn p058_p060_p062_a_request_and_its_body() {
    let base64 = Base64::new();
    let head = RequestHead {
        method: "POST".into(),
        path: "/api/v1/pods".into(),
        query: Some("limit=500".into()),
        headers: Vec::from([("Accept".into(), "a/b".into())]),
    };
    let whole = read(&encode::proxy_request(
        "r1",
        &head,
        false,
        &["hi".into()],
        encode::Terms::default(),
        &base64,
    ));
    let expected = json!({"type":"proxy_request","request_id":"r1","payload":{
        "method":"POST","path":"/api/v1/pods","query":"limit=500","headers":{"Accept":["a/b"]},
        "body":"aGk=","body_encoding":"base64"}});
    assert_eq!(whole, expected);
    let pieces = &read(&encode::proxy_request(
        "r1",
        &head,
        true,
        &[],
        encode::Terms {
            stream_response: true,
            response_window: Some(4096),
            request_window: Some(1024),
        },
        &base64,
    ))["payload"];
    assert_eq!(
        (
            &pieces["use_streaming"],
            &pieces["supports_response_streaming"]
        ),
        (&json!(true), &json!(true))
    );
    assert!(pieces.get("body").is_none());
    assert_eq!(pieces["response_window"], 4096);
    assert_eq!(pieces["request_window"], 1024);
    assert_eq!(
        read(&encode::grant("r1", true, 1024)),
        json!({"type":"proxy_response_grant","request_id":"r1","payload":{"bytes":1024}})
    );
    assert_eq!(
        read(&encode::grant("r1", false, 1024))["type"],
        "proxy_request_grant"
    );
    assert_eq!(
        read(&encode::request_chunk("r1", b"hello", &base64)),
        json!({"type":"proxy_request_chunk","request_id":"r1","payload":{"data":"aGVsbG8="}})
    );
    assert_eq!(
        read(&encode::request_end("r1")),
        json!({"type":"proxy_request_stream_end","request_id":"r1","payload":{}})
    );
    assert_eq!(read(&encode::cancel("r1"))["type"], "proxy_cancel");
}

#[test]
fn p053_p036_p055_the_links_answers() {
    let value = read(&encode::register_success(
        "q",
        "6f1c",
        "prod",
        Some(123),
        "T",
    ));
    let expected = json!({"cluster_id":"6f1c","cluster_uuid":"6f1c","name":"prod","status":"registered","workspace_id":123});
    assert_eq!(value["payload"], expected);
    assert_eq!(
        read(&encode::pong(Some("p1"), "T")),
        json!({"type":"pong","request_id":"p1","payload":{"timestamp":"T"},"timestamp":"T"})
    );
    assert!(read(&encode::pong(None, "T")).get("request_id").is_none());
    assert_eq!(read(&encode::heartbeat_ack("T"))["type"], "heartbeat_ack");
    let now = super::rfc3339::format(Duration::from_secs(1));
    assert_eq!(
        read(&encode::heartbeat_ack(&now))["timestamp"],
        "1970-01-01T00:00:01Z"
    );
}
