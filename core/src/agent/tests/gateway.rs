//! Gateway mode (P-007 to P-009, P-082 to P-085, P-180, P-182, P-184).

mod patience;

use super::*;
use crate::action::Endpoint;

const URL: &str = "wss://gw.example/ws";

impl Bench {
    /// Permits the gateway, registers, and is told of it.
    fn with_gateway(named: &str) -> Self {
        let mut bench = Self::with(|config| {
            config.gateways = Vec::from(["gw.example".to_string()]);
            config.encrypted = true;
            config.info.agent_version = "1.9".into();
        });
        bench.connect();
        bench.register_with(json!({"cluster_id": "6f1c", "cluster_uuid": "u-1",
            "gateway_ws_url": named}));
        bench
    }

    pub(super) fn register_with(&mut self, payload: Value) {
        let sent = self.sent();
        let register = sent.iter().find(|v| v["type"] == "register").unwrap();
        let id = register["request_id"].clone();
        let message = json!({"type": "register_success", "request_id": id, "payload": payload});
        self.frame(message);
    }

    /// The dials that were begun.
    fn dials(&mut self) -> Vec<(ConnId, Endpoint)> {
        let dials = self.take().into_iter().filter_map(|action| match action {
            Action::Connect(conn, endpoint) => Some((conn, endpoint)),
            _ => None,
        });
        dials.collect()
    }

    /// On the gateway's link, everything said on the way forgotten.
    fn at_gateway() -> (Self, ConnId) {
        let mut bench = Self::with_gateway(URL);
        let conn = bench.dials()[0].0;
        bench.input(Input::Connected(conn));
        bench.take();
        (bench, conn)
    }

    fn notices(&mut self) -> Vec<Notice> {
        let notices = self.take().into_iter().filter_map(|action| match action {
            Action::Notice(notice) => Some(notice),
            _ => None,
        });
        notices.collect()
    }
}

fn query(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Gateway(url) => url.clone(),
        Endpoint::Controller => String::new(),
    }
}

#[test]
fn p007_p180_the_gateway_is_dialled_beside_the_link_that_goes_on() {
    let mut bench = Bench::with_gateway(URL);
    let old = bench.agent.phase().conn().unwrap();
    bench.run();
    let closes = bench.actions.iter();
    let closes = closes.filter(|a| matches!(a, Action::Close(..)));
    // W-37: the original closes the old link first.
    assert_eq!(closes.count(), 0);
    let dials = bench.dials();
    assert_eq!(dials.len(), 1);
    let url = query(&dials[0].1);
    assert!(url.starts_with("wss://gw.example/ws?agent_version=1.9&cluster_uuid=u-1&"));
    assert!(!url.contains("token"));
    assert_eq!(bench.agent.phase(), Phase::Ready(old));
    let running = bench.request("r");
    bench.input(Input::Connected(dials[0].0));
    let actions = bench.take();
    let close = actions.iter().find_map(|a| match a {
        Action::Close(conn, code, _) => Some((*conn, *code)),
        _ => None,
    });
    assert_eq!(close, Some((old, CloseCode::Normal)));
    assert!(actions.contains(&Action::Reset(running)));
    assert_eq!(bench.agent.phase(), Phase::Ready(dials[0].0));
}

#[test]
fn p009_p085_the_first_message_to_a_gateway_is_a_heartbeat() {
    let mut bench = Bench::with_gateway(URL);
    let conn = bench.dials()[0].0;
    bench.input(Input::Connected(conn));
    assert_eq!(bench.sent_types(), ["heartbeat"]);
    bench.pass_alive(secs(31));
    let types = bench.sent_types();
    assert!(types.iter().all(|t| t == "heartbeat") && !types.is_empty());
    bench.request("r");
}

#[test]
fn p180_a_gateway_that_fails_leaves_the_agent_at_work() {
    let failures = [
        Down::Lost("refused".into()),
        Down::Refused {
            status: 401,
            retry_after: None,
        },
    ];
    for down in failures {
        let mut bench = Bench::with_gateway(URL);
        let old = bench.agent.phase().conn().unwrap();
        let dial = bench.dials()[0].0;
        bench.input(Input::Disconnected(dial, down));
        let notices = bench.notices();
        let Some(Notice::GatewayAway { delay, .. }) = notices.first() else {
            panic!("not told: {notices:?}")
        };
        assert_eq!(bench.agent.phase(), Phase::Ready(old));
        bench.request("r");
        // And it is tried again, later and later.
        bench.pass_alive(*delay + secs(5));
        assert_eq!(bench.dials().len(), 1);
    }
}

#[test]
fn p180_a_gateway_that_keeps_silent_is_given_up_in_time() {
    let mut bench = Bench::with_gateway(URL);
    let old = bench.agent.phase().conn().unwrap();
    let dial = bench.dials()[0].0;
    bench.pass_alive(secs(31));
    let closed = |a: &Action| matches!(a, Action::Close(conn, ..) if *conn == dial);
    assert!(bench.take().iter().any(closed));
    assert_eq!(bench.agent.phase(), Phase::Ready(old));
    // Its late success means nothing.
    bench.input(Input::Connected(dial));
    assert_eq!(bench.agent.phase(), Phase::Ready(old));
    assert_eq!(bench.agent.stats().stale_inputs, 1);
}

