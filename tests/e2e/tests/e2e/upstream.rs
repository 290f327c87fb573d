//! The built-in handler against a Kubernetes API that is played byte by byte: what reaches it,
//! and what becomes of each way in which it can fail.

use std::{net::SocketAddr, time::Duration};

use controlplane_driver::{
    Failure, Hub, Kubernetes, KubernetesConfig, RequestHead, Runtime, Token, TokenSource,
    UpstreamLimits,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::bench::{head, on_both, pair, rest};

on_both! {
    p163_p201_a_request_reaches_the_api_byte_for_byte
    p207_a_known_length_is_a_length_and_an_unknown_one_is_chunked
    a_token_file_is_read_anew
    an_api_that_is_down_is_named
    p173_an_api_that_does_not_answer_is_given_up
    p206_too_many_requests_are_refused_visibly
    an_answer_that_breaks_off_never_passes_for_whole
    p187_silence_ends_an_answer_but_not_a_watch
    p186_a_cancelled_request_closes_its_connection
    a_kept_connection_that_was_closed_is_replaced
    an_early_answer_passes_although_the_body_is_not_done
}

/// A played API: each connection is handed to the test.
pub(crate) struct Api {
    address: SocketAddr,
    connections: mpsc::UnboundedReceiver<Connection>,
}

/// One connection to the played API.
pub(crate) struct Connection(pub(crate) TcpStream);

impl Api {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, connections) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                if sender.send(Connection(tcp)).is_err() {
                    return;
                }
            }
        });
        Self {
            address,
            connections,
        }
    }

    pub(crate) fn config(&self) -> KubernetesConfig {
        KubernetesConfig::new(format!("http://{}", self.address))
    }

    pub(crate) async fn accept(&mut self) -> Connection {
        self.connections.recv().await.unwrap()
    }
}

impl Connection {
    /// Reads until what was read ends with `end`.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            let mut byte = [0];
            assert_eq!(
                self.0.read(&mut byte).await.unwrap(),
                1,
                "ended early: {read:?}"
            );
            read.push(byte[0]);
        }
        String::from_utf8(read).unwrap()
    }

    pub(crate) async fn head(&mut self) -> String {
        self.read_until("\r\n\r\n").await
    }

    pub(crate) async fn write(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    pub(crate) async fn closed(&mut self) {
        // A reset is an end, too.
        while !matches!(self.0.read(&mut [0; 1024]).await, Ok(0) | Err(_)) {}
    }
}

pub(crate) fn get(path: &str) -> RequestHead {
    RequestHead {
        method: "GET".into(),
        ..head(path)
    }
}

pub(crate) async fn tunnel<R: Runtime>(
    runtime: R,
    config: KubernetesConfig,
) -> (Hub, controlplane_driver::Agent<R>) {
    let handler = Kubernetes::new(runtime.clone(), config).unwrap();
    pair(runtime, handler).await
}

pub(crate) async fn text_of(hub: &Hub, head: RequestHead) -> Result<String, Failure> {
    let (_, mut answer) = hub.request(head, false).await.unwrap();
    answer.head().await?;
    Ok(String::from_utf8(rest(&mut answer).await?).unwrap())
}

pub(crate) fn agent_said(failure: Failure) -> String {
    match failure {
        Failure::Agent(text) => text,
        other => panic!("{other:?}"),
    }
}

