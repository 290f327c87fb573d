//! Port forwarding over SPDY.

use std::io;
use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::spdy_client::{Client, Stream};
use super::start;
use crate::standin::spdy::{CANCEL, Frame, PROTOCOL_ERROR};
use crate::standin::{Error, StandIn};

const PATH: &str = "/api/v1/namespaces/default/pods/web-0/portforward";

/// A pod's end of port 80.
async fn listen(standin: &StandIn) -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let local = listener.local_addr().unwrap().port();
    standin.set_port("web-0", 80, Some(local)).unwrap();
    listener
}

async fn connect(standin: &StandIn) -> Client {
    Client::connect(standin, PATH, "portforward.k8s.io").await
}

/// The error stream and the data stream of a connection to that port.
async fn open(client: &mut Client, request: &str, port: &str) -> (u32, u32) {
    let headers = |kind| [("streamtype", kind), ("port", port), ("requestid", request)];
    let error = client.open(&headers("error")).await;
    client.data(error, b"", true).await;
    (error, client.open(&headers("data")).await)
}

async fn accept(pod: &TcpListener) -> TcpStream {
    pod.accept().await.unwrap().0
}

fn ended(data: &[u8]) -> Stream {
    Stream {
        taken: true,
        data: data.to_vec(),
        fin: true,
        reset: None,
    }
}

/// That the connection works both ways.
async fn works(client: &mut Client, stream: u32, tcp: &mut TcpStream) {
    client.data(stream, b"ping", false).await;
    let mut got = [0; 4];
    tcp.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"ping");
    tcp.write_all(b"pong").await.unwrap();
    client
        .until(stream, |stream| stream.data.ends_with(b"pong"))
        .await;
}

#[tokio::test]
async fn the_client_ends_first() {
    let standin = start().await;
    let pod = listen(&standin).await;
    let mut client = connect(&standin).await;
    let (error, data) = open(&mut client, "0", "80").await;
    let mut tcp = accept(&pod).await;
    client.data(data, b"all", true).await;
    let mut got = Vec::new();
    tcp.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"all");
    // The other direction goes on.
    tcp.write_all(b"answer").await.unwrap();
    client.until(data, |data| data.data == b"answer").await;
    assert!(!client.stream(data).fin);
    drop(tcp);
    client.until(error, |error| error.fin).await;
    assert_eq!(client.stream(data), ended(b"answer"));
    assert_eq!(client.stream(error), ended(b""));
}

#[tokio::test]
async fn the_pod_ends_first() {
    let standin = start().await;
    let pod = listen(&standin).await;
    let mut client = connect(&standin).await;
    let (error, data) = open(&mut client, "0", "80").await;
    let mut tcp = accept(&pod).await;
    tcp.write_all(b"all").await.unwrap();
    tcp.shutdown().await.unwrap();
    client.until(data, |data| data.fin).await;
    assert_eq!(client.stream(data), ended(b"all"));
    // The other direction goes on, and only its end is that of the connection.
    let much = vec![7; 100_000];
    client.data(data, &much, false).await;
    let mut got = vec![0; much.len()];
    tcp.read_exact(&mut got).await.unwrap();
    assert!(got == much);
    assert!(!client.stream(error).fin);
    client.data(data, b"", true).await;
    assert_eq!(tcp.read(&mut got).await.unwrap(), 0);
    client.until(error, |error| error.fin).await;
    assert_eq!(client.stream(error), ended(b""));
}

/// The pod does not take a reset for an end, and no text makes kubectl give up.
#[tokio::test]
async fn a_reset_of_the_client_reaches_the_pod_and_no_other() {
    let standin = start().await;
    let pod = listen(&standin).await;
    let mut client = connect(&standin).await;
    let (error, data) = open(&mut client, "0", "80").await;
    let mut tcp = accept(&pod).await;
    let (_, other) = open(&mut client, "1", "80").await;
    let mut other_tcp = accept(&pod).await;
    works(&mut client, data, &mut tcp).await;
    client
        .send(Frame::RstStream {
            stream: data,
            status: CANCEL,
        })
        .await;
    let error = client.until(error, |error| error.fin).await;
    assert_eq!(error, ended(b""));
    let broken = tcp.read(&mut [0]).await.unwrap_err();
    assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset);
    // What still comes on it is nobody's.
    client.data(data, b"late", true).await;
    works(&mut client, other, &mut other_tcp).await;
}

