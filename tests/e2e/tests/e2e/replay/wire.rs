//! The client's side of a connection, with no library between it and the wire: it can send what no
//! client should, and shows what came as it came.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use controlplane_driver::{Roots, TlsOptions};
use controlplane_e2e::standin::spdy::Decoder;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, ReadHalf,
    WriteHalf,
};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::transcript::{Frame, What};

/// Whom the recordings are played to: an API server, or one that stands before it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    pub(crate) token: String,
    /// What stands before the Kubernetes paths, such as `/clusters/demo`.
    pub(crate) prefix: String,
}

/// A connection.
pub(crate) struct Connection {
    writer: WriteHalf<TlsStream<TcpStream>>,
    /// All that has come.
    pub(crate) seen: watch::Receiver<Vec<What>>,
    reading: JoinHandle<()>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// There is nobody, or not with a certificate of that authority.
    pub(crate) async fn open(target: &Target) -> Result<Self> {
        let options = TlsOptions {
            ca_pem: target.ca_pem.clone().into_bytes(),
            roots: Roots::Only,
            ..TlsOptions::default()
        };
        let connector = TlsConnector::from(Arc::new(options.client_config()?));
        let tcp = TcpStream::connect(target.address).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let (reader, writer) = tokio::io::split(connector.connect(name, tcp).await?);
        let (tell, seen) = watch::channel(Vec::new());
        let reading = tokio::spawn(async move {
            let broken = decode(BufReader::new(reader), &tell).await.err();
            // An end without TLS's own, and a reset, are ends.
            let end = match broken
                .as_ref()
                .map(|error| error.downcast_ref::<io::Error>())
            {
                Some(None) => What::Head(vec![format!("not understood: {broken:?}")]),
                Some(Some(_)) | None => What::End,
            };
            tell.send_modify(|seen| seen.push(end));
        });
        Ok(Self {
            writer,
            seen,
            reading,
        })
    }

    /// Sends bytes. That the server no longer takes them shows in what comes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        drop(self.writer.write_all(bytes).await);
        drop(self.writer.flush().await);
    }

    /// Sends a frame.
    pub(crate) async fn send_frame(&mut self, frame: &Frame) {
        self.send(&encode(frame)).await;
    }

    /// Ends it, as a client that is interrupted: with TLS and TCP, not with a close frame.
    pub(crate) async fn end(mut self) {
        drop(self.writer.shutdown().await);
        self.reading.abort();
        drop((&mut self.reading).await);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// The mask of all frames. It has no secrets to keep.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

fn encode(frame: &Frame) -> Vec<u8> {
    let mut out = vec![frame.opcode | if frame.last { 0x80 } else { 0 }];
    let masked = if frame.masked { 0x80 } else { 0 };
    match frame.payload.len() {
        length @ ..126 => out.push(masked | length as u8),
        length => {
            out.push(masked | 126);
            out.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    let mask = if frame.masked { MASK } else { [0; 4] };
    if frame.masked {
        out.extend(mask);
    }
    let payload = frame.payload.iter().zip(mask.iter().cycle());
    out.extend(payload.map(|(byte, mask)| byte ^ mask));
    out
}

type Reader = BufReader<ReadHalf<TlsStream<TcpStream>>>;

/// Tells what comes, up to the end.
async fn decode(mut reader: Reader, tell: &watch::Sender<Vec<What>>) -> Result<()> {
    let tell = |what| tell.send_modify(|seen| seen.push(what));
    loop {
        let Some(lines) = head(&mut reader).await? else {
            return Ok(());
        };
        let switches = lines[0].starts_with("HTTP/1.1 101 ");
        let length = length(&lines);
        let mut fields = lines.iter();
        let spdy = fields.any(|line| line.eq_ignore_ascii_case("Upgrade: SPDY/3.1"));
        tell(What::Head(lines));
        match (switches, spdy) {
            (true, true) => return spdy_frames(&mut reader, tell).await,
            (true, false) => break,
            _ => {}
        }
        tell(What::Body(body(&mut reader, length).await?));
    }
    loop {
        tell(What::Frame(frame(&mut reader).await?));
    }
}

async fn spdy_frames(reader: &mut Reader, tell: impl Fn(What)) -> Result<()> {
    let mut decoder = Decoder::new();
    loop {
        let bytes = reader.fill_buf().await?;
        let count = bytes.len();
        decoder.push(bytes);
        reader.consume(count);
        while let Some(frame) = decoder.next_frame()? {
            tell(What::Spdy(frame, Vec::new()));
        }
        if count == 0 {
            return Ok(());
        }
    }
}

async fn head(reader: &mut Reader) -> Result<Option<Vec<String>>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).await? == 0 && lines.is_empty() {
            return Ok(None);
        }
        let Some(line) = line.strip_suffix("\r\n") else {
            bail!("no line of a head: {line:?}");
        };
        if line.is_empty() {
            return Ok(Some(lines));
        }
        lines.push(line.to_owned());
    }
}

/// How a body ends.
enum Length {
    Known(u64),
    Chunked,
    /// With the connection.
    Unknown,
}

fn length(head: &[String]) -> Length {
    let fields = head.iter().filter_map(|line| line.split_once(": "));
    for (name, value) in fields {
        if name.eq_ignore_ascii_case("content-length") {
            return value.parse().map_or(Length::Unknown, Length::Known);
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Length::Chunked;
        }
    }
    Length::Unknown
}

async fn body(reader: &mut Reader, length: Length) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    match length {
        Length::Known(length) => {
            reader.take(length).read_to_end(&mut body).await?;
        }
        // Its end is told after it, whether it is one of TLS or not.
        Length::Unknown => drop(reader.read_to_end(&mut body).await),
        Length::Chunked => loop {
            let mut line = String::new();
            reader.read_line(&mut line).await?;
            let size = u64::from_str_radix(line.trim(), 16).with_context(|| line.clone())?;
            reader.take(size).read_to_end(&mut body).await?;
            reader.read_line(&mut line).await?;
            if size == 0 {
                break;
            }
        },
    }
    Ok(body)
}

async fn frame(reader: &mut (impl AsyncRead + Unpin)) -> Result<Frame> {
    let first = reader.read_u8().await?;
    let second = reader.read_u8().await?;
    let length = match second & 0x7f {
        126 => u64::from(reader.read_u16().await?),
        127 => reader.read_u64().await?,
        length => u64::from(length),
    };
    let mut payload = Vec::new();
    reader.take(length).read_to_end(&mut payload).await?;
    if payload.len() as u64 != length {
        bail!(io::Error::from(io::ErrorKind::UnexpectedEof));
    }
    Ok(Frame {
        last: first & 0x80 != 0,
        opcode: first & 0x7f,
        masked: second & 0x80 != 0,
        payload,
    })
}
