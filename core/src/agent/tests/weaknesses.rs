//! What the original does wrong (W-nn), where no other test would see it.

use super::*;
use crate::{
    action::Endpoint,
    config::{Monitoring, MonitoringService},
    rules::{Credentials, IdentityPolicy},
};

/// Sends a JSON message in a binary one.
fn ping(id: &str) -> Value {
    json!({"type": "ping", "request_id": id})
}

#[test]
fn p144_a_body_that_nobody_takes_delays_no_other_message() {
    // W-01: the original reads nothing more until the first piece is taken.
    let mut bench = Bench::registered();
    let stuck = bench.upload("stuck");
    for _ in 0..50 {
        bench.chunk("stuck", &[1; 1000]);
    }
    bench.frame(ping("p"));
    assert_eq!(bench.sent_types(), ["pong"]);
    let other = bench.request("other");
    bench.input(Input::Head(other, head(200)));
    assert_eq!(bench.sent_types(), ["proxy_response_header"]);
    // Nor where its handler ends without a look at it.
    bench.input(Input::Ended(stuck, StreamEnd::Broken("no".into())));
    bench.chunk("stuck", &[2; 1000]);
    bench.frame(ping("q"));
    assert_eq!(bench.sent_types(), ["pong", "proxy_response_abort"]);
    assert_eq!(bench.agent.stats().held_in, 0);
}

#[test]
fn p146_reading_never_waits_for_writing() {
    // W-03: the original sends its answers while it reads.
    let mut bench = Bench::registered();
    let upload = bench.upload("upload");
    bench.take();
    let quiet = |bench: &mut Bench| {
        while let Some(action) = bench.agent.poll(Socket::Blocked) {
            bench.actions.push(action);
        }
    };
    bench.frame(json!({"type": "ws_start", "request_id": "s", "payload": {}}));
    bench.frame(json!({"type": "future", "request_id": "f"}));
    bench.frame(json!({"type": "gateway_hello", "payload": {"use_yamux": true}}));
    bench.frame(json!({"type": "ws_close", "payload": {"stream_id": "unknown"}}));
    bench.frame(ping("p"));
    bench.chunk("upload", b"read all the same");
    quiet(&mut bench);
    let read = Action::Deliver(upload, Kind::Bytes, "read all the same".into());
    assert!(bench.actions.contains(&read));
    let expected = [
        "pong",
        "gateway_hello_ack",
        "protocol_fallback",
        "proxy_error",
    ];
    assert_eq!(bench.sent_types(), expected);
}

#[test]
fn p160_a_timestamp_never_costs_its_message() {
    // W-17: each of these costs the original its message.
    for timestamp in [
        json!(""),
        json!(1_795_412_045),
        json!("2025-11-02T22:00:00"),
        json!("2025-11-02t22:00:00z"),
        json!("yesterday"),
        json!([]),
    ] {
        let mut bench = Bench::registered();
        let mut message = ping("p");
        message["timestamp"] = timestamp.clone();
        bench.frame(message);
        assert_eq!(bench.sent_types(), ["pong"], "{timestamp}");
    }
}

#[test]
fn p168_pings_and_data_leave_by_one_queue() {
    // W-25: two tasks of the original write to one socket.
    let mut bench = Bench::registered();
    let bulk = bench.request("bulk");
    bench.input(Input::Head(bulk, head(200)));
    bench.take();
    let body = bytes(200_000);
    assert_eq!(bench.offer(bulk, body.clone()), Offer::Taken);
    bench.now = bench.agent.deadline().unwrap();
    bench.input(Input::Tick);
    let actions = bench.take();
    assert_eq!(
        actions[0],
        Action::Send(ConnId(1), OutFrame::Ping),
        "a ping is late behind bulk"
    );
    let mut got = Vec::new();
    for action in &actions[1..] {
        let Action::Send(_, OutFrame::Text(text)) = action else {
            panic!("{action:?}")
        };
        let message: Value = serde_json::from_str(text).unwrap();
        got.extend(decoded(&message["payload"]["data"]));
    }
    assert!(got == body, "the body differs");
}

#[test]
fn p176_every_loss_leads_to_another_attempt() {
    // W-33: a connection that fails as soon as it stands is ignored by the original.
    let mut bench = Bench::new();
    for round in 0..30 {
        bench.run();
        let Phase::Dialing(conn) = bench.agent.phase() else {
            panic!("round {round}: {:?}", bench.agent.phase())
        };
        bench.input(Input::Connected(conn));
        if round % 2 == 0 {
            // It was not even polled in between.
            bench.actions.clear();
        } else {
            bench.run();
        }
        bench.input(Input::Disconnected(conn, Down::Lost("cut".into())));
        let (delay, attempt, _) = bench.reconnect().unwrap();
        assert_eq!(attempt, round + 1);
        bench.pass(delay);
    }
}

