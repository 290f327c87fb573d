//! Streams to services, and the header of each.

use super::*;

pub(super) fn redis(transport: Transport) -> Tunnel {
    Tunnel {
        transport,
        tunnel_id: "t".into(),
        service_name: "redis".into(),
        service_namespace: "cache".into(),
        service_port: 6379,
        ..Tunnel::default()
    }
}

#[test]
fn p120_a_header_is_read_in_pieces_of_any_size_and_no_further() {
    let head = Head::of(redis(Transport::Tcp), Protocol::Tcp).unwrap();
    let mut bytes = head.encode().to_vec();
    let expected = b"\x01\x01\x18\xeb\x00\x05redis\x00\x05cache\x00\x01t";
    assert_eq!(bytes, expected);
    bytes.extend(b"data");
    let len = expected.len();
    for cut in 0..len {
        let mut heading = Heading::default();
        let (first, rest) = bytes.split_at(cut);
        assert_eq!(heading.push(first), head::Parsed::More, "{cut}");
        let whole = head::Parsed::Whole(head.clone(), len - cut);
        assert_eq!(heading.push(rest), whole, "{cut}");
    }
}

#[test]
fn p120_what_is_no_header_is_told_so() {
    for (bytes, fault) in [
        (
            &b"\x01\x03\0\0"[..],
            PeerFault::Unsupported("this protocol of a stream"),
        ),
        (b"\x01\x01\0\x50\x01\x01", PeerFault::Target),
        (b"\x01\x01\0\x50\0\x01\xff", PeerFault::Target),
    ] {
        assert_eq!(Heading::default().push(bytes), head::Parsed::Fault(fault));
    }
    // P-120: the version is not checked.
    let any = Heading::default().push(b"\x09\x10\0\0\0\0\0\0\0\0");
    assert_eq!(any, head::Parsed::Whole(Head::http(), 10));
    let long = Tunnel {
        service_name: "x".repeat(257),
        ..redis(Transport::Tcp)
    };
    assert_eq!(Head::of(long, Protocol::Tcp), Err(PeerFault::Target));
}

#[test]
fn p197_p140_only_what_is_listed_is_dialled() {
    let mut pair = Pair::new();
    let now = pair.now;
    let here = pair
        .controller
        .open_service(now, redis(Transport::Tcp))
        .unwrap();
    pair.run();
    let target = Target::Tcp {
        host: "redis.cache.svc".into(),
        port: 6379,
        half_close: true,
    };
    assert!(matches!(pair.at_agent.last(), Some(Action::Open(_, it)) if *it == target));
    for (name, namespace, port) in [
        ("redis", "cache", 6380),
        ("redis", "other", 6379),
        ("re/dis", "cache", 6379),
        ("redis", "cache", 0),
    ] {
        let tunnel = Tunnel {
            service_name: name.into(),
            service_namespace: namespace.into(),
            service_port: port,
            ..redis(Transport::Tcp)
        };
        let refused = pair.controller.open_service(now, tunnel).unwrap();
        pair.run();
        let failed = Action::Failed(refused, Failure::Reset);
        assert_eq!(pair.controller_events(refused), [failed]);
    }
    assert_eq!(pair.controller_events(here), []);
    let mut without = Pair::with(|config| config.tunnels = Vec::new(), |_| {});
    let refused = without.controller.open_service(now, redis(Transport::Tcp));
    assert_eq!(refused, Err(OpenError::Tunnel));
    let unnamed = pair.controller.open_service(now, Tunnel::default());
    assert_eq!(unnamed, Err(OpenError::Mode));
}

#[test]
fn p121_what_comes_with_the_header_follows_it() {
    let mut pair = Pair::new();
    let here = pair
        .controller
        .open_service(pair.now, redis(Transport::Tcp))
        .unwrap();
    pair.controller
        .send(here, Kind::Bytes, bytes("PING"))
        .unwrap();
    pair.controller_hears(Input::Ended(here, StreamEnd::Clean));
    let there = pair.opened();
    let heard = [
        Action::Deliver(there, Kind::Bytes, bytes("PING")),
        Action::HalfClosed(there),
    ];
    assert_eq!(pair.agent_events(there), heard);
}

#[test]
fn p121_a_dial_and_a_silence_have_limits() {
    let mut pair = Pair::new();
    let here = pair
        .controller
        .open_service(pair.now, redis(Transport::Tcp))
        .unwrap();
    pair.run();
    let there = pair.opened();
    pair.wait(Duration::from_secs(29));
    assert_eq!(pair.agent_events(there), []);
    pair.wait(Duration::from_secs(1));
    assert_eq!(pair.agent_events(there), [Action::Reset(there)]);
    let failed = Action::Failed(here, Failure::Reset);
    assert_eq!(pair.controller_events(here), [failed]);

    let here = pair
        .controller
        .open_service(pair.now, redis(Transport::Tcp))
        .unwrap();
    pair.run();
    let there = pair.opened();
    pair.agent_hears(Input::Head(there, crate::ResponseHead::default()));
    for _ in 0..3 {
        pair.wait(Duration::from_secs(299));
        pair.agent.send(there, Kind::Bytes, bytes("x")).unwrap();
        pair.run();
        pair.controller_hears(Input::Consumed(here, 1));
    }
    assert_eq!(pair.agent_events(there), []);
    pair.wait(Duration::from_secs(300));
    assert_eq!(pair.agent_events(there), [Action::Reset(there)]);
}

#[test]
fn p120_a_header_has_limited_time_and_no_end() {
    for finish in [true, false] {
        let mut pair = Pair::new();
        pair.cut = true;
        // SYN of stream 2 and half a header.
        let syn = [0, 1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0];
        let part = [0, 0, 0, 4 * u8::from(finish), 0, 0, 0, 2, 0, 0, 0, 2, 1, 16];
        pair.agent_hears(Input::Frame(A, Frame::Binary(&syn)));
        pair.agent_hears(Input::Frame(A, Frame::Binary(&part)));
        if !finish {
            assert_eq!(pair.agent.stats().streams_open, 1);
            for _ in 0..30 {
                pair.agent_hears(Input::Alive(A));
                pair.pass(Duration::from_secs(1));
            }
        }
        assert_eq!(pair.agent.stats().streams_open, 0);
        let open = |action: &Action| matches!(action, Action::Open(..));
        assert!(!pair.at_agent.iter().any(open));
    }
}

#[test]
fn p120_the_longest_header_is_read_and_no_more_is_kept_than_it_has() {
    let name = || "x".repeat(256);
    for (transport, protocol) in [
        (Transport::Tcp, Protocol::Tcp),
        (Transport::Udp, Protocol::Udp),
        (Transport::Udp, Protocol::Datagrams),
    ] {
        let tunnel = Tunnel {
            service_name: name(),
            service_namespace: name(),
            tunnel_id: name(),
            ..redis(transport)
        };
        let head = Head::of(tunnel, protocol).unwrap();
        let mut bytes = head.encode().to_vec();
        let len = bytes.len();
        assert_eq!(len, 4 + 3 * 258);
        bytes.extend([7; 10_000]);
        for cut in [0, 3, 5, 700, len - 1] {
            let (first, rest) = bytes.split_at(cut);
            let mut heading = Heading::default();
            assert_eq!(heading.push(first), head::Parsed::More);
            let whole = head::Parsed::Whole(head.clone(), len - cut);
            assert_eq!(heading.push(rest), whole, "{cut}");
            assert_eq!(heading.0.len(), len);
        }
    }
}
