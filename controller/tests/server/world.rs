//! A controller on loopback, its clients, and an agent that speaks the protocol by hand.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use pipeops_controller::{
    Running, Server, ServerConfig,
    credentials::{CredentialsFile, NewUser},
    self_signed::SelfSigned,
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Error as WsError, Message, client::IntoClientRequest as _},
};

pub(crate) type Tls = TlsStream<TcpStream>;
pub(crate) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Far above what any step takes; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test, which must not hang.
pub(crate) async fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, test)
        .await
        .expect("the test hangs")
}

/// A folder of its own, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let name = format!("pipeops-controller-test-{:016x}", getrandom::u64().unwrap());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) struct World {
    pub(crate) folder: Folder,
    pub(crate) made: SelfSigned,
    pub(crate) running: Running,
    pub(crate) credentials: CredentialsFile,
    pub(crate) user: String,
    pub(crate) agent: String,
    tls: Arc<rustls::ClientConfig>,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A controller whose configuration `change` has changed.
    pub(crate) async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let folder = Folder::new();
        let made = SelfSigned::create(folder.path("server"), &[]).unwrap();
        let token = |path| fs::read_to_string(path).unwrap().trim().to_owned();
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = ServerConfig::new(listen, made.tls(), made.credentials());
        change(&mut config);
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(made.ca()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            running: Server::start(config).await.unwrap(),
            credentials: CredentialsFile::new(made.credentials()),
            user: token(made.user_token()),
            agent: token(made.agent_token()),
            tls: Arc::new(tls),
            folder,
            made,
        }
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.running.addr()).await.unwrap()
    }

    pub(crate) async fn connect(&self) -> std::io::Result<Tls> {
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(self.tls.clone())
            .connect(name, self.tcp().await)
            .await
    }

    /// An HTTP/1.1 connection.
    pub(crate) async fn client(&self) -> Client {
        let io = TokioIo::new(self.connect().await.unwrap());
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let task = tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        Client { sender, task }
    }

    /// A request of the user, on a connection of its own.
    pub(crate) async fn ask(&self, method: &str, path: &str) -> Response<Incoming> {
        let request = self.request(method, path).body(empty()).unwrap();
        self.client().await.send(request).await
    }

    /// The same, in a task.
    pub(crate) fn asking(
        self: &Arc<Self>,
        method: &'static str,
        path: &'static str,
    ) -> tokio::task::JoinHandle<Response<Incoming>> {
        let world = self.clone();
        tokio::spawn(async move { world.ask(method, path).await })
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", self.user))
    }

    /// Adds a user and returns the token.
    pub(crate) fn add_user(
        &self,
        clusters: &[&str],
        kubernetes: Option<(&str, &[&str])>,
    ) -> String {
        let user = NewUser {
            name: "jane".into(),
            clusters: clusters.iter().map(|&c| c.into()).collect(),
            kubernetes_user: kubernetes.map(|(user, _)| user.into()),
            groups: kubernetes.map_or(Vec::new(), |(_, groups)| {
                groups.iter().map(|&group| group.into()).collect()
            }),
        };
        self.credentials
            .add_user(user)
            .unwrap()
            .token
            .as_str()
            .into()
    }

    /// An agent that has registered.
    pub(crate) async fn agent(&self) -> Agent {
        self.agent_with("service-account").await
    }

    pub(crate) async fn agent_with(&self, policy: &str) -> Agent {
        self.agent_saying(json!({ "identity": policy })).await
    }

    /// An agent that says this of itself beside what every one does.
    pub(crate) async fn agent_saying(&self, features: Value) -> Agent {
        let dialled = self.dial("/api/v1/clusters/agent/ws", &self.agent).await;
        let mut agent = dialled.unwrap();
        agent.introduce(features).await;
        agent
    }

    /// The WebSocket handshake, or the answer that refuses it.
    pub(crate) async fn dial(
        &self,
        path: &str,
        token: &str,
    ) -> Result<Agent, Box<Response<Option<Vec<u8>>>>> {
        let url = format!("wss://localhost{path}");
        let mut request = url.into_client_request().unwrap();
        let value = format!("bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", value);
        let tls = self.connect().await.unwrap();
        match client_async_with_config(request, tls, None).await {
            Ok((socket, response)) => {
                assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
                Ok(Agent { socket, open: true })
            }
            Err(WsError::Http(response)) => Err(response),
            Err(other) => panic!("{other}"),
        }
    }
}

