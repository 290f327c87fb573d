//! Whether the fast mode is on, and how it ends.

use alloc::string::ToString;

use super::*;

#[test]
fn p070_p050_an_agent_that_offers_it_is_greeted_before_it_counts_as_joined() {
    let mut pair = Pair::new();
    let types: Vec<String> = pair
        .said
        .iter()
        .map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap()["type"].to_string())
        .collect();
    let place = |name: &str| {
        types
            .iter()
            .position(|it| *it == alloc::format!("{name:?}"))
    };
    assert!(place("register_success") < place("gateway_hello"));
    assert!(place("gateway_hello") < place("gateway_hello_ack"));
    let joined = pair
        .at_controller
        .iter()
        .filter(|action| matches!(action, Action::Joined(C, joined) if joined.http_streams));
    assert_eq!(joined.count(), 1);
    assert_eq!(pair.joined(), Some((true, true)));
    // JSON goes on beside it.
    let head = crate::RequestHead {
        method: "GET".into(),
        path: "/api".into(),
        ..Default::default()
    };
    assert!(pair.controller.open(pair.now, head, false).is_ok());
    pair.run();
    let by_json = |action: &Action| matches!(action, Action::Open(_, Target::Http { .. }));
    assert!(pair.at_agent.iter().any(by_json));
}

#[test]
fn p070_either_end_may_do_without() {
    let without: [fn() -> Pair; 2] = [
        || Pair::with(|config| config.yamux = false, |_| {}),
        || Pair::with(|_| {}, |config| config.yamux = false),
    ];
    for pair in without {
        let mut pair = pair();
        assert_eq!(pair.joined(), Some((false, false)));
        assert!(!pair.said.iter().any(|text| text.contains("gateway_hello")));
        assert_eq!(pair.controller.open_http(pair.now), Err(OpenError::Mode));
    }
}

/// An agent that says what it is told to.
fn scripted(controller: &mut Controller, now: Time, text: &str) {
    controller.handle(now, Input::Frame(C, Frame::Text(text)));
    while controller.poll(Socket::Ready(C)).is_some() {}
}

fn greeted() -> Controller {
    let config = ControllerConfig::new("6f1c", "prod");
    let mut controller = Controller::new(config, start()).unwrap();
    controller.handle(Time::ZERO, Input::Accepted(C));
    let register = r#"{"type":"register","request_id":"r","payload":{"agent_id":"a",
        "features":{"supports_yamux":true}}}"#;
    scripted(&mut controller, Time::ZERO, register);
    assert!(controller.joined().is_none());
    assert_eq!(controller.open_http(Time::ZERO), Err(OpenError::Away));
    controller
}