#[tokio::test]
async fn a_reset_of_the_pod_reaches_the_client_and_no_other() {
    let standin = start().await;
    let pod = listen(&standin).await;
    let mut client = connect(&standin).await;
    let (error, data) = open(&mut client, "0", "80").await;
    let mut tcp = accept(&pod).await;
    let (_, other) = open(&mut client, "1", "80").await;
    let mut other_tcp = accept(&pod).await;
    works(&mut client, data, &mut tcp).await;
    tcp.set_zero_linger().unwrap();
    drop(tcp);
    let error = client.until(error, |error| error.fin).await;
    assert_eq!(error, ended(b""));
    assert_eq!(client.stream(data).reset, Some(CANCEL));
    assert!(!client.stream(data).fin);
    works(&mut client, other, &mut other_tcp).await;
}

#[tokio::test]
async fn a_port_that_leads_nowhere_is_told_and_hurts_no_other() {
    let standin = start().await;
    let pod = listen(&standin).await;
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let local = closed.local_addr().unwrap().port();
    drop(closed);
    standin.set_port("web-0", 81, Some(local)).unwrap();
    let mut client = connect(&standin).await;
    let (_, other) = open(&mut client, "0", "80").await;
    let mut other_tcp = accept(&pod).await;
    for (request, port) in [("1", "9999"), ("2", "81")] {
        let (error, data) = open(&mut client, request, port).await;
        let error = client.until(error, |error| error.fin).await;
        let text = String::from_utf8(error.data).unwrap();
        let start = format!("error forwarding port {port} to pod ");
        assert!(text.starts_with(&start), "{text}");
        assert!(text.contains("connection refused"), "{text}");
        assert_eq!(client.stream(data), ended(b""));
    }
    works(&mut client, other, &mut other_tcp).await;
    let nobody = standin.set_port("nosuch", 80, None).unwrap_err();
    assert!(matches!(nobody, Error::NoSuchPod(_)));
}

#[tokio::test]
async fn streams_that_say_nothing_useful_are_reset() {
    let standin = start().await;
    let pod = listen(&standin).await;
    let mut client = connect(&standin).await;
    let (_, other) = open(&mut client, "0", "80").await;
    let mut other_tcp = accept(&pod).await;
    let bad = [
        vec![("streamtype", "data"), ("requestid", "1")],
        vec![("streamtype", "data"), ("port", "0"), ("requestid", "1")],
        vec![("streamtype", "data"), ("port", "x"), ("requestid", "1")],
        vec![("streamtype", "stdin"), ("port", "80"), ("requestid", "1")],
        vec![],
    ];
    for headers in bad {
        let stream = client.begin(&headers).await;
        let seen = client.until(stream, |stream| stream.reset.is_some()).await;
        assert_eq!((seen.taken, seen.reset), (false, Some(CANCEL)));
    }
    // One that there was, and one of the server's own.
    for stream in [1, 100] {
        let frame = Frame::SynStream {
            stream,
            fin: false,
            headers: Vec::new(),
        };
        client.send(frame).await;
        let seen = client.until(stream, |stream| stream.reset.is_some()).await;
        assert_eq!(seen.reset, Some(PROTOCOL_ERROR));
    }
    works(&mut client, other, &mut other_tcp).await;
}

/// All that a client can say beside, and its end: the connections end with it.
#[tokio::test]
async fn the_end_of_the_client_is_that_of_its_connections() {
    let standin = start().await;
    let pod = listen(&standin).await;
    let mut client = connect(&standin).await;
    let (_, data) = open(&mut client, "0", "80").await;
    let mut tcp = accept(&pod).await;
    client.send(Frame::Settings(vec![(4, 100)])).await;
    let (stream, delta) = (data, 1);
    client.send(Frame::WindowUpdate { stream, delta }).await;
    client.send(Frame::Ping(1)).await;
    works(&mut client, data, &mut tcp).await;
    assert_eq!(client.seen.pings, [1]);
    assert_eq!(standin.open_streams(), 1);
    drop(client);
    // An end or a reset.
    assert!(!matches!(tcp.read(&mut [0]).await, Ok(1..)));
    standin.streams_become(0).await;
}
