//! A connection, with TLS or without, that one thread reads while others write.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use tungstenite::{
    WebSocket,
    http::Uri,
    protocol::{Role, WebSocketConfig},
};

/// For one address to answer, and for each step of a handshake.
const CONNECT: Duration = Duration::from_secs(10);

/// Is told of bytes: true where they arrived, false where they left.
pub(crate) type Meter = Arc<dyn Fn(bool) + Send + Sync>;

/// Clones are the same connection.
#[derive(Clone)]
pub(crate) struct Wire {
    tcp: Arc<TcpStream>,
    /// Never locked while bytes are waited for.
    tls: Option<Arc<Mutex<ClientConnection>>>,
    /// What one writer encrypts has to leave before what the next does.
    turn: Arc<Mutex<()>>,
    meter: Option<Meter>,
}

impl Wire {
    /// Connects to where a URL leads, with TLS where its scheme says so.
    pub(crate) fn connect(
        uri: &Uri,
        tls: &Arc<ClientConfig>,
        meter: Option<Meter>,
    ) -> Result<Self> {
        let secure = matches!(uri.scheme_str(), Some("https" | "wss"));
        let host = uri.host().context("a URL without a host")?;
        let host = host.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = tcp(host, port)?;
        let mut session = None;
        if secure {
            let name = ServerName::try_from(host.to_string())?;
            let mut tls = ClientConnection::new(tls.clone(), name)?;
            tls.complete_io(&mut &tcp).context("TLS")?;
            session = Some(Arc::new(Mutex::new(tls)));
        }
        Ok(Self {
            tcp: Arc::new(tcp),
            tls: session,
            turn: Arc::default(),
            meter,
        })
    }

    /// The handshakes are over: from now on silence is no error.
    pub(crate) fn wait_for_ever(&self) -> io::Result<()> {
        self.tcp.set_read_timeout(None)
    }

    /// Wakes the reader with an end, after what has arrived.
    pub(crate) fn end_reading(&self) {
        let _ = self.tcp.shutdown(Shutdown::Read);
    }

    /// The socket below, to end it from elsewhere.
    pub(crate) fn socket(&self) -> io::Result<socket2::Socket> {
        Ok(self.tcp.try_clone()?.into())
    }

    /// A WebSocket on this connection, of which `read` was read already. A second one, only to write,
    /// may be made of a clone: each message leaves in one piece.
    pub(crate) fn websocket(&self, read: Vec<u8>, longest: usize) -> WebSocket<Self> {
        let config = Some(config(longest));
        WebSocket::from_partially_read(self.clone(), read, Role::Client, config)
    }

    fn moved(&self, arrived: bool) {
        if let Some(meter) = &self.meter {
            meter(arrived);
        }
    }
}

/// Connects to the first address of a host that answers.
pub(crate) fn tcp(host: &str, port: u16) -> Result<TcpStream> {
    let mut outcome = Err(io::Error::from(ErrorKind::AddrNotAvailable));
    for address in (host, port)
        .to_socket_addrs()
        .context("resolving the name")?
    {
        outcome = TcpStream::connect_timeout(&address, CONNECT);
        if outcome.is_ok() {
            break;
        }
    }
    let tcp = outcome.with_context(|| format!("connecting to {host}:{port}"))?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(CONNECT))?;
    Ok(tcp)
}

/// Messages of up to `longest` bytes, each written at once.
pub(crate) fn config(longest: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .write_buffer_size(0)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            let len = (&*self.tcp).read(buffer)?;
            self.moved(true);
            return Ok(len);
        };
        loop {
            match lock(tls).reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            // Waits without the lock, until there is something to decrypt.
            self.tcp.peek(&mut [0])?;
            let mut tls = lock(tls);
            tls.read_tls(&mut &*self.tcp)?;
            tls.process_new_packets().map_err(io::Error::other)?;
            drop(tls);
            self.moved(true);
        }
    }
}

/// Each write is whole.
impl Write for Wire {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let _turn = lock(&self.turn);
        let mut sealed = Vec::new();
        if let Some(tls) = &self.tls {
            let mut tls = lock(tls);
            tls.set_buffer_limit(None);
            tls.writer().write_all(data)?;
            while tls.wants_write() {
                tls.write_tls(&mut sealed)?;
            }
        }
        let mut rest = if self.tls.is_some() { &sealed } else { data };
        while !rest.is_empty() {
            match (&*self.tcp).write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => rest = rest.get(len..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.moved(false);
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
