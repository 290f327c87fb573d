//! TCP and UDP tunnels from the user of a [`Hub`] to a service beside the agent. Those here name a
//! port of the agent's host and no service, so that they go in JSON messages.

mod fast;
mod udp;

use std::net::SocketAddr;

use bytes::Bytes;
use controlplane_driver::{
    Agent, Failure, Hub, Limits, OpenError, Runtime, Transport, Tunnel, TunnelReader, TunnelTarget,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    bench::{controller, on_both, pattern},
    played::{Played, agent, decoded, listen},
};

on_both! {
    p123_bytes_pass_both_ways_unchanged
    p123_a_service_that_ends_first_ends_the_tunnel
    p152_a_client_that_ends_first_is_heard_to_the_end
    p123_a_service_that_is_not_there_is_named
    p197_a_target_that_is_not_listed_is_refused
    p166_where_nothing_is_allowed_a_start_is_refused
    p174_a_lost_connection_ends_the_services_socket
    p153_a_service_that_does_not_read_ends_its_tunnel_alone
    a_peer_that_reads_slowly_slows_the_service_down
}

/// A controller's end, and an agent that may open tunnels to these ports of its own host.
async fn tunnelled<R: Runtime>(runtime: R, ports: &[u16]) -> (Hub, Agent<R>) {
    let (hub, address) = controller().await;
    let targets = ports.iter().map(|port| TunnelTarget::Local { port: *port });
    let agent = agent(runtime, address).tunnels(targets).start().unwrap();
    hub.wait_joined().await.unwrap();
    (hub, agent)
}

fn to(port: u16) -> Tunnel {
    Tunnel {
        transport: Transport::Tcp,
        tunnel_id: "t".into(),
        gateway_port: port,
        client_addr: "203.0.113.9:40000".into(),
        ..Tunnel::default()
    }
}

async fn rest(reader: &mut TunnelReader) -> Result<Vec<u8>, Failure> {
    let mut whole = Vec::new();
    while let Some(piece) = reader.next().await {
        whole.extend_from_slice(&piece?);
    }
    Ok(whole)
}

/// Why a tunnel fails, as the agent says.
async fn failure(reader: &mut TunnelReader) -> String {
    match rest(reader).await {
        Err(Failure::Agent(text)) => text,
        other => panic!("{other:?}"),
    }
}

async fn none_left<R: Runtime>(agent: &Agent<R>) {
    while agent.stats().streams_open > 0 {
        tokio::task::yield_now().await;
    }
}

