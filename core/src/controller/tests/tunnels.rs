//! TCP and UDP tunnels in JSON messages (P-051, P-052, P-071, P-123 to P-126).

use super::*;
use crate::input::{Transport, Tunnel};

impl Bench {
    fn tunnelling() -> Self {
        let mut bench = Self::new();
        bench.accept(A);
        let features = json!({"supports_streaming": true, "tunnels": true,
            "request_window": 1000, "response_window": true});
        bench.frame(
            A,
            json!({"type": "register", "request_id": "reg",
                "payload": {"agent_id": "agent-1f2e", "features": features}}),
        );
        bench.take();
        bench
    }

    fn tunnel(&mut self, tunnel: Tunnel) -> StreamId {
        self.controller.open_tunnel(self.now, tunnel).unwrap()
    }

    /// A TCP tunnel and its name on the wire.
    fn tcp(&mut self) -> (StreamId, String) {
        let id = self.tunnel(to_postgres());
        let name = self.sent()[0]["request_id"].clone();
        (id, name.as_str().unwrap().into())
    }

    fn datagrams(&mut self, id: StreamId) -> Vec<Vec<u8>> {
        let data = self.take().into_iter().filter_map(|action| match action {
            Action::Deliver(to, Kind::Datagram, data) if to == id => Some(data.to_vec()),
            _ => None,
        });
        data.collect()
    }
}

pub(super) fn to_postgres() -> Tunnel {
    Tunnel {
        tunnel_id: "tcp-6f1c-gw-5432".into(),
        gateway_name: "gw".into(),
        gateway_namespace: "infra".into(),
        gateway_port: 5432,
        service_name: "pg".into(),
        service_namespace: "db".into(),
        service_port: 5432,
        client_addr: "203.0.113.9:50111".into(),
        ..Tunnel::default()
    }
}

pub(super) fn to_dns(client_port: u16) -> Tunnel {
    Tunnel {
        transport: Transport::Udp,
        tunnel_id: "udp-6f1c-gw-53".into(),
        gateway_port: 53,
        client_addr: "203.0.113.9".into(),
        client_port,
        ..Tunnel::default()
    }
}

#[test]
fn p071_a_start_says_where_to() {
    let mut bench = Bench::tunnelling();
    bench.tunnel(to_postgres());
    let sent = bench.sent();
    assert_eq!(sent[0]["type"], "tcp_tunnel_start");
    let expected = json!({"tunnel_id": "tcp-6f1c-gw-5432", "gateway_name": "gw",
        "gateway_namespace": "infra", "gateway_port": 5432, "service_name": "pg",
        "service_namespace": "db", "service_port": 5432, "client_addr": "203.0.113.9:50111"});
    assert_eq!(sent[0]["payload"], expected);
}

#[test]
fn w23_no_tunnel_to_an_agent_that_does_not_say_it_opens_them() {
    let mut bench = Bench::registered();
    let now = bench.now;
    let refused = bench.controller.open_tunnel(now, to_postgres());
    assert_eq!(refused, Err(OpenError::Tunnel));
    let mut away = Bench::new();
    let refused = away.controller.open_tunnel(now, to_postgres());
    assert_eq!(refused, Err(OpenError::Away));
}

#[test]
fn p151_data_both_ways_in_order_and_an_end() {
    let mut bench = Bench::tunnelling();
    let (id, name) = bench.tcp();
    // More than the window of a request: a tunnel has none.
    for piece in 0..5u8 {
        let data = Bytes::from([piece; 500].to_vec());
        bench.controller.send(id, Kind::Bytes, data).unwrap();
    }
    let sent = bench.sent();
    assert_eq!(sent.len(), 5);
    for (piece, message) in sent.iter().enumerate() {
        assert_eq!(message["type"], "tcp_tunnel_data");
        assert_eq!(decoded(&message["payload"]["data"]), [piece as u8; 500]);
    }
    for piece in ["one ", "", "two"] {
        let data = base64(piece.as_bytes());
        bench.says("tcp_tunnel_data", &name, json!({"data": data}));
    }
    bench.says(
        "tcp_tunnel_close",
        &name,
        json!({"reason": "service_closed"}),
    );
    let expected = [Event::Data(b"one two".to_vec()), Event::Finish];
    assert_eq!(bench.events(id), expected);
    assert_eq!(bench.streams_open(), 0);
    assert!(bench.sent().is_empty(), "it is over on both sides");
}