pub(crate) struct Client {
    pub(crate) sender: hyper::client::conn::http1::SendRequest<Body>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

impl Client {
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        self.sender.send_request(request).await.unwrap()
    }
}

pub(crate) fn empty() -> Body {
    full("")
}

pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

/// A body that is sent piece by piece; it ends with the sender.
pub(crate) fn pieces() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        let data: Bytes = receiver.recv().await?;
        Some((Ok(Frame::data(data)), receiver))
    });
    (sender, StreamBody::new(frames).boxed_unsync())
}

/// The whole body as text.
pub(crate) async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// The next piece of a body.
pub(crate) async fn piece(
    response: &mut Response<Incoming>,
) -> Option<Result<Bytes, hyper::Error>> {
    let frame = response.body_mut().frame().await?;
    Some(frame.map(|frame| frame.into_data().unwrap()))
}

/// Checks a `metav1.Status` and returns its message.
pub(crate) async fn status(response: Response<Incoming>, code: u16, reason: &str) -> String {
    assert_eq!(response.status().as_u16(), code);
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(body["kind"], "Status");
    assert_eq!(body["apiVersion"], "v1");
    assert_eq!(body["status"], "Failure");
    assert_eq!(body["code"], code);
    assert_eq!(body["reason"], reason);
    body["message"].as_str().unwrap().into()
}

/// An agent's end of the tunnel.
pub(crate) struct Agent {
    pub(crate) socket: WebSocketStream<Tls>,
    open: bool,
}

impl Agent {
    pub(crate) async fn register(&mut self, policy: &str) -> Value {
        self.introduce(json!({ "identity": policy })).await
    }

    async fn introduce(&mut self, more: Value) -> Value {
        let mut features = json!({
            "supports_streaming": true,
            "supports_response_streaming": true,
            "upgrade_answer": true,
            "identity": "service-account",
        });
        let more = more.as_object().unwrap().clone();
        features.as_object_mut().unwrap().extend(more);
        let payload = json!({
            "agent_id": "agent-1", "name": "its own name", "k8s_version": "v1.36.2",
            "features": features,
        });
        self.send("register", "req_1", payload).await;
        let answer = self.recv().await;
        assert_eq!(answer["type"], "register_success");
        assert_eq!(answer["request_id"], "req_1");
        answer["payload"].clone()
    }

    pub(crate) async fn send(&mut self, kind: &str, id: &str, payload: Value) {
        let message = json!({"type": kind, "request_id": id, "payload": payload});
        let text = format!("{message}\n");
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next message; pings aside.
    pub(crate) async fn recv(&mut self) -> Value {
        loop {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next message, which must be of this type.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let message = self.recv().await;
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// The next request: its id and what it says. That an earlier one is cancelled is skipped.
    pub(crate) async fn request(&mut self) -> (String, Value) {
        let message = loop {
            let message = self.recv().await;
            if message["type"] != "proxy_cancel" {
                break message;
            }
        };
        assert_eq!(message["type"], "proxy_request", "{message}");
        let id = message["request_id"].as_str().unwrap().to_owned();
        (id, message["payload"].clone())
    }

    /// The decoded next piece of a request body.
    pub(crate) async fn upload(&mut self) -> Vec<u8> {
        let message = self.expect("proxy_request_chunk").await;
        decode(message["payload"]["data"].as_str().unwrap())
    }

    pub(crate) async fn head(&mut self, id: &str, status: u16, headers: Value) {
        let payload = json!({"status": status, "headers": headers});
        self.send("proxy_response_header", id, payload).await;
    }

    pub(crate) async fn chunk(&mut self, id: &str, data: &[u8]) {
        let payload = json!({"data": encode(data), "encoding": "base64"});
        self.send("proxy_response_chunk", id, payload).await;
    }

    pub(crate) async fn end(&mut self, id: &str) {
        self.send("proxy_response_end", id, json!({})).await;
    }

    /// The code and reason of the close frame that the controller sends.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        assert!(std::mem::take(&mut self.open), "asked twice");
        loop {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Close(Some(frame)) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Message::Close(None) => return (1005, String::new()),
                _ => {}
            }
        }
    }
}

pub(crate) fn encode(data: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(data)
}

pub(crate) fn decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}
