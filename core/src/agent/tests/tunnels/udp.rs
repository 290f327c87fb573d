//! Those of UDP (P-052, P-125, P-198).

use super::*;

#[test]
fn p198_each_client_of_a_udp_tunnel_has_a_socket_of_its_own() {
    let mut bench = Bench::tunnelled();
    bench.datagram("u", ("203.0.113.9", 1), Some(b"a"));
    let (first, target) = bench.dialled().unwrap();
    let udp = Target::Udp {
        host: "localhost".into(),
        port: 53,
    };
    assert_eq!(target, udp);
    bench.datagram("u", ("203.0.113.9", 2), Some(b"b"));
    let (second, _) = bench.dialled().unwrap();
    bench.datagram("u", ("203.0.113.9", 1), None);
    assert!(bench.dialled().is_none());
    assert_eq!(bench.datagrams(first), [b"a".to_vec(), Vec::new()]);
    assert_eq!(bench.datagrams(second), [b"b".to_vec()]);
    // W-55: the original sends the answer to both.
    bench.input(Input::Head(second, ResponseHead::default()));
    bench
        .agent
        .send(second, Kind::Datagram, "answer".into())
        .unwrap();
    bench
        .agent
        .send(second, Kind::Datagram, Bytes::new())
        .unwrap();
    let sent = bench.sent();
    assert_eq!(sent.len(), 2, "datagrams are not joined, and may be empty");
    assert_eq!(
        sent[0],
        json!({"type": "udp_tunnel_data", "payload": {"tunnel_id": "u",
        "data": base64(b"answer"), "client_addr": "203.0.113.9", "client_port": 2,
        "direction": "agent_to_gateway"}})
    );
    assert_eq!(sent[1]["payload"]["data"], "");
}

#[test]
fn p205_a_datagram_is_never_cut_or_joined() {
    // W-62: the original cuts and joins them as a stream.
    let mut bench = Bench::tunnelled();
    let lengths = [0, 1, 1, 1472, Limits::agent().chunk + 1, 65_507];
    for len in lengths {
        bench.datagram("u", ("203.0.113.9", 1), Some(&bytes(len)));
    }
    let (id, _) = bench.dialled().unwrap();
    let expected = lengths.map(|len| bytes(len).to_vec());
    assert_eq!(bench.datagrams(id), expected);
    bench.input(Input::Head(id, ResponseHead::default()));
    for len in lengths {
        bench.agent.send(id, Kind::Datagram, bytes(len)).unwrap();
    }
    let sent = bench.sent();
    let sent: Vec<Vec<u8>> = sent
        .iter()
        .map(|m| decoded(&m["payload"]["data"]))
        .collect();
    assert_eq!(sent, expected);
}

#[test]
fn p125_a_udp_client_is_forgotten_when_it_keeps_silent() {
    let mut bench = Bench::tunnelled();
    bench.datagram("u", ("203.0.113.9", 1), Some(b"a"));
    let (id, _) = bench.dialled().unwrap();
    bench.input(Input::Head(id, ResponseHead::default()));
    bench.take();
    bench.pass_alive(secs(310));
    assert!(bench.has(&Action::Reset(id)));
    assert_eq!(bench.agent.stats().streams_open, 0);
    let types = bench.sent_types();
    assert!(types.iter().all(|t| t == "heartbeat"), "{types:?}");
    // The next datagram begins anew.
    bench.datagram("u", ("203.0.113.9", 1), Some(b"b"));
    assert!(bench.dialled().is_some());
}

#[test]
fn a_udp_service_that_fails_is_told_as_an_error_of_no_stream() {
    let mut bench = Bench::tunnelled();
    bench.datagram("u", ("203.0.113.9", 1), Some(b"a"));
    let (id, _) = bench.dialled().unwrap();
    bench.input(Input::Ended(id, StreamEnd::Broken("no route".into())));
    let sent = bench.sent();
    assert_eq!((sent.len(), &sent[0]["type"]), (1, &json!("proxy_error")));
    assert_eq!(error(&sent[0]), "UDP tunnel: no route");
    bench.datagram("u", ("203.0.113.9", 1), Some(b"a"));
    let (id, _) = bench.dialled().unwrap();
    bench.input(Input::Ended(id, StreamEnd::Clean));
    assert!(bench.sent().is_empty());
    assert_eq!(bench.agent.stats().streams_open, 0);
}