async fn p163_p201_a_request_reaches_the_api_byte_for_byte<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let token = TokenSource::Fixed(Token::new("sa-token").unwrap());
    let config = KubernetesConfig {
        token: Some(token),
        ..api.config()
    };
    let (hub, _agent) = tunnel(runtime, config).await;
    let mut asked = get("/api/v1/namespaces/a/services/x:y/proxy/a%2Fb;c=d");
    asked.query = Some("q=%2f&m&z=;".into());
    for (name, value) in [
        ("Accept", "application/json"),
        ("authorization", "Bearer user"),
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("Host", "controller.example"),
        ("Impersonate-User", "root"),
    ] {
        asked.headers.push((name.into(), value.into()));
    }
    let (_, mut answer) = hub.request(asked, false).await.unwrap();
    let mut connection = api.accept().await;
    let request = connection.head().await;
    let mut lines: Vec<&str> = request.trim_end().lines().collect();
    assert_eq!(
        lines.remove(0),
        "GET /api/v1/namespaces/a/services/x:y/proxy/a%2Fb;c=d?q=%2f&m&z=; HTTP/1.1"
    );
    lines.sort_unstable();
    let host = format!("host: {}", api.address);
    assert_eq!(
        lines,
        [
            "accept: application/json",
            "authorization: Bearer sa-token",
            &host
        ]
    );
    connection.write("HTTP/1.1 200 OK\r\nX-A: 1\r\nX-A: 2\r\nConnection: X-B\r\nX-B: 3\r\nContent-Length: 2\r\n\r\nok").await;
    let head = answer.head().await.unwrap();
    assert_eq!(head.status, 200);
    let mut headers = head.headers;
    headers.sort();
    let expected = [("Content-Length", "2"), ("x-a", "1"), ("x-a", "2")];
    assert_eq!(
        headers,
        expected.map(|(n, v)| (n.to_string(), v.to_string()))
    );
    assert_eq!(rest(&mut answer).await.unwrap(), b"ok");
}

async fn p207_a_known_length_is_a_length_and_an_unknown_one_is_chunked<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    let mut known = head("/api/v1/pods");
    known.headers.push(("content-length".into(), "5".into()));
    for (asked, end, expected) in [
        (known, "hello", "content-length: 5\r\n"),
        (
            head("/api/v1/pods"),
            "5\r\nhello\r\n0\r\n\r\n",
            "transfer-encoding: chunked\r\n",
        ),
    ] {
        let (mut body, mut answer) = hub.request(asked, true).await.unwrap();
        body.write("hello".into()).await.unwrap();
        body.finish();
        let mut connection = api.accept().await;
        let request = connection.head().await;
        assert!(request.contains(expected), "{request}");
        connection.read_until(end).await;
        connection
            .write("HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n")
            .await;
        drop(connection);
        assert_eq!(answer.head().await.unwrap().status, 201);
        assert_eq!(rest(&mut answer).await.unwrap(), b"");
    }
}

async fn a_token_file_is_read_anew<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let file = std::env::temp_dir().join(format!(
        "token-{}-{}",
        std::process::id(),
        api.address.port()
    ));
    std::fs::write(&file, "first").unwrap();
    let config = KubernetesConfig {
        token: Some(TokenSource::File(file.clone())),
        ..api.config()
    };
    let (hub, _agent) = tunnel(runtime, config).await;
    for token in ["first", "second"] {
        std::fs::write(&file, token).unwrap();
        let (_, mut answer) = hub.request(get("/version"), false).await.unwrap();
        let mut connection = api.accept().await;
        let request = connection.head().await;
        assert!(
            request.contains(&format!("authorization: Bearer {token}\r\n")),
            "{request}"
        );
        connection
            .write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            .await;
        answer.head().await.unwrap();
    }
    std::fs::remove_file(&file).unwrap();
    let failure = text_of(&hub, get("/version")).await.unwrap_err();
    assert!(agent_said(failure).contains("cannot read the token file"));
}

async fn an_api_that_is_down_is_named<R: Runtime>(runtime: R) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (hub, _agent) = tunnel(runtime, KubernetesConfig::new(format!("http://{address}"))).await;
    let text = agent_said(text_of(&hub, get("/version")).await.unwrap_err());
    let expected = format!("kubernetes API request failed: connecting to {address}: ");
    assert!(text.starts_with(&expected), "{text}");
}