#[test]
fn p177_nothing_is_dialled_after_the_end() {
    // W-34: a dial of the original that succeeds after the close leaves a connection open.
    let mut bench = Bench::new();
    bench.run();
    let conn = bench.agent.phase().conn().unwrap();
    bench.input(Input::Shutdown(secs(5)));
    assert!(bench.take().contains(&Action::Stopped));
    bench.input(Input::Connected(conn));
    bench.input(Input::Disconnected(conn, Down::Lost("late".into())));
    bench.input(Input::Shutdown(secs(5)));
    bench.pass(secs(600));
    assert!(bench.take().is_empty());
    assert_eq!(bench.agent.deadline(), None);
}

#[test]
fn p179_refused_tunnels_are_remembered_up_to_a_bound() {
    // W-36, of the table of unknown types: this one is keyed by the peer as well.
    let mut bench = Bench::registered();
    for i in 0..1000 {
        let tunnel = alloc::format!("u{i}");
        let payload = json!({"tunnel_id": tunnel, "gateway_port": 53});
        bench.frame(json!({"type": "udp_tunnel_data", "payload": payload}));
    }
    assert_eq!(bench.agent.refused_tunnels.len(), 64);
    assert_eq!(bench.sent_types().len(), 64);
}

#[test]
fn p185_tunnels_and_requests_work_on_every_connection() {
    // W-42: at the gateway the original knows no tunnels.
    let mut bench = Bench::with(|config| {
        config.gateways = Vec::from(["gw.example".to_string()]);
        config.tunnels = ["pg.db:5432", "localhost:53"]
            .map(|text| text.parse().unwrap())
            .into();
    });
    bench.connect();
    let id = bench.sent()[0]["request_id"].clone();
    let payload = json!({"cluster_id": "6f1c", "gateway_ws_url": "wss://gw.example/ws"});
    bench.frame(json!({"type": "register_success", "request_id": id, "payload": payload}));
    let gateway = bench.take().into_iter().find_map(|action| match action {
        Action::Connect(conn, Endpoint::Gateway(_)) => Some(conn),
        _ => None,
    });
    let gateway = gateway.unwrap();
    bench.input(Input::Connected(gateway));
    bench.take();
    // There, and there again after a loss.
    for _ in 0..2 {
        let service = json!({"service_name": "pg", "service_namespace": "db",
            "service_port": 5432});
        bench.frame(json!({"type": "tcp_tunnel_start", "request_id": "t", "payload": service}));
        let datagram = json!({"tunnel_id": "u", "gateway_port": 53});
        bench.frame(json!({"type": "udp_tunnel_data", "payload": datagram}));
        let start = json!({"stream_id": "s", "path": "/api/v1/namespaces/n/pods/p/exec"});
        bench.frame(json!({"type": "ws_start", "request_id": "s", "payload": start}));
        let opened = bench.take();
        let opened = opened.iter().filter(|a| matches!(a, Action::Open(..)));
        assert_eq!(opened.count(), 3);
        bench.request("r");
        bench.cut();
        bench.pass(secs(1));
        let again = bench.agent.phase().conn().unwrap();
        bench.input(Input::Connected(again));
        bench.take();
    }
}

#[test]
fn p163_a_stream_has_its_path_byte_for_byte_as_a_request_has() {
    // W-20: the original takes the dots out of the one, and escapes the escapes of the other.
    let path = "/api/v1/namespaces/n/pods/a..b%2Fc/exec";
    let payload = json!({"path": path, "query": "command=a%2Bb;&m", "stream_id": "s"});
    for kind in ["proxy_request", "ws_start"] {
        let mut bench = Bench::registered();
        bench.frame(json!({"type": kind, "request_id": "s", "payload": payload}));
        let (_, head) = bench.opened().unwrap();
        assert_eq!(head.path, path, "{kind}");
        assert_eq!(head.query.as_deref(), Some("command=a%2Bb;&m"), "{kind}");
    }
}

#[test]
fn p196_one_policy_for_requests_and_streams() {
    // W-53: in the original a stream without credentials has the agent's, a request has none.
    for (policy, expected) in [
        (IdentityPolicy::ServiceAccount, Credentials::ServiceAccount),
        (IdentityPolicy::Impersonate, Credentials::ServiceAccount),
        (IdentityPolicy::Caller, Credentials::Caller),
    ] {
        let mut bench = Bench::registered_with(|c| c.policy = policy);
        for headers in [json!({}), json!({"authorization": "Bearer user"})] {
            let path = "/api/v1/namespaces/n/pods/p/exec";
            let payload = json!({"path": path, "headers": headers});
            bench.frame(json!({"type": "proxy_request", "request_id": "r", "payload": payload}));
            let payload = json!({"path": path, "headers": headers, "stream_id": "s"});
            bench.frame(json!({"type": "ws_start", "request_id": "s", "payload": payload}));
            // W-51: on the way to a stream the original loses the identity of such a request.
            let payload = json!({"path": path, "headers": headers, "is_websocket": true});
            bench.frame(json!({"type": "proxy_request", "request_id": "w", "payload": payload}));
            let opened: Vec<(usize, Credentials)> = bench
                .take()
                .into_iter()
                .filter_map(|action| match action {
                    Action::Open(
                        _,
                        Target::Http {
                            head, credentials, ..
                        },
                    ) => Some((head.headers.len(), credentials)),
                    Action::Open(
                        _,
                        Target::WebSocket {
                            head, credentials, ..
                        },
                    ) => Some((head.headers.len(), credentials)),
                    _ => None,
                })
                .collect();
            let given = headers.as_object().unwrap().len();
            let kept = if policy == IdentityPolicy::Caller {
                given
            } else {
                0
            };
            assert_eq!(opened, [(kept, expected); 3], "{policy:?} {headers}");
            bench.frame(json!({"type": "proxy_cancel", "request_id": "r"}));
            bench.frame(json!({"type": "ws_close", "payload": {"stream_id": "s"}}));
            bench.frame(json!({"type": "ws_close", "payload": {"stream_id": "w"}}));
            bench.take();
        }
    }
}

