//! A small HTTPS client of one cluster behind the controller: what kubectl would send, said
//! plainly. One connection per request, so that each tells its own end.

mod exec;

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use controlplane_driver::{Roots, TlsOptions};
use futures_util::{Stream, StreamExt};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};

pub use self::exec::Executed;

/// A connection to the controller.
type Tls = TlsStream<TcpStream>;

/// A client that sends `token` to the controller at `address`.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: TlsConnector,
    /// What stands before the Kubernetes paths, such as `/clusters/demo`.
    pub prefix: String,
    /// Bearer token; none is sent where it is empty.
    pub token: String,
}

/// An answer whose body is still to be read.
pub struct Answer(Response<Incoming>);

impl Client {
    /// A client that trusts the authority `ca_pem` alone.
    ///
    /// # Errors
    ///
    /// `ca_pem` holds no certificate.
    pub fn new(address: SocketAddr, ca_pem: &[u8], cluster: &str, token: &str) -> Result<Self> {
        let options = TlsOptions {
            ca_pem: ca_pem.to_vec(),
            roots: Roots::Only,
            ..TlsOptions::default()
        };
        Ok(Self {
            address,
            tls: TlsConnector::from(Arc::new(options.client_config()?)),
            prefix: format!("/clusters/{cluster}"),
            token: token.into(),
        })
    }

    /// The same with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.into(),
            ..self.clone()
        }
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    ///
    /// The controller cannot be reached or breaks off.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, &[], Bytes::new()).await
    }

    /// Sends a request with a body of known length.
    ///
    /// # Errors
    ///
    /// The controller cannot be reached or breaks off.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer> {
        let body = Full::new(body).map_err(|never| match never {}).boxed();
        self.exchange(method, path, headers, body).await
    }

    /// Sends a request whose body has no known length.
    ///
    /// # Errors
    ///
    /// The controller cannot be reached or breaks off.
    pub async fn stream(
        &self,
        method: &str,
        path: &str,
        body: impl Stream<Item = Bytes> + Send + Sync + 'static,
    ) -> Result<Answer> {
        let frames = body.map(|data| Ok(Frame::data(data)));
        let body = BodyExt::boxed(StreamBody::new(frames));
        self.exchange(method, path, &[], body).await
    }

    async fn connect(&self) -> Result<Tls> {
        let tcp = TcpStream::connect(self.address)
            .await
            .with_context(|| format!("connecting to the controller at {}", self.address))?;
        let name = ServerName::try_from("localhost")?;
        Ok(self.tls.connect(name, tcp).await?)
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: BoxBody<Bytes, std::io::Error>,
    ) -> Result<Answer> {
        let io = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = http1::handshake(io).await?;
        tokio::spawn(async move {
            // How it ended shows in the answer.
            let _ = connection.await;
        });
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(header::HOST, self.address.to_string());
        if !self.token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(Answer(sender.send_request(request.body(body)?).await?))
    }
}

impl Answer {
    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// A header's value, if it is there and a text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.headers().get(name)?.to_str().ok()
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    ///
    /// The body broke off.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(frame) = self.0.body_mut().frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The body up to and including the first line that contains `part`.
    ///
    /// # Errors
    ///
    /// The body ended before.
    pub async fn until(&mut self, part: &str) -> Result<String> {
        let mut text = String::new();
        while let Some(data) = self.next().await? {
            text.push_str(&String::from_utf8_lossy(&data));
            if text.contains(part) {
                return Ok(text);
            }
        }
        bail!("the answer ended without {part:?}: {text}")
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// The body broke off.
    pub async fn bytes(mut self) -> Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(data) = self.next().await? {
            whole.extend_from_slice(&data);
        }
        Ok(whole)
    }

    /// The whole body as JSON.
    ///
    /// # Errors
    ///
    /// The body broke off or is none.
    pub async fn json(self) -> Result<serde_json::Value> {
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("not JSON: {}", String::from_utf8_lossy(&bytes)))
    }
}
