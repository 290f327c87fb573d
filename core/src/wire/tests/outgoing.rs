//! What is written.

use super::*;

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
    let mut config = AgentConfig::new("", "");
    config.info = info();
    config.policy = IdentityPolicy::Impersonate;
    config.limits.recv_stream = 2048;
    let text = encode::register("req_1", "T", &config);
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
    assert_eq!(payload["features"]["supports_gateway"], false);
    assert_eq!(payload["features"]["tunnels"], false);
    config.info.cluster_id = Some("6f1c".into());
    let again = encode::register("req_1", "T", &config);
    assert_eq!(read(&again)["payload"]["cluster_id"], "6f1c");
    let fields = decode(again.as_bytes()).unwrap().payload.unwrap();
    assert_eq!(fields.features.identity.as_deref(), Some("impersonate"));
    assert_eq!(fields.name.as_deref(), Some("prod \"1\""));
}

#[test]
fn p211_whatever_an_agent_tells_of_itself_is_sent() {
    let fact = |n: u8| alloc::format!("fact {n}");
    let facts = |n: u8| alloc::collections::BTreeMap::from([(fact(n), fact(n + 1))]);
    // Every field is named here, so that a new one is not forgotten.
    let info = AgentInfo {
        agent_id: fact(10),
        name: fact(11),
        k8s_version: fact(12),
        region: fact(13),
        hostname: fact(14),
        agent_version: fact(15),
        server_ip: fact(16),
        cloud_provider: fact(17),
        labels: facts(18),
        server_specs: crate::ServerSpecs {
            cpu_cores: 1001,
            memory_gb: 1002,
            disk_gb: 1003,
            os: fact(20),
        },
        metadata: facts(21),
        cluster_id: Some(fact(23)),
    };
    let mut config = AgentConfig::new("", "");
    config.info = info;
    let text = encode::register("r", "T", &config);
    for n in 10..=23 {
        assert!(text.contains(&alloc::format!("\"{}\"", fact(n))), "{n}");
    }
    for size in ["1001", "1002", "1003"] {
        assert!(text.contains(size), "{size}");
    }
}

#[test]
fn p034_each_monitoring_service_has_names_of_its_own() {
    for (service, url) in [
        (MonitoringService::Grafana, "grafana_url"),
        (MonitoringService::Loki, "loki_url"),
        (MonitoringService::OpenCost, "opencost_base_url"),
        (MonitoringService::Prometheus, "prometheus_url"),
    ] {
        let status = HeartbeatStatus {
            monitoring: [monitoring(service, "http://m")].into(),
            ..HeartbeatStatus::default()
        };
        let sent = read(&encode::heartbeat("T", "6f1c", &info(), &status, true));
        assert_eq!(sent["payload"][url], "http://m", "{service:?}");
    }
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
    let now = crate::wire::rfc3339::format(Duration::from_secs(1));
    assert_eq!(
        read(&encode::heartbeat_ack(&now))["timestamp"],
        "1970-01-01T00:00:01Z"
    );
}