#[test]
fn p199_passwords_are_sent_when_they_are_new_and_only_where_the_link_is_encrypted() {
    // W-56: every heartbeat of the original has them.
    let status = |password: &str| HeartbeatStatus {
        monitoring: Vec::from([Monitoring {
            service: MonitoringService::Loki,
            url: "http://loki".into(),
            username: "u".into(),
            password: password.into(),
            ssl: false,
        }]),
        ..HeartbeatStatus::default()
    };
    for encrypted in [true, false] {
        let mut bench = Bench::with(|config| config.encrypted = encrypted);
        let told = |bench: &mut Bench| {
            bench.pass_alive(secs(120));
            let sent = bench.sent();
            assert_eq!(sent.len(), 4, "heartbeats");
            let with = sent.iter().filter(|m| m.to_string().contains("S3CRET"));
            with.count()
        };
        let once = usize::from(encrypted);
        bench.input(Input::Status(status("S3CRET")));
        bench.connect();
        bench.register();
        let first = bench.sent();
        assert_eq!(first[0].to_string().contains("S3CRET"), encrypted);
        assert_eq!(told(&mut bench), 0);
        bench.input(Input::Status(status("S3CRET")));
        assert_eq!(told(&mut bench), 0, "it is known");
        bench.input(Input::Status(status("S3CRET2")));
        assert_eq!(told(&mut bench), once);
    }
}

#[test]
fn p204_configured_periods_take_effect() {
    // W-61: those of the original's configuration do not.
    let mut bench = Bench::registered_with(|config| {
        config.periods.ping = secs(1);
        config.periods.idle = secs(3);
        config.periods.heartbeat = secs(2);
        config.backoff.base = secs(20);
    });
    for _ in 0..6 {
        bench.pass(secs(1));
        let conn = bench.agent.phase().open().unwrap();
        bench.input(Input::Alive(conn));
    }
    let pings = bench.actions.iter();
    let pings = pings.filter(|a| matches!(a, Action::Send(_, OutFrame::Ping)));
    assert_eq!(pings.count(), 6);
    assert_eq!(bench.sent_types(), ["heartbeat"; 3]);
    bench.pass(secs(4));
    let (delay, _, reason) = bench.reconnect().unwrap();
    assert_eq!(reason, Reason::Idle);
    assert!(delay >= secs(10) && delay <= secs(20), "{delay:?}");
}

#[test]
fn p208_the_visitors_scheme_says_nothing_about_the_upstream() {
    // W-65: with it the original chooses TLS toward the service.
    let mut bench = Bench::registered();
    let mut opened = |scheme: Value| {
        bench.frame(json!({"type": "proxy_request", "request_id": "r",
            "payload": {"path": "/api", "scheme": scheme}}));
        let opened = bench.take().into_iter().find_map(|action| match action {
            Action::Open(_, target) => Some(target),
            _ => None,
        });
        bench.frame(json!({"type": "proxy_cancel", "request_id": "r"}));
        opened.unwrap()
    };
    let plain = opened(json!("http"));
    assert_eq!(plain, opened(json!("https")));
    assert_eq!(plain, opened(Value::Null));
}

#[test]
fn p213_an_answer_is_never_compressed() {
    // W-70: the original compresses each of these, the second one twice.
    let text = ("Content-Type", "text/plain");
    for headers in [&[text][..], &[text, ("Content-Encoding", "gzip")]] {
        let mut bench = Bench::registered();
        let id = bench.whole("r");
        let owned = |(n, v): &(&str, &str)| (n.to_string(), v.to_string());
        let headers = headers.iter().map(owned).collect();
        let status = 200;
        bench.input(Input::Head(id, ResponseHead { status, headers }));
        let body = Bytes::from([b'a'; 50_000].to_vec());
        assert_eq!(bench.offer(id, body.clone()), Offer::Taken);
        bench.input(Input::Ended(id, StreamEnd::Clean));
        let sent = bench.sent();
        assert_eq!(sent[0]["payload"]["encoding"], "base64");
        assert!(decoded(&sent[0]["payload"]["body"]) == body);
    }
}