#[test]
fn p184_the_same_identity_on_every_dial() {
    let (mut bench, conn) = Bench::at_gateway();
    bench.input(Input::Disconnected(conn, Down::Lost("cut".into())));
    bench.take();
    bench.pass(secs(2));
    let dials = bench.dials();
    assert!(query(&dials[0].1).contains("cluster_uuid=u-1&"));
    // The gateway knows who comes: no registration, and the state is told again.
    bench.input(Input::Connected(dials[0].0));
    let actions = bench.take();
    let registered = actions.iter().find_map(|a| match a {
        Action::Registered(registration) => Some(&*registration.cluster_id),
        _ => None,
    });
    assert_eq!(registered, Some("6f1c"));
    let sends = actions.iter().filter(|a| matches!(a, Action::Send(..)));
    assert_eq!(sends.count(), 1, "one heartbeat");
}

#[test]
fn p180_a_gateway_that_is_lost_and_not_found_again_leads_back_to_the_controller() {
    let (mut bench, conn) = Bench::at_gateway();
    bench.input(Input::Disconnected(conn, Down::Lost("cut".into())));
    bench.pass(secs(2));
    let again = bench.dials()[0].0;
    let refused = Down::Refused {
        status: 403,
        retry_after: None,
    };
    bench.input(Input::Disconnected(again, refused));
    // What a gateway refuses is no reason to keep the controller waiting.
    bench.pass(secs(4));
    let dials = bench.dials();
    assert_eq!(dials[0].1, Endpoint::Controller);
    bench.input(Input::Connected(dials[0].0));
    bench.register_with(json!({"cluster_id": "6f1c", "gateway_ws_url": URL}));
    assert!(bench.dials().is_empty(), "the gateway failed a moment ago");
    bench.request("r");
    bench.pass_alive(secs(4));
    assert_eq!(bench.dials().len(), 1);
}

#[test]
fn p182_a_gateway_that_does_not_know_the_cluster_leads_to_a_real_registration() {
    let (mut bench, _) = Bench::at_gateway();
    bench.frame(json!({"type": "error", "payload": {"error": "Cluster not found"}}));
    bench.pass(secs(4));
    let dials = bench.dials();
    assert_eq!(dials[0].1, Endpoint::Controller);
    bench.input(Input::Connected(dials[0].0));
    let sent = bench.sent();
    assert_eq!(sent[0]["type"], "register");
    assert!(sent[0]["payload"].get("cluster_id").is_none());
}

#[test]
fn a_gateway_that_is_not_permitted_is_not_dialled() {
    for (named, fault) in [
        ("wss://evil.example/ws", PeerFault::NotPermitted),
        ("ws://gw.example/ws", PeerFault::Gateway),
        ("gw.example", PeerFault::Gateway),
    ] {
        let mut bench = Bench::with_gateway(named);
        let old = bench.agent.phase();
        let actions = bench.take();
        assert!(actions.contains(&Action::Notice(Notice::GatewayRefused(fault))));
        assert!(!actions.iter().any(|a| matches!(a, Action::Connect(..))));
        assert_eq!(bench.agent.phase(), old);
    }
}

#[test]
fn a_lost_link_gives_the_other_dial_up() {
    let mut bench = Bench::with_gateway(URL);
    let dial = bench.dials()[0].0;
    bench.cut();
    let actions = bench.take();
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::Close(conn, ..) if *conn == dial))
    );
    bench.input(Input::Connected(dial));
    bench.pass(secs(2));
    assert_eq!(bench.dials().len(), 1, "never two at once");
}

#[test]
fn a_demand_to_register_gives_the_other_dial_up() {
    let mut bench = Bench::with_gateway(URL);
    let dial = bench.dials()[0].0;
    bench.frame(json!({"type": "error", "payload": {"error": "not registered"}}));
    let actions = bench.take();
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::Close(conn, ..) if *conn == dial))
    );
    assert!(matches!(bench.agent.phase(), Phase::Registering(_)));
}

#[test]
fn p177_a_shutdown_gives_the_other_dial_up() {
    let mut bench = Bench::with_gateway(URL);
    let dial = bench.dials()[0].0;
    bench.input(Input::Shutdown(secs(5)));
    let actions = bench.take();
    let closes: Vec<ConnId> = actions
        .iter()
        .filter_map(|a| match a {
            Action::Close(conn, ..) => Some(*conn),
            _ => None,
        })
        .collect();
    assert_eq!(closes, [dial, ConnId(1)]);
    assert_eq!(actions.last(), Some(&Action::Stopped));
}

#[test]
fn a_gateway_link_that_was_stable_is_looked_for_at_once_next_time() {
    let (mut bench, conn) = Bench::at_gateway();
    bench.pass_alive(secs(70));
    bench.take();
    bench.input(Input::Disconnected(conn, Down::Lost("cut".into())));
    let (delay, attempt, _) = bench.reconnect().unwrap();
    assert!(attempt == 1 && delay <= Duration::from_millis(500));
}