#[test]
fn p162_a_close_with_an_error_is_a_failure() {
    for (payload, text) in [
        (
            json!({"reason": "connection_failed", "error": "refused"}),
            "refused",
        ),
        (json!({"reason": "service_closed", "error": "idle"}), "idle"),
        (json!({"reason": "write_error"}), "write_error"),
        (
            json!({"reason": "registration_failed", "error": ""}),
            "registration_failed",
        ),
    ] {
        let mut bench = Bench::tunnelling();
        let (id, name) = bench.tcp();
        bench.says("tcp_tunnel_close", &name, payload);
        let failed = Failure::Agent(text.into());
        assert_eq!(bench.events(id), [Event::Failed(failed)]);
        assert_eq!(bench.streams_open(), 0);
    }
}

#[test]
fn p152_the_clients_close_goes_behind_its_data() {
    let mut bench = Bench::tunnelling();
    let (id, name) = bench.tcp();
    bench.controller.send(id, Kind::Bytes, bytes(100)).unwrap();
    bench.input(Input::Ended(id, StreamEnd::Clean));
    let refused = bench.controller.send(id, Kind::Bytes, bytes(1));
    assert_eq!(refused, Err(SendError::Closed(bytes(1))));
    let sent = bench.sent();
    assert_eq!(sent[0]["type"], "tcp_tunnel_data");
    assert_eq!(sent[1]["type"], "tcp_tunnel_close");
    assert_eq!(sent[1]["payload"], json!({"reason": "client_closed"}));
    assert_eq!(bench.streams_open(), 0);
    // The agent's own close crosses it; data that goes on is not answered again.
    bench.says(
        "tcp_tunnel_close",
        &name,
        json!({"reason": "client_closed"}),
    );
    bench.says("tcp_tunnel_data", &name, json!({"data": "AAAA"}));
    assert!(bench.sent().is_empty());
}

#[test]
fn p170_a_client_that_gives_up_closes_the_tunnel() {
    let mut bench = Bench::tunnelling();
    let (id, _) = bench.tcp();
    bench.input(Input::Ended(id, StreamEnd::Broken("reset".into())));
    let payload = json!({"reason": "client_closed", "error": "reset"});
    assert_eq!(bench.sent()[0]["payload"], payload);
    let (id, _) = bench.tcp();
    bench.input(Input::Cancel(id));
    let payload = json!({"reason": "client_closed", "error": "the client is gone"});
    assert_eq!(bench.sent()[0]["payload"], payload);
    assert_eq!(bench.streams_open(), 0);
    bench.input(Input::Cancel(id));
    assert_eq!(bench.controller.stats().stale_inputs, 1);
}

#[test]
fn a_tunnel_that_is_over_here_and_goes_on_there_is_closed_once() {
    let mut bench = Bench::tunnelling();
    for _ in 0..3 {
        bench.says("tcp_tunnel_data", "stray", json!({"data": "AAAA"}));
    }
    let sent = bench.sent();
    assert_eq!(
        (sent.len(), &sent[0]["type"]),
        (1, &json!("tcp_tunnel_close"))
    );
}

#[test]
fn p153_a_client_that_reads_too_slowly_ends_its_tunnel() {
    let mut bench = Bench::tunnelling();
    bench.controller.config.limits = SMALL;
    let (id, name) = bench.tcp();
    for _ in 0..2 {
        let data = base64(&[0; 600]);
        bench.says("tcp_tunnel_data", &name, json!({"data": data}));
    }
    assert!(bench.has(&Action::Failed(id, Failure::Overrun)));
    assert_eq!(bench.sent_types(), ["tcp_tunnel_close"]);
}