async fn p123_bytes_pass_both_ways_unchanged<R: Runtime>(runtime: R) {
    let (service, at) = listen().await;
    tokio::spawn(async move {
        let (mut tcp, _) = service.accept().await.unwrap();
        let (mut from, mut to) = tcp.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    let (hub, agent) = tunnelled(runtime, &[at.port()]).await;
    let (mut reader, mut writer) = hub.open_tunnel(to(at.port())).await.unwrap();
    let sent = pattern(3_000_000);
    let upload = async {
        for piece in sent.chunks(70_001) {
            let piece = Bytes::copy_from_slice(piece);
            writer.write(piece).await.unwrap();
        }
        writer
    };
    let download = async {
        let mut got = Vec::new();
        while got.len() < sent.len() {
            got.extend_from_slice(&reader.next().await.unwrap().unwrap());
        }
        got
    };
    let (writer, got) = tokio::join!(upload, download);
    assert!(got == sent, "what came back differs");
    writer.finish();
    assert_eq!(rest(&mut reader).await, Err(Failure::Cancelled));
    none_left(&agent).await;
}

async fn p123_a_service_that_ends_first_ends_the_tunnel<R: Runtime>(runtime: R) {
    let (service, at) = listen().await;
    let (hub, agent) = tunnelled(runtime, &[at.port()]).await;
    let (mut reader, mut writer) = hub.open_tunnel(to(at.port())).await.unwrap();
    let (mut tcp, _) = service.accept().await.unwrap();
    let said = pattern(1_000_000);
    let saying = said.clone();
    tokio::spawn(async move { tcp.write_all(&saying).await });
    assert!(rest(&mut reader).await == Ok(said), "what came differs");
    while writer.write("nobody".into()).await.is_ok() {}
    none_left(&agent).await;
}

async fn p152_a_client_that_ends_first_is_heard_to_the_end<R: Runtime>(runtime: R) {
    let (service, at) = listen().await;
    let (hub, agent) = tunnelled(runtime, &[at.port()]).await;
    let (_reader, mut writer) = hub.open_tunnel(to(at.port())).await.unwrap();
    let (mut tcp, _) = service.accept().await.unwrap();
    let said = pattern(1_000_000);
    let listening = tokio::spawn(async move {
        let mut heard = Vec::new();
        tcp.read_to_end(&mut heard).await.unwrap();
        // It may end in its own time: nobody resets it, although nobody listens any more.
        tcp.write_all(&vec![0; 8_000_000]).await.unwrap();
        heard
    });
    for piece in said.chunks(30_000) {
        let piece = Bytes::copy_from_slice(piece);
        writer.write(piece).await.unwrap();
    }
    writer.finish();
    assert!(
        listening.await.unwrap() == said,
        "what the service heard differs"
    );
    none_left(&agent).await;
}

async fn p123_a_service_that_is_not_there_is_named<R: Runtime>(runtime: R) {
    let (service, at) = listen().await;
    drop(service);
    let (hub, agent) = tunnelled(runtime, &[at.port()]).await;
    let (mut reader, _writer) = hub.open_tunnel(to(at.port())).await.unwrap();
    let text = failure(&mut reader).await;
    let part = format!("connecting to {at}: ");
    assert!(
        text.starts_with("cannot reach the service: ") && text.contains(&part),
        "{text}"
    );
    none_left(&agent).await;
}

async fn p197_a_target_that_is_not_listed_is_refused<R: Runtime>(runtime: R) {
    let (service, at) = listen().await;
    let (hub, _agent) = tunnelled(runtime, &[1]).await;
    let (mut reader, _writer) = hub.open_tunnel(to(at.port())).await.unwrap();
    let text = failure(&mut reader).await;
    assert_eq!(text, "the agent's configuration permits no tunnel to there");
    first_is_we(&service, at).await;
}

/// Nobody has connected before.
async fn first_is_we(service: &TcpListener, at: SocketAddr) {
    let own = tokio::net::TcpStream::connect(at).await.unwrap();
    let (_, first) = service.accept().await.unwrap();
    assert_eq!(first, own.local_addr().unwrap());
}

async fn p166_where_nothing_is_allowed_a_start_is_refused<R: Runtime>(runtime: R) {
    let (service, at) = listen().await;
    let (listener, address) = listen().await;
    let _agent = agent(runtime.clone(), address).start().unwrap();
    let mut played = Played::register(&listener, json!({})).await;
    let payload = json!({"tunnel_id": "t", "gateway_port": at.port()});
    played.say("tcp_tunnel_start", "c-1", payload).await;
    let close = played.until("tcp_tunnel_close").await;
    assert_eq!(close["request_id"], "c-1");
    let expected = json!({"reason": "connection_failed",
        "error": "the agent's configuration permits no tunnel to there"});
    assert_eq!(close["payload"], expected);
    first_is_we(&service, at).await;
    // Our own controller's end does not even ask.
    let (hub, _agent) = tunnelled(runtime, &[]).await;
    let refused = hub.open_tunnel(to(at.port())).await;
    assert_eq!(refused.unwrap_err(), OpenError::Tunnel);
}

async fn p174_a_lost_connection_ends_the_services_socket<R: Runtime>(runtime: R) {
    let (service, at) = listen().await;
    let (hub, agent) = tunnelled(runtime, &[at.port()]).await;
    let (mut reader, mut writer) = hub.open_tunnel(to(at.port())).await.unwrap();
    let (mut tcp, _) = service.accept().await.unwrap();
    writer.write("a".into()).await.unwrap();
    assert_eq!(tcp.read_u8().await.unwrap(), b'a');
    hub.disconnect();
    assert_eq!(rest(&mut reader).await, Err(Failure::Disconnected));
    // A reset is an end, too.
    while !matches!(tcp.read(&mut [0; 1024]).await, Ok(0) | Err(_)) {}
    none_left(&agent).await;
}

async fn p153_a_service_that_does_not_read_ends_its_tunnel_alone<R: Runtime>(runtime: R) {
    let (service, at) = listen().await;
    let (hub, agent) = tunnelled(runtime, &[at.port()]).await;
    let (mut reader, mut writer) = hub.open_tunnel(to(at.port())).await.unwrap();
    let (_silent, _) = service.accept().await.unwrap();
    let (mut other, mut beside) = hub.open_tunnel(to(at.port())).await.unwrap();
    let (mut echo, _) = service.accept().await.unwrap();
    while writer.write(vec![7; 100_000].into()).await.is_ok() {}
    let text = failure(&mut reader).await;
    assert_eq!(text, "more data arrives than the service takes in time");
    beside.write("b".into()).await.unwrap();
    assert_eq!(echo.read_u8().await.unwrap(), b'b');
    echo.write_all(b"c").await.unwrap();
    assert_eq!(other.next().await.unwrap().unwrap(), "c");
    assert_eq!(agent.stats().streams_open, 1);
}

async fn a_peer_that_reads_slowly_slows_the_service_down<R: Runtime>(runtime: R) {
    const SIZE: usize = 20_000_000;
    let (service, at) = listen().await;
    let (listener, address) = listen().await;
    let target = TunnelTarget::Local { port: at.port() };
    let agent = agent(runtime, address).tunnels([target]).start().unwrap();
    let mut played = Played::register(&listener, json!({})).await;
    let payload = json!({"tunnel_id": "t", "gateway_port": at.port()});
    played.say("tcp_tunnel_start", "c-1", payload).await;
    let (mut tcp, _) = service.accept().await.unwrap();
    tokio::spawn(async move { tcp.write_all(&pattern(SIZE)).await });
    // Nobody reads: what the agent holds is the queue of one stream, and the service waits.
    let limit = Limits::agent().send_stream;
    while agent.stats().held_out < limit - (64 << 10) {
        tokio::task::yield_now().await;
    }
    let (mut got, mut most) = (Vec::new(), 0);
    let close = loop {
        let message = played.next().await.unwrap();
        most = most.max(agent.stats().held_out);
        match message["type"].as_str().unwrap() {
            "tcp_tunnel_data" => got.extend(decoded(&message["payload"]["data"])),
            "tcp_tunnel_close" => break message,
            _ => {}
        }
    };
    assert!(got == pattern(SIZE), "what came differs");
    assert!(most <= limit, "{most} bytes were held");
    assert_eq!(close["payload"]["reason"], "service_closed");
    assert_eq!(close["payload"]["bytes_sent"], SIZE);
}
