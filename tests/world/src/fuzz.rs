//! Bodies of the fuzz targets, here so that stable tests run them too.

mod calls;
mod differential;
mod roundtrip;

use controlplane_core::{
    Action, Agent, AgentConfig, ConnId, Controller, ControllerConfig, Frame, Input, Kind, Limits,
    Machine, OutFrame, RequestHead, ResponseHead, Socket, Start, StreamEnd, Target, Time,
    Transport, Tunnel,
    rules::{self, IdentityPolicy, TunnelTarget},
};

pub use self::{
    calls::{agent_calls, controller_calls},
    differential::differential,
    roundtrip::roundtrip,
};
use crate::{
    message::{field, message},
    mux,
    rng::Rng,
};

const CONN: ConnId = ConnId(1);
/// So many actions in a row are no work but a loop.
const BUDGET: usize = 100_000;
const START: Start = Start {
    now: Time::ZERO,
    unix: std::time::Duration::from_secs(1_795_412_045),
    nonce: [0; 16],
};

/// A world that the bytes decide, weather and all, shorter than those of seeds.
///
/// # Panics
///
/// If a rule does not hold; with what happened before.
pub fn world(data: &[u8]) {
    if let Err(violation) = crate::run(&crate::Setup::of_bytes(data)) {
        panic!("{violation}");
    }
}

/// Any bytes as what a yamux session reads, in either role.
///
/// # Panics
///
/// If a promise of the session is broken.
pub fn yamux_decode(data: &[u8]) {
    mux::garbage(data);
}

/// Any calls of yamux sessions in any order, as the bytes decide: of two ends that talk to each other,
/// or of one whose peer says anything.
///
/// # Panics
///
/// If a rule does not hold.
pub fn yamux_calls(data: &[u8]) {
    let mut rng = Rng::of_bytes(data);
    match rng.below(2) {
        0 => _ = mux::pair(&mut rng),
        _ => mux::hostile(&mut rng),
    }
}

/// Any bytes, cut at newlines, as messages to both machines once they are registered, and as
/// arguments of the rules.
///
/// The agent has no request open, the controller has three whose names end in `-1` to `-3`, and two
/// for WebSocket streams: `-4`, which is open and has a result to tell, and `-5`, which is not; and
/// the TCP tunnel `-6`, and port 1 of the UDP tunnel `t`.
///
/// # Panics
///
/// If a promise of the core is broken.
pub fn decode(data: &[u8]) {
    let mut agent = registered_agent();
    let mut controller = registered_controller();
    for transport in [Transport::Tcp, Transport::Udp] {
        let tunnel = Tunnel {
            transport,
            tunnel_id: "t".into(),
            client_port: 1,
            ..Tunnel::default()
        };
        assert!(controller.open_tunnel(Time::ZERO, tunnel).is_ok());
    }
    for (i, frame) in data.split(|b| *b == b'\n').take(64).enumerate() {
        let text = std::str::from_utf8(frame).ok();
        let frame = text
            .filter(|_| i % 2 == 0)
            .map_or(Frame::Binary(frame), Frame::Text);
        agent.handle(Time::ZERO, Input::Frame(CONN, frame));
        settle(&mut agent);
        controller.handle(Time::ZERO, Input::Frame(CONN, frame));
        settle(&mut controller);
    }
    rules_hold(&String::from_utf8_lossy(data));
}

/// An agent with small bounds, registered on its first connection.
///
/// # Panics
///
/// If it does not register.
pub(crate) fn registered_agent() -> Agent {
    let mut config = AgentConfig::new("agent-1", "fuzz");
    config.limits = SMALL;
    config.tunnels = targets();
    config.gateways = Vec::from([".gw.test".to_string()]);
    let Ok(mut agent) = Agent::new(config, START) else {
        panic!("the configuration is refused")
    };
    agent.handle(Time::ZERO, Input::Connected(CONN));
    let register = std::iter::from_fn(|| agent.poll(Socket::Ready(CONN)))
        .find_map(|action| match action {
            Action::Send(_, OutFrame::Text(text)) => Some(text),
            _ => None,
        })
        .unwrap_or_default();
    let id = field(&register, "request_id").unwrap_or_default();
    let success = format!(
        r#"{{"type":"register_success","request_id":"{id}","payload":{{"cluster_id":"c"}}}}"#
    );
    agent.handle(Time::ZERO, Input::Frame(CONN, Frame::Text(&success)));
    settle(&mut agent);
    assert_eq!(agent.stats().registrations, 1);
    agent
}