#[test]
fn p159_data_that_cannot_be_read_ends_its_tunnel() {
    for payload in [json!({}), json!({"data": "?"})] {
        let mut bench = Bench::tunnelling();
        let (id, name) = bench.tcp();
        bench.says("tcp_tunnel_data", &name, payload);
        assert!(matches!(
            bench.events(id)[..],
            [Event::Failed(Failure::Fault(_))]
        ));
    }
}

#[test]
fn messages_of_tunnels_and_requests_do_not_mix() {
    let mut bench = Bench::tunnelling();
    let (id, name) = bench.request(false);
    bench.says("tcp_tunnel_data", &name, json!({"data": "AAAA"}));
    let failed = Event::Failed(Failure::Fault(PeerFault::Malformed));
    assert_eq!(bench.events(id), [failed]);
    let (id, name) = bench.request(false);
    bench.says(
        "tcp_tunnel_close",
        &name,
        json!({"reason": "service_closed"}),
    );
    let failed = Event::Failed(Failure::Fault(PeerFault::Malformed));
    assert_eq!(bench.events(id), [failed]);
    for kind in [
        "proxy_response",
        "proxy_response_chunk",
        "proxy_response_end",
        "proxy_response_header",
        "proxy_websocket_close",
        "proxy_websocket_data",
    ] {
        bench.sent();
        let (id, name) = bench.tcp();
        bench.says(kind, &name, json!({"status": 200, "data": "AWFi"}));
        let failed = Event::Failed(Failure::Fault(PeerFault::Malformed));
        assert_eq!(bench.events(id), [failed], "{kind}");
    }
}

#[test]
fn p198_datagrams_go_to_the_client_that_they_name() {
    let mut bench = Bench::tunnelling();
    let (first, second) = (bench.tunnel(to_dns(1)), bench.tunnel(to_dns(2)));
    assert!(bench.sent().is_empty(), "there is no message for a start");
    bench
        .controller
        .send(first, Kind::Datagram, "q".into())
        .unwrap();
    bench
        .controller
        .send(first, Kind::Bytes, Bytes::new())
        .unwrap();
    let sent = bench.sent();
    assert_eq!(sent.len(), 2, "datagrams are not joined, and may be empty");
    assert_eq!(sent[0]["type"], "udp_tunnel_data");
    assert!(sent[0].get("request_id").is_none());
    assert_eq!(sent[0]["payload"]["client_port"], 1);
    assert_eq!(sent[0]["payload"]["gateway_port"], 53);
    assert_eq!(decoded(&sent[0]["payload"]["data"]), b"q");
    let mut answer = |port: u16, data: &[u8]| {
        let payload = json!({"tunnel_id": "udp-6f1c-gw-53", "client_addr": "203.0.113.9",
            "client_port": port, "data": base64(data)});
        bench.frame(A, json!({"type": "udp_tunnel_data", "payload": payload}));
    };
    answer(2, b"two");
    answer(2, b"");
    answer(3, b"nobody");
    assert_eq!(bench.datagrams(second), [b"two".to_vec(), Vec::new()]);
    assert_eq!(bench.controller.stats().stale_frames, 1);
}

#[test]
fn p205_a_datagram_that_udp_cannot_carry_ends_its_stream() {
    let mut bench = Bench::tunnelling();
    let id = bench.tunnel(to_dns(1));
    let fits = Bytes::from(alloc::vec![7; 65_507]);
    bench.controller.send(id, Kind::Datagram, fits).unwrap();
    assert_eq!(bench.sent().len(), 1);
    let long = Bytes::from(alloc::vec![7; 65_508]);
    let refused = bench.controller.send(id, Kind::Datagram, long);
    assert!(matches!(refused, Err(SendError::Closed(_))));
    assert!(bench.has(&Action::Failed(id, Failure::MessageTooLong)));
}

