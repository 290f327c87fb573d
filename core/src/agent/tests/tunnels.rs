//! TCP and UDP tunnels in JSON messages (P-051, P-052, P-071, P-123 to P-126).

mod broken;
mod udp;

use super::*;

impl Bench {
    fn tunnelled() -> Self {
        Self::registered_with(|config| {
            config.tunnels = ["pg.db:5432", "localhost:53"]
                .map(|text| text.parse().unwrap())
                .into();
        })
    }

    fn start_tunnel(&mut self, id: &str, port: u16) {
        self.frame(
            json!({"type": "tcp_tunnel_start", "request_id": id, "payload": {
            "tunnel_id": "tcp-6f1c-gw-5432", "gateway_name": "gw", "gateway_namespace": "infra",
            "gateway_port": port, "service_name": "pg", "service_namespace": "db",
            "service_port": port, "client_addr": "203.0.113.9:50111"}}),
        );
    }

    /// What was dialled.
    fn dialled(&mut self) -> Option<(StreamId, Target)> {
        self.run();
        let at = self
            .actions
            .iter()
            .position(|a| matches!(a, Action::Open(..)))?;
        match self.actions.remove(at) {
            Action::Open(id, target) => Some((id, target)),
            _ => None,
        }
    }

    /// A tunnel that is open.
    fn tunnel(&mut self, id: &str) -> StreamId {
        self.start_tunnel(id, 5432);
        let (stream, _) = self.dialled().expect("nothing was dialled");
        self.input(Input::Head(stream, ResponseHead::default()));
        stream
    }

    fn feed(&mut self, id: &str, data: &[u8]) {
        let payload = json!({"data": base64(data)});
        self.frame(json!({"type": "tcp_tunnel_data", "request_id": id, "payload": payload}));
    }

    fn close_tunnel(&mut self, id: &str) {
        self.frame(json!({"type": "tcp_tunnel_close", "request_id": id,
            "payload": {"reason": "client_closed"}}));
    }

    fn datagram(&mut self, tunnel: &str, client: (&str, u16), data: Option<&[u8]>) {
        let mut payload = json!({"tunnel_id": tunnel, "client_addr": client.0,
            "client_port": client.1, "gateway_port": 53});
        if let Some(data) = data {
            payload["data"] = base64(data).into();
        }
        self.frame(json!({"type": "udp_tunnel_data", "payload": payload}));
    }

    fn datagrams(&mut self, id: StreamId) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        let rest = self.take().into_iter().filter(|action| match action {
            Action::Deliver(to, Kind::Datagram, data) if *to == id => {
                datagrams.push(data.to_vec());
                false
            }
            _ => true,
        });
        self.actions = rest.collect();
        datagrams
    }
}

#[test]
fn p197_only_what_the_configuration_lists_is_dialled() {
    let mut bench = Bench::tunnelled();
    bench.start_tunnel("t1", 5432);
    let tcp = |host: &str, port| Target::Tcp {
        host: host.into(),
        port,
        half_close: false,
    };
    assert_eq!(bench.dialled().unwrap().1, tcp("pg.db.svc", 5432));
    bench.start_tunnel("t2", 53);
    assert_eq!(bench.dialled().unwrap().1, tcp("localhost", 53));
    // W-54: the original dials any port of its own host.
    bench.start_tunnel("t3", 8080);
    assert!(bench.dialled().is_none());
    let sent = bench.sent();
    assert_eq!(
        (&sent[0]["type"], &sent[0]["request_id"]),
        (&json!("tcp_tunnel_close"), &json!("t3"))
    );
    assert_eq!(sent[0]["payload"]["reason"], "connection_failed");
    assert!(error(&sent[0]).contains("permits no tunnel"));
}

#[test]
fn p166_where_nothing_is_listed_every_tunnel_is_answered_with_an_error() {
    let mut bench = Bench::registered();
    bench.start_tunnel("t", 5432);
    assert_eq!(bench.sent_types(), ["tcp_tunnel_close"]);
    // W-23: the original ends here. A flood of datagrams is answered once.
    for i in 0..1000 {
        bench.datagram("u", ("203.0.113.9", i), Some(b"x"));
    }
    let sent = bench.sent();
    assert_eq!((sent.len(), &sent[0]["type"]), (1, &json!("proxy_error")));
    assert!(sent[0].get("request_id").is_none());
    assert!(error(&sent[0]).starts_with("UDP tunnel \"u\": "));
    bench.request("r");
}

#[test]
fn p154_data_that_comes_before_the_service_answers_waits_for_it() {
    let mut bench = Bench::tunnelled();
    bench.start_tunnel("t", 5432);
    bench.feed("t", b"early ");
    bench.feed("t", b"data");
    let (id, _) = bench.dialled().unwrap();
    assert_eq!(bench.delivered(id), b"early data");
    bench.input(Input::Head(id, ResponseHead::default()));
    assert_eq!(bench.offer(id, "answer".into()), Offer::Taken);
    let sent = bench.sent();
    assert_eq!(sent[0]["payload"]["direction"], "agent_to_gateway");
    assert_eq!(decoded(&sent[0]["payload"]["data"]), b"answer");
}