#[test]
fn p084_an_agent_that_does_not_answer_the_greeting_gets_its_requests_by_json() {
    let mut controller = greeted();
    // It is registered all the same, and its heartbeats are acknowledged.
    controller.handle(
        Time::ZERO,
        Input::Frame(C, Frame::Text(r#"{"type":"heartbeat"}"#)),
    );
    let said = core::iter::from_fn(|| controller.poll(Socket::Ready(C)));
    let acks = said.filter(|action| match action {
        Action::Send(_, OutFrame::Text(text)) => text.contains("heartbeat_ack"),
        _ => false,
    });
    assert_eq!(acks.count(), 1);
    let later = Time::since_origin(Duration::from_secs(10));
    controller.handle(later, Input::Tick);
    assert!(controller.joined().is_some_and(|joined| !joined.yamux));
    assert_eq!(controller.open_http(later), Err(OpenError::Mode));
    // Late is better than never.
    let ack =
        r#"{"type":"gateway_hello_ack","payload":{"use_yamux":true,"stream_protocols":[16]}}"#;
    scripted(&mut controller, later, ack);
    assert!(
        controller
            .joined()
            .is_some_and(|joined| joined.http_streams)
    );
    assert!(controller.open_http(later).is_ok());
}

#[test]
fn p050_an_agent_that_lists_no_protocols_gets_tcp_and_udp_streams_only() {
    let mut controller = greeted();
    let ack = r#"{"type":"gateway_hello_ack","payload":{"use_yamux":true}}"#;
    scripted(&mut controller, Time::ZERO, ack);
    let joined = controller.joined().unwrap();
    assert_eq!((joined.yamux, joined.http_streams), (true, false));
    assert_eq!(controller.open_http(Time::ZERO), Err(OpenError::Mode));
    assert!(
        controller
            .open_service(Time::ZERO, tunnels::redis(Transport::Tcp))
            .is_ok()
    );
}

#[test]
fn p050_an_agent_that_declines_gets_its_requests_by_json() {
    let mut controller = greeted();
    let ack = r#"{"type":"gateway_hello_ack","payload":{"use_yamux":false}}"#;
    scripted(&mut controller, Time::ZERO, ack);
    assert!(controller.joined().is_some_and(|joined| !joined.yamux));
}

#[test]
fn an_answer_to_no_greeting_changes_nothing() {
    let config = ControllerConfig::new("6f1c", "prod");
    let mut controller = Controller::new(config, start()).unwrap();
    controller.handle(Time::ZERO, Input::Accepted(C));
    let ack =
        r#"{"type":"gateway_hello_ack","payload":{"use_yamux":true,"stream_protocols":[16]}}"#;
    scripted(&mut controller, Time::ZERO, ack);
    let register = r#"{"type":"register","request_id":"r","payload":{"agent_id":"a"}}"#;
    scripted(&mut controller, Time::ZERO, register);
    scripted(&mut controller, Time::ZERO, ack);
    assert!(controller.joined().is_some_and(|joined| !joined.yamux));
}

/// An agent whose gateway speaks yamux, but none of our protocols.
fn foreign() -> Agent {
    foreign_with(|_| {})
}

fn foreign_with(change: impl FnOnce(&mut AgentConfig)) -> Agent {
    let mut config = AgentConfig::new("agent-1f2e", "prod");
    change(&mut config);
    config.tunnels = ["redis.cache:6379".parse().unwrap()].into();
    let mut agent = Agent::new(config, start()).unwrap();
    agent.handle(Time::ZERO, Input::Connected(A));
    says(
        &mut agent,
        r#"{"type":"gateway_hello","payload":{"use_yamux":true}}"#,
    );
    agent
}

fn says(agent: &mut Agent, text: &str) {
    agent.handle(Time::ZERO, Input::Frame(A, Frame::Text(text)));
}

/// All that the agent sends now, texts alone.
fn texts(agent: &mut Agent) -> String {
    let said = core::iter::from_fn(|| agent.poll(Socket::Ready(A)));
    let texts = said.filter_map(|action| match action {
        Action::Send(_, OutFrame::Text(text)) => Some(text),
        _ => None,
    });
    texts.collect()
}

/// Answers a request whole, with 20,000 bytes.
fn answers(agent: &mut Agent, name: &str) {
    let request = alloc::format!(
        r#"{{"type":"proxy_request","request_id":"{name}","payload":{{"path":"/api"}}}}"#
    );
    says(agent, &request);
    let opened = core::iter::from_fn(|| agent.poll(Socket::Ready(A)));
    let ids = opened.filter_map(|action| match action {
        Action::Open(id, _) => Some(id),
        _ => None,
    });
    let id = ids.last().unwrap();
    let head = crate::ResponseHead {
        status: 200,
        headers: Vec::new(),
    };
    agent.handle(Time::ZERO, Input::Head(id, head));
    let body = Bytes::from(alloc::vec![7; 20_000]);
    assert_eq!(agent.send(id, crate::Kind::Bytes, body), Ok(()));
    agent.handle(Time::ZERO, Input::Ended(id, StreamEnd::Clean));
}

#[test]
fn t043_a_long_answer_is_no_frame_while_binary_messages_are_yamux() {
    let mut agent = foreign_with(|config| config.binary_answers = true);
    answers(&mut agent, "during");
    let said = texts(&mut agent);
    assert!(said.contains("proxy_response") && said.contains("during"));
    // The session ends, and binary messages mean what they meant.
    agent.handle(
        Time::ZERO,
        Input::Frame(A, Frame::Binary(b"no yamux at all")),
    );
    answers(&mut agent, "after");
    let said = core::iter::from_fn(|| agent.poll(Socket::Ready(A)));
    let frames = said.filter(|action| match action {
        Action::Send(_, OutFrame::Binary(frame)) => frame.starts_with(b"\0\x05after"),
        _ => false,
    });
    assert_eq!(frames.count(), 1);
}

#[test]
fn p150_the_end_of_a_session_gives_binary_messages_their_meaning_back() {
    // W-07: in the original they are dropped from then on.
    let ping = br#"{"type":"ping","request_id":"binary"}"#;
    for end in [
        &b"no yamux at all"[..],
        &[0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ] {
        let mut agent = foreign();
        assert!(texts(&mut agent).contains("gateway_hello_ack"));
        agent.handle(Time::ZERO, Input::Frame(A, Frame::Binary(end)));
        agent.handle(Time::ZERO, Input::Frame(A, Frame::Binary(ping)));
        assert!(texts(&mut agent).contains("pong"));
        assert!(agent.phase().open().is_some());
        // And it can be begun anew.
        says(
            &mut agent,
            r#"{"type":"gateway_hello","payload":{"use_yamux":true}}"#,
        );
        assert!(texts(&mut agent).contains("gateway_hello_ack"));
    }
}

#[test]
fn p119_a_gateway_that_lists_no_protocols_opens_no_connection_to_the_kubernetes_api() {
    let mut agent = foreign();
    let mut gateway = Session::new(Role::Server, Config::default(), Time::ZERO);
    for head in [
        Head::http(),
        Head::of(tunnels::redis(Transport::Tcp), Protocol::Tcp).unwrap(),
    ] {
        let wire = gateway.open(Time::ZERO).unwrap();
        gateway.send(wire, head.encode()).unwrap();
    }
    while let Some(bytes) = gateway.transmit(Time::ZERO) {
        agent.handle(Time::ZERO, Input::Frame(A, Frame::Binary(&bytes)));
    }
    let mut opened = Vec::new();
    while let Some(action) = agent.poll(Socket::Ready(A)) {
        match action {
            Action::Open(_, target) => opened.push(target),
            Action::Send(_, OutFrame::Binary(bytes)) => gateway.receive(Time::ZERO, &bytes),
            _ => {}
        }
    }
    assert!(matches!(
        &*opened,
        [Target::Tcp {
            half_close: true,
            ..
        }]
    ));
    let events: Vec<Event> = core::iter::from_fn(|| gateway.event()).collect();
    assert_eq!(events, [Event::Reset(2, ResetBy::Peer)]);
}

#[test]
fn the_end_of_the_session_is_the_end_of_the_link_between_our_ends() {
    let mut pair = Pair::new();
    let (here, there) = pair.http();
    pair.cut = true;
    pair.agent_hears(Input::Frame(A, Frame::Binary(b"no yamux at all")));
    assert_eq!(pair.agent_events(there), [Action::Reset(there)]);
    let reason = Reason::Session(SessionError::Version(b'n'));
    let lost = |action: &Action| matches!(action, Action::ReconnectAfter { reason: it, .. } if *it == reason);
    assert!(pair.at_agent.iter().any(lost));
    pair.controller_hears(Input::Frame(C, Frame::Binary(b"no yamux at all")));
    let failed = Action::Failed(here, Failure::Disconnected);
    assert_eq!(pair.controller_events(here), [failed]);
    assert!(pair.at_controller.contains(&Action::Left(reason)));
    assert_eq!(pair.joined(), None);
    assert_eq!(pair.controller.stats().streams_open, 0);
    assert_eq!(pair.agent.stats().streams_open, 0);
}

/// P-061: it cannot come, and nobody is to wait for it (P-190).
#[test]
fn p061_a_body_in_a_binary_frame_is_refused_beside_yamux() {
    let mut agent = foreign();
    texts(&mut agent);
    let asked = r#"{"type":"proxy_request","request_id":"r","payload":{"method":"POST","path":"/api","body_binary":true}}"#;
    says(&mut agent, asked);
    let answer = texts(&mut agent);
    assert!(answer.contains("proxy_error"), "{answer}");
    assert!(answer.contains("beside yamux is not supported"), "{answer}");
}