#[test]
fn p206_udp_clients_leave_room_for_requests() {
    let mut bench = Bench::tunnelled();
    let half = Limits::agent().streams as u16 / 2;
    for port in 1..=half + 200 {
        bench.datagram("u", ("203.0.113.9", port), Some(b"x"));
    }
    assert_eq!(bench.agent.stats().streams_open, usize::from(half));
    let sent = bench.sent();
    assert_eq!(sent.len(), 1, "the rest is told of once");
    assert_eq!(
        error(&sent[0]),
        "UDP tunnel \"u\": too many requests at once"
    );
    bench.take();
    bench.request("r");
    // Those that were silent for long make room.
    bench.pass_alive(secs(400));
    bench.take();
    bench.datagram("u", ("203.0.113.9", 1), Some(b"x"));
    assert!(bench.dialled().is_some());
}

#[test]
fn p159_a_datagram_that_cannot_be_read_costs_itself() {
    let mut bench = Bench::tunnelled();
    for payload in [
        json!({}),
        json!({"tunnel_id": ""}),
        json!({"tunnel_id": "u", "data": "?", "gateway_port": 53}),
        json!({"tunnel_id": "x".repeat(257), "gateway_port": 53}),
    ] {
        bench.frame(json!({"type": "udp_tunnel_data", "payload": payload}));
    }
    assert!(bench.dialled().is_none() && bench.sent().is_empty());
    assert_eq!(bench.agent.stats().peer_faults, 4);
}

#[test]
fn p205_a_datagram_that_udp_cannot_carry_costs_itself_and_is_told_once() {
    let mut bench = Bench::tunnelled();
    let client = ("203.0.113.9", 1);
    bench.datagram("u", client, Some(&[7; 65_507]));
    let (id, _) = bench.dialled().unwrap();
    for _ in 0..2 {
        bench.datagram("u", client, Some(&[7; 65_508]));
    }
    bench.datagram("u", client, Some(b"b"));
    let arrived = bench.datagrams(id);
    assert_eq!(
        arrived.iter().map(Vec::len).collect::<Vec<_>>(),
        [65_507, 1]
    );
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        error(&sent[0]),
        "UDP tunnel \"u\": a datagram is longer than 65507 bytes"
    );
    assert_eq!(bench.agent.stats().peer_faults, 2);
}

#[test]
fn p153_a_flow_that_ends_by_silence_leaves_its_room_to_others() {
    let mut bench = Bench::registered_with(|config| {
        config.tunnels = Vec::from(["localhost:53".parse().unwrap()]);
        config.limits.send_total = 1000;
        config.periods.tunnel_idle = secs(5);
    });
    let id = bench.request("r");
    bench.input(Input::Head(id, head(200)));
    bench.datagram("u", ("203.0.113.9", 1), Some(b"a"));
    let (flow, _) = bench.dialled().unwrap();
    bench.input(Input::Head(flow, ResponseHead::default()));
    bench.sent();
    // From here on the socket takes nothing.
    bench.agent.send(flow, Kind::Datagram, bytes(1000)).unwrap();
    assert_eq!(bench.offer(id, "x".into()), Offer::Blocked);
    bench.now = bench.now + secs(5);
    bench.input(Input::Tick);
    assert_eq!(bench.agent.stats().held_out, 0);
    assert!(bench.has(&Action::Writable(id)));
}

#[test]
fn p205_a_datagram_of_the_service_is_sent_whole_or_ends_its_client() {
    let mut bench = Bench::registered_with(|config| {
        config.tunnels = Vec::from(["localhost:53".parse().unwrap()]);
        config.limits.message = 1024;
    });
    bench.datagram("u", ("203.0.113.9", 1), Some(b"a"));
    let (id, _) = bench.dialled().unwrap();
    bench.input(Input::Head(id, ResponseHead::default()));
    bench.agent.send(id, Kind::Datagram, bytes(1024)).unwrap();
    let refused = bench.agent.send(id, Kind::Datagram, bytes(1025));
    assert!(matches!(refused, Err(SendError::Closed(data)) if data.len() == 1025));
    let sent = bench.sent();
    assert_eq!(decoded(&sent[0]["payload"]["data"]).len(), 1024);
    let text = "UDP tunnel: the service sent a datagram that is too long";
    assert_eq!((sent.len(), error(&sent[1])), (2, text));
    assert!(bench.has(&Action::Reset(id)));
}

#[test]
fn a_dial_succeeds_once() {
    let mut bench = Bench::tunnelled();
    bench.datagram("u", ("203.0.113.9", 1), Some(b"a"));
    let (id, _) = bench.dialled().unwrap();
    bench.input(Input::Head(id, ResponseHead::default()));
    assert_eq!(bench.agent.stats().stale_inputs, 0);
    bench.input(Input::Head(id, ResponseHead::default()));
    assert_eq!(bench.agent.stats().stale_inputs, 1);
    assert_eq!(bench.agent.stats().streams_open, 1);
}