/// A controller with small bounds, its agent registered, and three requests open: one without a
/// body, one with half of its body sent, one answered in part; and two streams, of which one is
/// accepted.
///
/// # Panics
///
/// If the agent is not taken for registered.
pub(crate) fn registered_controller() -> Controller {
    let mut config = ControllerConfig::new("cluster-1", "fuzz");
    config.limits = SMALL;
    let Ok(mut controller) = Controller::new(config, START) else {
        panic!("the configuration is refused")
    };
    controller.handle(Time::ZERO, Input::Accepted(CONN));
    let register = r#"{"type":"register","request_id":"r","payload":{"agent_id":"a",
        "features":{"supports_streaming":true,"supports_response_streaming":true,
        "upgrade_answer":true,"response_window":true,"request_window":2000,"tunnels":true}}}"#;
    controller.handle(Time::ZERO, Input::Frame(CONN, Frame::Text(register)));
    for has_body in [false, true, false] {
        let head = RequestHead {
            method: "POST".into(),
            path: "/api".into(),
            ..RequestHead::default()
        };
        let opened = controller.open(Time::ZERO, head, has_body);
        let Ok(id) = opened else {
            panic!("the request is refused")
        };
        if has_body {
            let half = b"half of it".as_slice().into();
            assert!(controller.send(id, Kind::Bytes, half).is_ok());
        }
    }
    for offered in [Vec::from(["v5.channel.k8s.io".to_string()]), Vec::new()] {
        let opened = controller.open_websocket(Time::ZERO, exec(), offered);
        assert!(opened.is_ok());
    }
    // None is answered before it is asked.
    settle(&mut controller);
    let upgrade = r#"{"status":101,"headers":{"Sec-WebSocket-Protocol":["v5.channel.k8s.io"]}}"#;
    for (number, answer) in [(3, r#"{"status":200}"#), (4, upgrade)] {
        let id = format!("00000000000000000000000000000000-{number}");
        let begun = message("proxy_response_header", &id, answer);
        controller.handle(Time::ZERO, Input::Frame(CONN, Frame::Text(&begun)));
    }
    settle(&mut controller);
    assert_eq!(controller.stats().streams_open, 5);
    controller
}

/// Where tunnels may lead.
pub(crate) fn targets() -> Vec<TunnelTarget> {
    let service = TunnelTarget::service("web", "default", 80);
    let local = TunnelTarget::Local { port: 8080 };
    service.into_iter().chain([local]).collect()
}

/// A request for a terminal.
pub(crate) fn exec() -> RequestHead {
    RequestHead {
        method: "GET".into(),
        path: "/api/exec".into(),
        ..RequestHead::default()
    }
}

/// Bounds that a few kilobytes reach.
const SMALL: Limits = Limits {
    frame: 64 << 10,
    streams: 8,
    recv_stream: 4 << 10,
    recv_total: 8 << 10,
    send_stream: 4 << 10,
    send_total: 8 << 10,
    control: 8,
    chunk: 1000,
    message: 3 << 10,
    buffered: 4 << 10,
    buffered_total: 6 << 10,
    head: 2 << 10,
    window: 1,
};

