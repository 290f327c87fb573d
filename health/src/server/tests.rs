//! Health checks over real sockets.

use std::sync::Mutex;

use super::*;

struct Fake(Mutex<Result<(), String>>);

impl Health for Fake {
    fn ready(&self) -> Result<(), String> {
        self.0.lock().unwrap().clone()
    }

    fn metrics(&self) -> String {
        "# EOF\n".into()
    }
}

fn start(state: Result<(), &str>) -> (Arc<Fake>, Server) {
    let fake = Arc::new(Fake(Mutex::new(state.map_err(Into::into))));
    let server = Server::start("127.0.0.1:0".parse().unwrap(), fake.clone()).unwrap();
    (fake, server)
}

fn ask(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(server: &Server, path: &str) -> (String, String) {
    let answer = ask(server, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = format!("Content-Length: {}\r\n", body.len());
    assert!(head.contains(&length), "{head}");
    (head.lines().next().unwrap().into(), body.into())
}

#[test]
fn live_whatever_the_state_and_ready_only_when_it_is() {
    let (fake, server) = start(Err("waiting 12.0 s, attempt 3: no route"));
    assert_eq!(
        get(&server, "/livez"),
        ("HTTP/1.1 200 OK".into(), "ok\n".into())
    );
    let (status, body) = get(&server, "/readyz");
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(body, "waiting 12.0 s, attempt 3: no route\n");
    *fake.0.lock().unwrap() = Ok(());
    assert_eq!(
        get(&server, "/readyz?verbose"),
        ("HTTP/1.1 200 OK".into(), "ok\n".into())
    );
}

#[test]
fn metrics_are_declared_as_what_they_are() {
    let (_, server) = start(Ok(()));
    let answer = ask(&server, "GET /metrics HTTP/1.1\r\n\r\n");
    let kind = "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(answer.contains(kind), "{answer}");
    assert_eq!(get(&server, "/metrics").1, "# EOF\n");
}

#[test]
fn what_is_not_served_is_refused() {
    let (_, server) = start(Ok(()));
    assert_eq!(get(&server, "/").0, "HTTP/1.1 404 Not Found");
    let post = ask(&server, "POST /livez HTTP/1.1\r\n\r\n");
    assert!(post.starts_with("HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\n"));
    let head = ask(&server, "HEAD /livez HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(
        head.ends_with("Content-Length: 3\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n")
    );
}

#[test]
fn a_head_without_end_is_refused() {
    let (_, server) = start(Ok(()));
    let mut stream = TcpStream::connect(server.address()).unwrap();
    // One byte more than fits is enough, and leaves nothing unread that would reset the answer.
    let long = format!("GET /livez HTTP/1.1\r\nx: {}", "y".repeat(HEAD));
    stream.write_all(&long.as_bytes()[..=HEAD]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[test]
fn silent_connections_cannot_use_up_threads() {
    let (_, server) = start(Ok(()));
    let silent: Vec<_> = (0..CONNECTIONS)
        .map(|_| TcpStream::connect(server.address()).unwrap())
        .collect();
    // Connections are accepted in order: this one finds all places taken.
    let mut next = TcpStream::connect(server.address()).unwrap();
    assert!(matches!(next.read(&mut [0; 1]), Ok(0) | Err(_)));
    drop(silent);
}

#[test]
fn an_address_in_use_is_an_error() {
    let (fake, server) = start(Ok(()));
    let error = Server::start(server.address(), fake).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_dropped_server_frees_its_address() {
    let (_, server) = start(Ok(()));
    let address = server.address();
    drop(server);
    // The listener's thread ends soon after: no answer ever comes, be it refused or reset.
    if let Ok(mut stream) = TcpStream::connect(address) {
        let _ = stream.write_all(b"GET /livez HTTP/1.1\r\n\r\n");
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
}
