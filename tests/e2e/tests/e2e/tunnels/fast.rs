//! Those of the fast mode, to services by name: each direction has a window and an end of its own.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use controlplane_driver::{Agent, Failure, Hub, Runtime, Transport, Tunnel, TunnelTarget};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UdpSocket,
};

use super::{none_left, rest};
use crate::{
    bench::{controller, on_both, pattern},
    names::TwoAddresses,
    played::{agent, listen},
};

on_both! {
    each_direction_ends_by_itself
    a_slow_service_holds_the_client_up_and_loses_nothing
    a_client_that_does_not_read_holds_the_service_up_and_loses_nothing
    what_cannot_be_reached_or_is_not_listed_is_reset
    a_dropped_writer_resets_the_service
    p205_datagrams_keep_their_boundaries
}

/// Windows, queues and the sockets of a kernel: most that is on its way.
const AHEAD: usize = 32 << 20;
const LONG: usize = 64 << 20;

async fn tunnelled<R: Runtime>(runtime: R, port: u16) -> (Hub, Agent<TwoAddresses<R>>) {
    let (hub, address) = controller().await;
    let target = TunnelTarget::service("redis", "cache", port).unwrap();
    let named = TwoAddresses(runtime, None);
    let agent = agent(named, address).tunnels([target]).start().unwrap();
    assert!(hub.wait_joined().await.unwrap().http_streams);
    (hub, agent)
}

fn to(transport: Transport, port: u16) -> Tunnel {
    Tunnel {
        transport,
        tunnel_id: "t".into(),
        service_name: "redis".into(),
        service_namespace: "cache".into(),
        service_port: port,
        ..Tunnel::default()
    }
}

async fn each_direction_ends_by_itself<R: Runtime>(runtime: R) {
    let (service, at) = listen().await;
    let (hub, agent) = tunnelled(runtime, at.port()).await;
    let said = pattern(1_000_000);
    for client_first in [true, false] {
        let tunnel = to(Transport::Tcp, at.port());
        let (mut reader, mut writer) = hub.open_tunnel(tunnel).await.unwrap();
        let (mut tcp, _) = service.accept().await.unwrap();
        let mut heard = Vec::new();
        if client_first {
            let asking = async {
                writer.write(said.clone().into()).await.unwrap();
                writer.finish();
            };
            let ((), read) = tokio::join!(asking, tcp.read_to_end(&mut heard));
            read.unwrap();
            // The way back is open.
            let answering = async {
                tcp.write_all(&said).await.unwrap();
                tcp.shutdown().await.unwrap();
            };
            let ((), got) = tokio::join!(answering, rest(&mut reader));
            assert!(got == Ok(said.clone()), "what came back differs");
        } else {
            let answering = async {
                tcp.write_all(&said).await.unwrap();
                tcp.shutdown().await.unwrap();
            };
            let ((), got) = tokio::join!(answering, rest(&mut reader));
            assert!(got == Ok(said.clone()), "what came differs");
            let asking = async {
                writer.write(said.clone().into()).await.unwrap();
                writer.finish();
            };
            let ((), read) = tokio::join!(asking, tcp.read_to_end(&mut heard));
            read.unwrap();
        }
        assert!(heard == said, "what the service heard differs");
        none_left(&agent).await;
    }
}

async fn a_slow_service_holds_the_client_up_and_loses_nothing<R: Runtime>(runtime: R) {
    let (service, at) = listen().await;
    let (hub, agent) = tunnelled(runtime, at.port()).await;
    let tunnel = to(Transport::Tcp, at.port());
    let (mut reader, mut writer) = hub.open_tunnel(tunnel).await.unwrap();
    let (mut tcp, _) = service.accept().await.unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let counter = written.clone();
    let piece = Bytes::from(pattern(64 << 10));
    let sent = piece.clone();
    let asking = tokio::spawn(async move {
        for _ in 0..LONG / sent.len() {
            writer.write(sent.clone()).await.unwrap();
            counter.fetch_add(sent.len(), Ordering::SeqCst);
        }
        writer.finish();
    });
    let (mut heard, mut buffer) = (0, vec![0; piece.len()]);
    while heard < LONG {
        let ahead = written.load(Ordering::SeqCst).saturating_sub(heard);
        assert!(ahead <= AHEAD, "{ahead} bytes ahead");
        tcp.read_exact(&mut buffer).await.unwrap();
        assert!(buffer == piece, "what the service heard differs at {heard}");
        heard += buffer.len();
        // The client has its turn before the next.
        tokio::task::yield_now().await;
    }
    asking.await.unwrap();
    assert_eq!(tcp.read(&mut buffer).await.unwrap(), 0);
    drop(tcp);
    assert_eq!(rest(&mut reader).await, Ok(Vec::new()));
    none_left(&agent).await;
}