#[test]
fn p151_the_data_of_a_tunnel_keeps_its_order() {
    // W-08: of 5000 pieces the original exchanges 425, and a close overtakes the last ones.
    let mut bench = Bench::tunnelled();
    let (a, b) = (bench.tunnel("a"), bench.tunnel("b"));
    let pieces = |stream: u32| (0..2000u32).map(move |i| (i * 2 + stream).to_be_bytes());
    for (to_a, to_b) in pieces(0).zip(pieces(1)) {
        bench.feed("a", &to_a);
        bench.feed("b", &to_b);
    }
    bench.close_tunnel("a");
    let expected = |stream| pieces(stream).flatten().collect::<Vec<u8>>();
    assert!(bench.delivered(a) == expected(0) && bench.delivered(b) == expected(1));
    assert_eq!((bench.finishes(a), bench.finishes(b)), (1, 0));
    for piece in pieces(1) {
        let piece = Bytes::copy_from_slice(&piece);
        while bench.offer(b, piece.clone()) == Offer::Blocked {
            bench.run();
        }
    }
    let sent = bench.sent();
    let data = sent.iter().flat_map(|m| decoded(&m["payload"]["data"]));
    assert!(data.eq(expected(1)));
}

#[test]
fn p162_a_close_tells_the_cause_and_the_counts() {
    let mut bench = Bench::tunnelled();
    let id = bench.tunnel("t");
    bench.feed("t", b"12345");
    bench.offer(id, "123".into());
    bench.pass_alive(secs(2));
    bench.take();
    bench.input(Input::Ended(id, StreamEnd::Clean));
    let sent = bench.sent();
    assert_eq!(
        sent[0]["payload"],
        json!({"reason": "service_closed", "bytes_sent": 3,
        "bytes_received": 5, "duration_ms": 2000})
    );
    assert_eq!(bench.agent.stats().streams_open, 0);
}

#[test]
fn p162_every_way_to_fail_has_its_reason() {
    for (open, reason) in [(false, "connection_failed"), (true, "write_error")] {
        let mut bench = Bench::tunnelled();
        bench.start_tunnel("t", 5432);
        let (id, _) = bench.dialled().unwrap();
        if open {
            bench.input(Input::Head(id, ResponseHead::default()));
        }
        bench.input(Input::Ended(id, StreamEnd::Broken("refused".into())));
        let sent = bench.sent();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0]["payload"]["reason"], reason);
        assert_eq!(error(&sent[0]), "refused");
    }
}

#[test]
fn p162_a_duplicate_is_refused_by_an_error_that_names_no_running_tunnel() {
    let mut bench = Bench::tunnelled();
    let id = bench.tunnel("t");
    bench.start_tunnel("t", 5432);
    assert!(bench.dialled().is_none());
    let sent = bench.sent();
    assert_eq!((sent.len(), &sent[0]["type"]), (1, &json!("proxy_error")));
    assert!(sent[0].get("request_id").is_none());
    bench.feed("t", b"on");
    assert_eq!(bench.delivered(id), b"on");
}

#[test]
fn p123_a_tunnel_beyond_the_limit_fails_by_its_own_reason() {
    let mut bench = Bench::registered_with(|config| {
        config.limits = SMALL;
        config.tunnels = Vec::from(["pg.db:5432".parse().unwrap()]);
    });
    bench.tunnel("a");
    bench.tunnel("b");
    bench.start_tunnel("c", 5432);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0]["request_id"], "c");
    assert_eq!(sent[0]["payload"]["reason"], "registration_failed");
    assert_eq!(error(&sent[0]), "too many requests at once");
}

#[test]
fn p152_a_close_takes_effect_behind_the_data_before_it() {
    let mut bench = Bench::tunnelled();
    let id = bench.tunnel("t");
    bench.feed("t", b"last words");
    bench.close_tunnel("t");
    bench.feed("t", b"too late");
    assert_eq!(bench.delivered(id), b"last words");
    assert_eq!(bench.finishes(id), 1);
    // What the service still says has no reader, and is not sent.
    assert_eq!(bench.offer(id, bytes(1000)), Offer::Taken);
    assert!(bench.sent().is_empty());
    bench.input(Input::Ended(id, StreamEnd::Clean));
    let sent = bench.sent();
    assert_eq!(
        (sent.len(), &sent[0]["payload"]["reason"]),
        (1, &json!("service_closed"))
    );
}

#[test]
fn p170_a_close_during_the_dial_ends_it() {
    let mut bench = Bench::tunnelled();
    bench.start_tunnel("t", 5432);
    let (id, _) = bench.dialled().unwrap();
    bench.close_tunnel("t");
    assert!(bench.has(&Action::Reset(id)));
    assert_eq!(bench.sent_types(), ["tcp_tunnel_close"]);
    assert_eq!(bench.agent.stats().streams_open, 0);
}

#[test]
fn p177_a_service_that_does_not_close_is_dropped() {
    let mut bench = Bench::tunnelled();
    let id = bench.tunnel("t");
    bench.close_tunnel("t");
    bench.pass_alive(secs(11));
    assert!(bench.has(&Action::Reset(id)));
    let types = bench.sent_types();
    assert_eq!(types.iter().filter(|t| *t == "tcp_tunnel_close").count(), 1);
}

