//! Those of UDP.

use std::collections::BTreeSet;

use controlplane_driver::{Agent, Hub, Runtime, Transport, Tunnel, TunnelReader, TunnelWriter};
use serde_json::json;
use tokio::net::UdpSocket;

use super::{TunnelTarget, none_left, tunnelled};
use crate::{
    bench::{on_both, pattern},
    names::TwoAddresses,
    played::{Played, agent, decoded, encoded, listen},
};

on_both! {
    p198_clients_of_one_tunnel_never_see_each_others_answers
    p205_datagrams_keep_their_boundaries
    a_udp_service_that_is_not_there_is_named_and_costs_nothing
    every_address_of_a_udp_service_is_tried
    p174_a_lost_connection_ends_udp_sockets
}

fn of(port: u16, client_port: u16) -> Tunnel {
    Tunnel {
        transport: Transport::Udp,
        tunnel_id: "u".into(),
        gateway_port: port,
        client_addr: "203.0.113.9".into(),
        client_port,
        ..Tunnel::default()
    }
}

/// A service, and a tunnel with an end for each of two clients.
struct Two<R> {
    service: UdpSocket,
    hub: Hub,
    agent: Agent<R>,
    ends: [(TunnelReader, TunnelWriter); 2],
}

async fn two<R: Runtime>(runtime: R) -> Two<R> {
    let service = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = service.local_addr().unwrap().port();
    let (hub, agent) = tunnelled(runtime, &[port]).await;
    let first = hub.open_tunnel(of(port, 1)).await.unwrap();
    let second = hub.open_tunnel(of(port, 2)).await.unwrap();
    Two {
        service,
        hub,
        agent,
        ends: [first, second],
    }
}

async fn next(reader: &mut TunnelReader) -> Vec<u8> {
    reader.next().await.unwrap().unwrap().to_vec()
}

async fn p198_clients_of_one_tunnel_never_see_each_others_answers<R: Runtime>(runtime: R) {
    let Two {
        service,
        hub: _hub,
        agent,
        ends: [(mut first, mut to_first), (mut second, mut to_second)],
    } = two(runtime).await;
    let mut clients = [None; 2];
    let mut buffer = [0; 64];
    to_first.write("0".into()).await.unwrap();
    to_second.write("1".into()).await.unwrap();
    for _ in 0..2 {
        let (len, from) = service.recv_from(&mut buffer).await.unwrap();
        assert_eq!(len, 1);
        clients[usize::from(buffer[0] - b'0')] = Some(from);
    }
    let [a, b] = clients.map(Option::unwrap);
    assert_ne!(a, b, "both clients have one socket");
    for (to, text) in [(b, "b1"), (a, "a1"), (b, "b2"), (a, "a2")] {
        service.send_to(text.as_bytes(), to).await.unwrap();
    }
    assert_eq!(next(&mut first).await, b"a1");
    assert_eq!(next(&mut first).await, b"a2");
    assert_eq!(next(&mut second).await, b"b1");
    assert_eq!(next(&mut second).await, b"b2");
    assert_eq!(agent.stats().streams_open, 2);
}

async fn p205_datagrams_keep_their_boundaries<R: Runtime>(runtime: R) {
    let Two {
        service,
        hub: _hub,
        agent: _agent,
        ends: [(mut reader, mut writer), _],
    } = two(runtime).await;
    let mut buffer = vec![0; 70_000];
    for len in [1, 0, 1472, 65_507, 40_000] {
        let sent = pattern(len);
        writer.write(sent.clone().into()).await.unwrap();
        let (got, from) = service.recv_from(&mut buffer).await.unwrap();
        assert!(buffer[..got] == sent, "{len} bytes became {got}");
        service.send_to(&sent, from).await.unwrap();
        assert!(
            next(&mut reader).await == sent,
            "{len} bytes came back differently"
        );
    }
    // Neither are two made one.
    writer.write("a".into()).await.unwrap();
    writer.write("b".into()).await.unwrap();
    let mut got = BTreeSet::new();
    for _ in 0..2 {
        let (len, _) = service.recv_from(&mut buffer).await.unwrap();
        got.insert(buffer[..len].to_vec());
    }
    assert_eq!(got, BTreeSet::from([b"a".to_vec(), b"b".to_vec()]));
}

async fn a_udp_service_that_is_not_there_is_named_and_costs_nothing<R: Runtime>(runtime: R) {
    let service = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = service.local_addr().unwrap().port();
    drop(service);
    let (listener, address) = listen().await;
    let target = TunnelTarget::Local { port };
    let agent = agent(runtime, address).tunnels([target]).start().unwrap();
    let mut played = Played::register(&listener, json!({})).await;
    let mut payload = json!({"tunnel_id": "u", "gateway_port": port, "data": encoded(b"q"),
        "client_addr": "203.0.113.9", "client_port": 1});
    played.say("udp_tunnel_data", "", payload.clone()).await;
    let error = played.until("proxy_error").await;
    let text = error["payload"]["error"].as_str().unwrap();
    assert!(
        text.starts_with("UDP tunnel: cannot reach the service: ")
            && text.contains(&format!("127.0.0.1:{port}: ")),
        "{text}"
    );
    none_left(&agent).await;
    // Once it is there the next datagram finds it.
    let service = UdpSocket::bind(("127.0.0.1", port)).await.unwrap();
    payload["data"] = encoded(b"r").into();
    played.say("udp_tunnel_data", "", payload).await;
    let mut buffer = [0; 64];
    let (len, from) = service.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..len], b"r");
    service.send_to(b"answer", from).await.unwrap();
    let answer = played.until("udp_tunnel_data").await;
    assert_eq!(decoded(&answer["payload"]["data"]), b"answer");
    assert_eq!(answer["payload"]["client_port"], 1);
}

async fn every_address_of_a_udp_service_is_tried<R: Runtime>(runtime: R) {
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let dead = closed.local_addr().unwrap();
    drop(closed);
    let Two {
        service,
        hub: _hub,
        agent: _agent,
        ends: [(mut reader, mut writer), _],
    } = two(TwoAddresses(runtime, Some(dead))).await;
    // What showed that nobody is there is not lost.
    writer.write("q".into()).await.unwrap();
    let mut buffer = [0; 64];
    let (len, from) = service.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..len], b"q");
    service.send_to(b"answer", from).await.unwrap();
    assert_eq!(next(&mut reader).await, b"answer");
}

async fn p174_a_lost_connection_ends_udp_sockets<R: Runtime>(runtime: R) {
    let Two {
        service,
        hub,
        agent,
        ends: [(mut reader, mut writer), _],
    } = two(runtime).await;
    writer.write("a".into()).await.unwrap();
    let mut buffer = [0; 64];
    let (_, from) = service.recv_from(&mut buffer).await.unwrap();
    hub.disconnect();
    assert!(reader.next().await.unwrap().is_err());
    none_left(&agent).await;
    // Its port is free again once the socket is closed.
    while UdpSocket::bind(("127.0.0.1", from.port())).await.is_err() {
        tokio::task::yield_now().await;
    }
}