#[test]
fn p070_p050_a_greeting_that_asks_for_yamux_is_answered_once() {
    let mut bench = Bench::registered();
    let hello = |yamux: Value| {
        json!({"type": "gateway_hello", "payload": {"use_yamux": yamux,
        "yamux_config": {"max_stream_window_size": 262_144}}})
    };
    for unasked in [json!(false), json!("true"), json!(1), Value::Null] {
        bench.frame(hello(unasked));
    }
    assert!(bench.sent().is_empty());
    bench.frame(hello(json!(true)));
    bench.frame(hello(json!(true)));
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["type"], "gateway_hello_ack");
    let payload = json!({"use_yamux": true, "stream_protocols": [1, 2, 16, 17]});
    assert_eq!(sent[0]["payload"], payload);
}

#[test]
fn p050_an_agent_without_the_fast_mode_declines_it() {
    let mut bench = Bench::registered_with(|config| config.yamux = false);
    bench.frame(json!({"type": "gateway_hello", "payload": {"use_yamux": true}}));
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["payload"], json!({"use_yamux": false}));
}

#[test]
fn p087_a_link_that_was_stable_before_the_gateway_took_over_resets_the_backoff() {
    let mut bench = Bench::with(|config| {
        config.gateways = Vec::from(["gw.example".to_string()]);
        config.encrypted = true;
    });
    // One failure, then a link to the controller that is good for long.
    bench.run();
    let conn = bench.agent.phase().conn().unwrap();
    bench.input(Input::Disconnected(conn, Down::Lost("refused".into())));
    let (delay, attempt, _) = bench.reconnect().unwrap();
    assert_eq!(attempt, 1);
    bench.pass(delay);
    bench.connect();
    bench.register_with(json!({"cluster_id": "6f1c", "gateway_ws_url": URL}));
    let refused = bench.dials()[0].0;
    bench.input(Input::Disconnected(refused, Down::Lost("refused".into())));
    let mut moved = None;
    while moved.is_none() || bench.now - Time::ZERO < Duration::from_secs(70) {
        if let Some((conn, _)) = bench.dials().pop() {
            let late = bench.now - Time::ZERO > Duration::from_secs(62);
            match late {
                true => moved = Some(conn),
                false => bench.input(Input::Disconnected(conn, Down::Lost("refused".into()))),
            }
        }
        bench.pass_alive(Duration::from_secs(1));
    }
    bench.input(Input::Connected(moved.unwrap()));
    bench.take();
    let down = Down::Lost("cut".into());
    bench.input(Input::Disconnected(moved.unwrap(), down));
    let (_, attempt, _) = bench.reconnect().unwrap();
    assert_eq!(attempt, 1);
}

#[test]
fn a_listed_gateway_that_is_no_host_is_an_error_of_the_configuration() {
    let mut config = AgentConfig::new("agent-1", "prod");
    config.gateways = Vec::from(["gw.example".into(), "wss://gw.example/ws".into()]);
    let start = Start {
        now: Time::ZERO,
        unix: Duration::ZERO,
        nonce: [0; 16],
    };
    let refused = Agent::new(config, start);
    assert_eq!(refused.err(), Some(ConfigError::Gateway));
}

#[test]
fn p180_a_gateway_that_keeps_nobody_leads_back_to_the_controller() {
    let mut bench = Bench::with_gateway(URL);
    let dial = bench.dials()[0].0;
    bench.input(Input::Connected(dial));
    bench.take();
    let mut endpoints = Vec::new();
    let mut conn = dial;
    for up in [70, 1, 70, 1, 1] {
        bench.pass_alive(secs(up));
        bench.input(Input::Disconnected(conn, Down::Lost("cut".into())));
        let (delay, ..) = bench.reconnect().unwrap();
        bench.pass(delay);
        let (next, endpoint) = bench.dials().pop().unwrap();
        endpoints.push(matches!(endpoint, Endpoint::Gateway(_)));
        bench.input(Input::Connected(next));
        bench.take();
        conn = next;
    }
    // Only the second in a row that did not last.
    assert_eq!(endpoints, [true, true, true, true, false]);
}

#[test]
fn p148_a_gateways_url_that_is_too_long_is_refused_and_not_kept() {
    let mut bench = Bench::with(|config| {
        config.gateways = Vec::from(["gw.example".to_string()]);
    });
    bench.connect();
    let url = alloc::format!("{URL}?{}", "é".repeat(100_000));
    bench.register_with(json!({"cluster_id": "6f1c", "gateway_ws_url": url}));
    let actions = bench.take();
    let refused = Action::Notice(Notice::GatewayRefused(PeerFault::Gateway));
    assert!(actions.contains(&refused));
    let kept = actions.iter().find_map(|action| match action {
        Action::Registered(registration) => Some(registration.gateway_ws_url.len()),
        _ => None,
    });
    assert!(kept.is_some_and(|len| (2049..=2 * 2049).contains(&len)));
}