async fn p173_an_api_that_does_not_answer_is_given_up<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let mut config = api.config();
    let short = Duration::from_millis(50);
    config.limits = UpstreamLimits {
        head: short,
        write: short,
        ..UpstreamLimits::default()
    };
    let (hub, _agent) = tunnel(runtime, config).await;
    let failed = text_of(&hub, get("/version"));
    let (mut connection, failed) = tokio::join!(api.accept(), failed);
    let text = agent_said(failed.unwrap_err());
    assert!(text.contains("timeout: no answer in time"), "{text}");
    connection.closed().await;
}

async fn p206_too_many_requests_are_refused_visibly<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let mut config = api.config();
    config.limits.connections = 1;
    let (hub, _agent) = tunnel(runtime, config).await;
    let (_, mut first) = hub.request(get("/api/v1/a"), false).await.unwrap();
    let mut connection = api.accept().await;
    let text = agent_said(text_of(&hub, get("/api/v1/b")).await.unwrap_err());
    assert!(
        text.contains("too many requests at once: the agent has 1"),
        "{text}"
    );
    connection.head().await;
    connection
        .write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
        .await;
    first.head().await.unwrap();
    assert_eq!(rest(&mut first).await.unwrap(), b"1");
}

async fn an_answer_that_breaks_off_never_passes_for_whole<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    for broken in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let (_, mut answer) = hub.request(get("/api"), false).await.unwrap();
        let mut connection = api.accept().await;
        connection.head().await;
        connection.write(broken).await;
        drop(connection);
        answer.head().await.unwrap();
        let text = agent_said(rest(&mut answer).await.unwrap_err());
        assert!(text.starts_with("the answer broke off"), "{text}");
    }
}

async fn p187_silence_ends_an_answer_but_not_a_watch<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let mut config = api.config();
    config.limits.idle = Duration::from_millis(50);
    let (hub, _agent) = tunnel(runtime, config).await;
    let mut watch = get("/api/v1/pods");
    watch.query = Some("watch=true".into());
    let (_, mut watching) = hub.request(watch, false).await.unwrap();
    let mut watched = api.accept().await;
    watched.head().await;
    watched
        .write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    watching.head().await.unwrap();

    let (_, mut answer) = hub.request(get("/api/v1/pods"), false).await.unwrap();
    let mut silent = api.accept().await;
    silent.head().await;
    silent
        .write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        .await;
    answer.head().await.unwrap();
    let text = agent_said(rest(&mut answer).await.unwrap_err());
    assert!(text.contains("sent nothing for"), "{text}");

    watched.write("3\r\nnew\r\n").await;
    assert_eq!(watching.next().await.unwrap().unwrap(), "new");
}

async fn p186_a_cancelled_request_closes_its_connection<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    let (_, answer) = hub.request(get("/api"), false).await.unwrap();
    let mut before_head = api.accept().await;
    before_head.head().await;
    drop(answer);
    before_head.closed().await;

    let (_, mut answer) = hub.request(get("/api"), false).await.unwrap();
    let mut after_head = api.accept().await;
    after_head.head().await;
    after_head
        .write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        .await;
    answer.head().await.unwrap();
    drop(answer);
    after_head.closed().await;
}

async fn a_kept_connection_that_was_closed_is_replaced<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for _ in 0..3 {
        let served = async {
            let mut connection = api.accept().await;
            connection.head().await;
            connection.write(ok).await;
            // Dropped: the agent may or may not have noticed when it sends the next.
            connection
        };
        let (connection, text) = tokio::join!(served, text_of(&hub, get("/api")));
        assert_eq!(text.unwrap(), "ok");
        drop(connection);
    }
}

async fn an_early_answer_passes_although_the_body_is_not_done<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    let (mut body, mut answer) = hub.request(head("/api/v1/pods"), true).await.unwrap();
    body.write("first".into()).await.unwrap();
    let mut connection = api.accept().await;
    connection.head().await;
    connection
        .write("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\n\r\nbig")
        .await;
    assert_eq!(answer.head().await.unwrap().status, 413);
    assert_eq!(rest(&mut answer).await.unwrap(), b"big");
    // Nobody wants the rest, and its sender is told.
    while body.write("more".into()).await.is_ok() {}
}
