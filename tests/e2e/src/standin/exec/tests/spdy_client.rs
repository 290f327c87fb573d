//! A client of SPDY.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::standin::StandIn;
use crate::standin::exec::link::{Carrier, LinkError, Reader, Received, Writer};
use crate::standin::spdy::Frame;
use crate::standin::tests::client::connect;

type Tls = TlsStream<TcpStream>;

/// A connection.
pub(super) struct Client {
    reader: Reader<ReadHalf<Tls>>,
    writer: Writer<WriteHalf<Tls>>,
    last: u32,
    pub(super) seen: Seen,
}

/// What the server has sent.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) streams: BTreeMap<u32, Stream>,
    pub(super) pings: Vec<u32>,
    pub(super) go_away: Option<u32>,
}

/// What the server has sent on a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) taken: bool,
    pub(super) data: Vec<u8>,
    pub(super) fin: bool,
    pub(super) reset: Option<u32>,
}

/// Asks for a SPDY connection: the rest of the connection, and the head of the answer.
pub(super) async fn ask(standin: &StandIn, path: &str, protocols: &[&str]) -> (Tls, String) {
    let mut tls = connect(standin).await;
    let offers = protocols
        .iter()
        .map(|name| format!("X-Stream-Protocol-Version: {name}\r\n"));
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: standin\r\nContent-Length: 0\r\n\
         Authorization: Bearer {}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n{}\r\n",
        standin.token(),
        offers.collect::<String>()
    );
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tls.read_u8().await.unwrap());
    }
    (tls, String::from_utf8(head).unwrap())
}

impl Client {
    /// Connects, with the streams of that protocol.
    pub(super) async fn connect(standin: &StandIn, path: &str, protocol: &str) -> Self {
        let (tls, head) = ask(standin, path, &[protocol]).await;
        assert_eq!(
            head,
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
                 X-Stream-Protocol-Version: {protocol}\r\n\r\n"
            )
        );
        let (reader, writer) = tokio::io::split(tls);
        Self {
            reader: Reader::new(reader, Carrier::Connection),
            writer: Writer::new(writer, Carrier::Connection).unwrap(),
            last: 0,
            seen: Seen::default(),
        }
    }

    /// Sends a frame. That the server is gone shows in what comes.
    pub(super) async fn send(&mut self, frame: Frame) {
        drop(self.writer.frames(&[frame]).await);
    }

    /// Sends data.
    pub(super) async fn data(&mut self, stream: u32, data: &[u8], fin: bool) {
        let data = data.to_vec();
        self.send(Frame::Data { stream, fin, data }).await;
    }

    /// Begins a stream.
    pub(super) async fn begin(&mut self, headers: &[(&str, &str)]) -> u32 {
        self.last = if self.last == 0 { 1 } else { self.last + 2 };
        let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.send(Frame::SynStream {
            stream: self.last,
            fin: false,
            headers: headers.iter().map(text).collect(),
        })
        .await;
        self.last
    }

    /// Begins a stream that the server takes.
    pub(super) async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let stream = self.begin(headers).await;
        self.until(stream, |stream| stream.taken).await;
        stream
    }

    /// What there is of a stream.
    pub(super) fn stream(&self, stream: u32) -> Stream {
        self.seen.streams.get(&stream).cloned().unwrap_or_default()
    }

    /// Waits until that can be said of a stream.
    pub(super) async fn until(&mut self, stream: u32, wanted: impl Fn(&Stream) -> bool) -> Stream {
        while !wanted(&self.stream(stream)) {
            let more = self.next().await.unwrap();
            assert!(more, "ended: {:?}", self.seen);
        }
        self.stream(stream)
    }

    /// Takes the next frame; false at the end.
    pub(super) async fn next(&mut self) -> Result<bool, LinkError> {
        let frame = match self.reader.receive().await? {
            Received::Frame(frame) => frame,
            Received::Ping(_) | Received::End => return Ok(false),
        };
        let streams = &mut self.seen.streams;
        match frame {
            Frame::SynReply { stream, .. } => streams.entry(stream).or_default().taken = true,
            Frame::RstStream { stream, status } => {
                streams.entry(stream).or_default().reset = Some(status)
            }
            Frame::Data { stream, fin, data } => {
                let stream = streams.entry(stream).or_default();
                assert!(!stream.fin, "data after the end");
                stream.data.extend(data);
                stream.fin = fin;
            }
            Frame::Ping(number) => self.seen.pings.push(number),
            Frame::GoAway { last_stream, .. } => self.seen.go_away = Some(last_stream),
            other => panic!("{other:?}"),
        }
        Ok(true)
    }

    /// Waits for the end.
    pub(super) async fn end(mut self) -> Seen {
        // A connection that is cut ends without TLS's own end.
        while matches!(self.next().await, Ok(true)) {}
        self.seen
    }
}