async fn a_client_that_does_not_read_holds_the_service_up_and_loses_nothing<R: Runtime>(
    runtime: R,
) {
    let (service, at) = listen().await;
    let (hub, _agent) = tunnelled(runtime, at.port()).await;
    let tunnel = to(Transport::Tcp, at.port());
    let (mut reader, writer) = hub.open_tunnel(tunnel).await.unwrap();
    let (mut tcp, _) = service.accept().await.unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let counter = written.clone();
    let piece = pattern(64 << 10);
    let said = piece.clone();
    tokio::spawn(async move {
        for _ in 0..LONG / said.len() {
            tcp.write_all(&said).await.unwrap();
            counter.fetch_add(said.len(), Ordering::SeqCst);
        }
    });
    let mut got = 0;
    while let Some(data) = reader.next().await {
        for byte in data.unwrap() {
            assert_eq!(byte, piece[got % piece.len()], "what came differs at {got}");
            got += 1;
        }
        let ahead = written.load(Ordering::SeqCst).saturating_sub(got);
        assert!(ahead <= AHEAD, "{ahead} bytes ahead");
    }
    assert_eq!(got, LONG);
    writer.finish();
}

async fn what_cannot_be_reached_or_is_not_listed_is_reset<R: Runtime>(runtime: R) {
    let (service, at) = listen().await;
    drop(service);
    let (hub, agent) = tunnelled(runtime, at.port()).await;
    // The second is not listed.
    for port in [at.port(), 1] {
        let tunnel = to(Transport::Tcp, port);
        let (mut reader, _writer) = hub.open_tunnel(tunnel).await.unwrap();
        assert_eq!(rest(&mut reader).await, Err(Failure::Reset), "{port}");
    }
    none_left(&agent).await;
}

async fn a_dropped_writer_resets_the_service<R: Runtime>(runtime: R) {
    let (service, at) = listen().await;
    let (hub, agent) = tunnelled(runtime, at.port()).await;
    let tunnel = to(Transport::Tcp, at.port());
    let (_reader, mut writer) = hub.open_tunnel(tunnel).await.unwrap();
    let (mut tcp, _) = service.accept().await.unwrap();
    writer.write("half".into()).await.unwrap();
    let mut half = [0; 4];
    tcp.read_exact(&mut half).await.unwrap();
    drop(writer);
    // A reset is an end, too.
    while !matches!(tcp.read(&mut half).await, Ok(0) | Err(_)) {}
    none_left(&agent).await;
}

async fn p205_datagrams_keep_their_boundaries<R: Runtime>(runtime: R) {
    let service = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = service.local_addr().unwrap().port();
    let (hub, _agent) = tunnelled(runtime, port).await;
    let tunnel = to(Transport::Udp, port);
    let (mut reader, mut writer) = hub.open_tunnel(tunnel).await.unwrap();
    let mut buffer = vec![0; 70_000];
    for len in [1, 0, 1472, 65_507, 40_000] {
        let sent = pattern(len);
        writer.write(sent.clone().into()).await.unwrap();
        let (got, from) = service.recv_from(&mut buffer).await.unwrap();
        assert!(buffer[..got] == sent, "{len} bytes became {got}");
        service.send_to(&sent, from).await.unwrap();
        let back = reader.next().await.unwrap().unwrap();
        assert!(back == sent, "{len} bytes came back as {}", back.len());
    }
    // Neither are two made one, however close they are.
    writer.write("a".into()).await.unwrap();
    writer.write("bc".into()).await.unwrap();
    let (first, _) = service.recv_from(&mut buffer).await.unwrap();
    let (second, _) = service.recv_from(&mut buffer).await.unwrap();
    assert_eq!((first, second), (1, 2));
}