#[test]
fn a_udp_client_has_one_stream_and_ends_without_a_word() {
    let mut bench = Bench::tunnelling();
    let id = bench.tunnel(to_dns(1));
    let now = bench.now;
    let busy = bench.controller.open_tunnel(now, to_dns(1));
    assert_eq!(busy, Err(OpenError::Busy));
    bench
        .controller
        .send(id, Kind::Datagram, "last".into())
        .unwrap();
    bench.input(Input::Ended(id, StreamEnd::Clean));
    let (_, name) = bench.request(false);
    bench.answer_end(&name);
    bench.take();
    assert_eq!(bench.streams_open(), 0);
    bench.tunnel(to_dns(1));
}

#[test]
fn a_tcp_tunnel_of_the_same_names_leaves_a_udp_client_alone() {
    let mut bench = Bench::tunnelling();
    let udp = bench.tunnel(to_dns(1));
    let tcp = bench.tunnel(Tunnel {
        transport: Transport::Tcp,
        ..to_dns(1)
    });
    bench.input(Input::Cancel(tcp));
    bench.sent();
    let payload = json!({"tunnel_id": "udp-6f1c-gw-53", "client_addr": "203.0.113.9",
        "client_port": 1, "data": base64(b"answer")});
    bench.frame(A, json!({"type": "udp_tunnel_data", "payload": payload}));
    assert_eq!(bench.datagrams(udp), [b"answer".to_vec()]);
}

#[test]
fn p206_udp_clients_leave_room_for_requests() {
    let mut bench = Bench::tunnelling();
    bench.controller.config.limits.streams = 3;
    bench.tunnel(to_dns(1));
    bench.tunnel(to_dns(2));
    let now = bench.now;
    let third = bench.controller.open_tunnel(now, to_dns(3));
    assert_eq!(third, Err(OpenError::TooManyStreams));
    bench.request(false);
}

#[test]
fn p174_tunnels_fail_with_their_connection() {
    let mut bench = Bench::tunnelling();
    let (tcp, _) = bench.tcp();
    let udp = bench.tunnel(to_dns(1));
    bench.lose(A);
    for id in [tcp, udp] {
        assert!(bench.has(&Action::Failed(id, Failure::Disconnected)));
    }
    assert_eq!(bench.streams_open(), 0);
}

#[test]
fn a_client_may_end_before_it_has_taken_what_the_service_sent_last() {
    let mut bench = Bench::tunnelling();
    let (id, name) = bench.tcp();
    let data = json!({"data": base64(b"last")});
    bench.says("tcp_tunnel_data", &name, data);
    bench.says("tcp_tunnel_close", &name, json!({}));
    let data = Bytes::from_static(b"last");
    assert_eq!(bench.take(), [Action::Deliver(id, Kind::Bytes, data)]);
    assert_eq!(bench.streams_open(), 1);
    bench.input(Input::Ended(id, StreamEnd::Clean));
    assert_eq!(bench.take(), [], "nobody is told what it knows");
    assert_eq!(bench.streams_open(), 0);
    bench.input(Input::Ended(id, StreamEnd::Clean));
    assert_eq!(bench.controller.stats().stale_inputs, 1);
}

#[test]
fn p152_a_close_that_data_did_not_get_ahead_of_says_so() {
    let mut bench = Bench::tunnelling();
    let (id, _) = bench.tcp();
    bench.open.clear();
    bench.controller.send(id, Kind::Bytes, "x".into()).unwrap();
    bench.input(Input::Ended(id, StreamEnd::Clean));
    bench.now = bench.now + bench.controller.config.periods.closing;
    bench.input(Input::Tick);
    bench.open.insert(A);
    let sent = bench.sent();
    let close = sent.iter().find(|m| m["type"] == "tcp_tunnel_close");
    let payload = &close.unwrap()["payload"];
    assert_eq!(payload["error"], "not all that the client sent got through");
    assert!(sent.iter().all(|m| m["type"] != "tcp_tunnel_data"));
}