#[test]
fn p173_the_dial_and_silence_have_their_limits() {
    let mut bench = Bench::tunnelled();
    bench.start_tunnel("slow", 5432);
    let (slow, _) = bench.dialled().unwrap();
    let id = bench.tunnel("t");
    bench.pass_alive(secs(31));
    assert!(bench.has(&Action::Reset(slow)));
    bench.pass_alive(secs(250));
    bench.feed("t", b"x");
    bench.pass_alive(secs(250));
    bench.offer(id, "y".into());
    bench.pass_alive(secs(290));
    assert!(!bench.has(&Action::Reset(id)));
    bench.pass_alive(secs(15));
    assert!(bench.has(&Action::Reset(id)));
    let sent = bench.sent();
    let close = sent
        .iter()
        .rfind(|v| v["type"] == "tcp_tunnel_close")
        .unwrap();
    assert_eq!(error(close), "nothing passed for 300 s");
}

#[test]
fn p153_what_a_service_does_not_take_ends_its_tunnel_with_an_error() {
    let mut bench = Bench::registered_with(|config| {
        config.limits = SMALL;
        config.tunnels = Vec::from(["pg.db:5432".parse().unwrap()]);
    });
    let id = bench.tunnel("t");
    bench.feed("t", &[1; 600]);
    bench.feed("t", &[2; 600]);
    assert_eq!(bench.delivered(id).len(), 600);
    assert!(bench.has(&Action::Reset(id)));
    let sent = bench.sent();
    assert_eq!(sent[0]["payload"]["reason"], "write_error");
    let text = "more data arrives than the service takes in time";
    assert_eq!(error(&sent[0]), text);
}

#[test]
fn p159_data_that_cannot_be_read_ends_its_tunnel() {
    for payload in [
        json!({}),
        json!({"data": 7}),
        json!({"data": "?"}),
        json!([]),
    ] {
        let mut bench = Bench::tunnelled();
        let id = bench.tunnel("t");
        bench.frame(json!({"type": "tcp_tunnel_data", "request_id": "t", "payload": payload}));
        assert!(bench.has(&Action::Reset(id)), "{payload}");
        assert_eq!(bench.sent_types(), ["tcp_tunnel_close"]);
    }
}

#[test]
fn p140_a_start_that_names_no_target_is_refused() {
    let bad = [
        json!({}),
        json!({"service_name": "pg"}),
        json!({"service_name": "../pg", "service_namespace": "db", "service_port": 5432}),
        json!({"service_name": "pg", "service_namespace": "db", "service_port": 5432.5}),
        json!({"gateway_port": "5432"}),
        json!({"gateway_port": -1}),
        json!({"gateway_port": 65_589}),
    ];
    for payload in bad {
        let mut bench = Bench::tunnelled();
        bench.frame(json!({"type": "tcp_tunnel_start", "request_id": "t", "payload": payload}));
        assert!(bench.dialled().is_none());
        let sent = bench.sent();
        assert_eq!(
            sent[0]["payload"]["reason"], "connection_failed",
            "{payload}"
        );
    }
    let mut bench = Bench::tunnelled();
    bench.frame(json!({"type": "tcp_tunnel_start", "payload": {}}));
    bench.frame(json!({"type": "tcp_tunnel_start", "request_id": "t", "payload": []}));
    assert_eq!(bench.agent.stats().peer_faults, 2);
    assert_eq!(bench.sent_types(), ["tcp_tunnel_close"]);
}

#[test]
fn p174_tunnels_end_with_their_connection_and_names_are_free_again() {
    let mut bench = Bench::tunnelled();
    let tcp = bench.tunnel("t");
    bench.datagram("u", ("203.0.113.9", 1), Some(b"a"));
    let (udp, _) = bench.dialled().unwrap();
    bench.cut();
    assert!(bench.has(&Action::Reset(tcp)) && bench.has(&Action::Reset(udp)));
    bench.pass(secs(2));
    bench.connect();
    bench.register();
    bench.tunnel("t");
    bench.datagram("u", ("203.0.113.9", 1), Some(b"a"));
    assert!(bench.dialled().is_some());
}

#[test]
fn messages_of_other_streams_mean_nothing_to_a_tunnel() {
    let mut bench = Bench::tunnelled();
    let id = bench.tunnel("t");
    for kind in [
        "proxy_cancel",
        "proxy_request_chunk",
        "proxy_request_stream_end",
        "proxy_websocket_data",
        "proxy_websocket_close",
    ] {
        bench.frame(
            json!({"type": kind, "request_id": "t", "payload": {"stream_id": "t", "data": "AWE="}}),
        );
    }
    assert!(bench.sent().is_empty());
    assert_eq!(bench.delivered(id), b"");
    let request = bench.request("r");
    bench.feed("r", b"x");
    bench.close_tunnel("r");
    assert_eq!(bench.delivered(request), b"");
    assert_eq!(bench.finishes(request), 1);
    assert_eq!(bench.agent.stats().stale_frames, 7);
}