/// Does what a machine says until it has no more to say, every delivery taken at once.
fn settle(machine: &mut impl Machine) {
    assert!(machine.deadline().is_none_or(|at| at > Time::ZERO));
    for _ in 0..BUDGET {
        let Some(action) = machine.poll(Socket::Ready(CONN)) else {
            let stats = machine.stats();
            // Of JSON, and of the fast mode.
            assert!(stats.streams_open <= 16 && stats.held_in <= 16 << 10);
            return;
        };
        match action {
            Action::Deliver(id, _, data) => {
                machine.handle(Time::ZERO, Input::Consumed(id, data.len()));
            }
            // Half of them end or open at once, the others stay for what comes next.
            Action::Open(id, Target::Http { .. }) | Action::Closed(id, ..) if id.0 % 2 == 0 => {
                machine.handle(Time::ZERO, Input::Ended(id, StreamEnd::Clean));
            }
            Action::Open(id, Target::Tcp { .. } | Target::Udp { .. }) if id.0 % 2 == 0 => {
                machine.handle(Time::ZERO, Input::Head(id, ResponseHead::default()));
                assert!(machine.send(id, Kind::Datagram, "hello".into()).is_ok());
            }
            Action::Open(id, Target::WebSocket { .. }) if id.0 % 2 == 0 => {
                let head = ResponseHead {
                    status: 101,
                    headers: Vec::new(),
                };
                machine.handle(Time::ZERO, Input::Head(id, head));
                let said = machine.send(id, Kind::Binary, "\u{1}hello".into());
                assert!(said.is_ok());
            }
            Action::Send(_, OutFrame::Text(text)) => assert_is_line(&text),
            _ => {}
        }
    }
    panic!("the machine does not come to rest");
}

/// P-010: one object and a newline.
fn assert_is_line(text: &str) {
    let inner = text.strip_suffix("}\n").and_then(|t| t.strip_prefix('{'));
    let fine = inner.is_some_and(|t| !t.bytes().any(|b| b < 0x20));
    assert!(fine, "not one line of JSON");
}

/// What the rules let pass is what they promise, and passes again unchanged.
fn rules_hold(text: &str) {
    let mut parts = text.splitn(4, '\n');
    let mut part = || parts.next().unwrap_or_default();
    let (method, path, query, rest) = (part(), part(), part(), part());
    if rules::check_path(path).is_ok() {
        assert!(path.starts_with('/') && path.is_ascii());
        assert!(!path.bytes().any(|b| b <= b' ' || b == b'?' || b == b'#'));
        assert!(!path.split('/').any(|s| s == "." || s == ".."));
    }
    if rules::check_query(query).is_ok() {
        assert!(!query.bytes().any(|b| b <= b' ' || b == b'#' || b >= 0x7f));
    }
    let pair = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        (name.to_string(), value.to_string())
    };
    let headers: Vec<(String, String)> = rest.split('\n').map(pair).collect();
    for policy in [
        IdentityPolicy::ServiceAccount,
        IdentityPolicy::Impersonate,
        IdentityPolicy::Caller,
    ] {
        if let Ok(kept) = rules::upstream_headers(headers.clone(), policy) {
            assert_passable(&kept);
            let is = |name: &str| kept.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
            assert!(!is("host") && !is("cookie"));
            assert!(policy == IdentityPolicy::Caller || !is("authorization"));
            assert!(policy != IdentityPolicy::ServiceAccount || !is("impersonate-user"));
            assert_eq!(rules::upstream_headers(kept.clone(), policy), Ok(kept));
        }
        let query = Some(query).filter(|q| !q.is_empty());
        let head = rules::request_head(method, path, query, headers.clone(), policy, 1000);
        if let Ok(head) = head {
            assert!(rules::check_path(&head.path).is_ok());
            assert!(head.method.len() + head.path.len() <= 1000);
        }
    }
    for status in [101, 200] {
        let kept = rules::response_headers(status, headers.clone());
        if status == 200 {
            assert_passable(&kept);
        }
        assert_eq!(rules::response_headers(status, kept.clone()), kept);
    }
}

fn assert_passable(headers: &[(String, String)]) {
    for (name, value) in headers {
        let hop = ["connection", "transfer-encoding", "upgrade", "te"];
        assert!(!hop.iter().any(|hop| name.eq_ignore_ascii_case(hop)));
        assert!(!name.is_empty() && !name.bytes().any(|b| b <= b' '));
        assert!(!value.bytes().any(|b| b == b'\r' || b == b'\n' || b == 0));
    }
    let lengths = headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    assert!(lengths.count() <= 1);
}
