//! Answers health checks over HTTP/1.1: `/livez`, a truthful `/readyz`, and `/metrics`.
//!
//! Threads of its own: a runtime that is stuck is seen, and offers the agent no listener anyway.
//! Connections are bounded in number, size and time.

use std::{
    fmt::Write as _,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Connections at once; further ones are closed unanswered.
const CONNECTIONS: usize = 16;
/// For one connection, from its first byte to its last.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest request head.
const HEAD: usize = 8 << 10;
/// Pause after an error of the listener, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// What is asked about.
pub trait Health: Send + Sync + 'static {
    /// Whether requests are served; if not, the state in one line without secrets.
    ///
    /// # Errors
    ///
    /// They are not.
    fn ready(&self) -> Result<(), String>;

    /// Metrics, as [`crate::Page::text`] renders them.
    fn metrics(&self) -> String;
}

/// A listening server; dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Listens at `address` from now on.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on.
    pub fn start(address: SocketAddr, health: Arc<dyn Health>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let bound = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        thread::Builder::new()
            .name("health".into())
            .spawn(move || listen(&listener, &health, &stopped))?;
        tracing::info!(address = %bound, "answering health checks");
        Ok(Self {
            address: bound,
            stop,
        })
    }

    /// Where it listens, with the port that port 0 became.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // The listener waits for a connection: this is one.
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let _ = TcpStream::connect_timeout(&SocketAddr::new(ip, self.address.port()), PAUSE);
    }
}

fn listen(listener: &TcpListener, health: &Arc<dyn Health>, stop: &AtomicBool) {
    let places = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = listener.accept();
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok((stream, _)) = accepted else {
            thread::sleep(PAUSE);
            continue;
        };
        let Some(place) = Place::take(&places) else {
            continue;
        };
        let health = health.clone();
        let serve = move || {
            let _place = place;
            // Whoever asks and goes away has no one to report to.
            let _ = serve(stream, health.as_ref());
        };
        let _ = thread::Builder::new().name("health".into()).spawn(serve);
    }
}

/// One of the connections that may be open, given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(places: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(places.clone());
        (places.fetch_add(1, Ordering::SeqCst) < CONNECTIONS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn serve(mut stream: TcpStream, health: &dyn Health) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    let answer = match head(&mut stream, end)? {
        Some(head) => answer(&head, health),
        None => response(431, "the request is too long\n", PLAIN, true),
    };
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(answer.as_bytes())?;
    stream.shutdown(Shutdown::Write)
}

/// Everything up to the empty line; `None` if it is too long.
fn head(stream: &mut TcpStream, end: Instant) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() > HEAD {
            return Ok(None);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

const PLAIN: &str = "text/plain; charset=utf-8";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn answer(head: &str, health: &dyn Health) -> String {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (method, target) = (words.next(), words.next());
    let body = match method {
        Some("GET") => true,
        Some("HEAD") => false,
        _ => return response(405, "only GET and HEAD are answered\n", PLAIN, true),
    };
    let path = target
        .unwrap_or_default()
        .split('?')
        .next()
        .unwrap_or_default();
    match path {
        "/livez" => response(200, "ok\n", PLAIN, body),
        "/readyz" => match health.ready() {
            Ok(()) => response(200, "ok\n", PLAIN, body),
            Err(state) => response(503, &format!("{state}\n"), PLAIN, body),
        },
        "/metrics" => response(200, &health.metrics(), METRICS, body),
        _ => response(404, "there are /livez, /readyz and /metrics\n", PLAIN, body),
    }
}

fn response(status: u16, text: &str, kind: &str, body: bool) -> String {
    let reason = match status {
        200 => "OK",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let mut out = format!("HTTP/1.1 {status} {reason}\r\n");
    if status == 405 {
        out.push_str("Allow: GET, HEAD\r\n");
    }
    let length = text.len();
    let _ = write!(
        out,
        "Content-Type: {kind}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n"
    );
    if body {
        out.push_str(text);
    }
    out
}

#[cfg(test)]
mod tests;
