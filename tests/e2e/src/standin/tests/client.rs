//! A bare HTTP client over TLS.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::standin::StandIn;

/// What is sent.
pub(in crate::standin) type SentBody = UnsyncBoxBody<Bytes, Infallible>;

/// A body that is there as a whole.
pub(in crate::standin) fn full(content: impl Into<Bytes>) -> SentBody {
    Full::new(content.into()).boxed_unsync()
}

/// A request with the token.
pub(in crate::standin) fn request(
    standin: &StandIn,
    method: &str,
    path: &str,
    body: SentBody,
) -> Request<SentBody> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "standin");
    let token = format!("Bearer {}", standin.token());
    request
        .header(header::AUTHORIZATION, token)
        .body(body)
        .unwrap()
}

/// A connection that trusts the stand-in's authority.
pub(in crate::standin) async fn connect(standin: &StandIn) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(standin.ca_pem().as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect(standin.addr()).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, socket).await.unwrap()
}

/// One connection.
pub(in crate::standin) struct Client<'a> {
    standin: &'a StandIn,
    sender: SendRequest<SentBody>,
}

impl<'a> Client<'a> {
    /// Connects.
    pub(in crate::standin) async fn new(standin: &'a StandIn) -> Self {
        let stream = connect(standin).await;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { standin, sender }
    }

    /// Sends a request.
    pub(in crate::standin) async fn send(
        &mut self,
        request: Request<SentBody>,
    ) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// Gets a path.
    pub(in crate::standin) async fn get(&mut self, path: &str) -> Response<Incoming> {
        self.send(request(self.standin, "GET", path, full("")))
            .await
            .unwrap()
    }

    /// Sends a body and returns the status and the document.
    pub(in crate::standin) async fn call(
        &mut self,
        method: &str,
        path: &str,
        media: &str,
        body: &[u8],
    ) -> (u16, Value) {
        let mut request = request(self.standin, method, path, full(body.to_vec()));
        request
            .headers_mut()
            .insert(header::CONTENT_TYPE, media.parse().unwrap());
        let response = self.send(request).await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            serde_json::from_slice(&collect(response).await).unwrap(),
        )
    }
}

/// The whole body of an answer.
pub(in crate::standin) async fn collect(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

/// The next chunk of an answer, or its end.
pub(in crate::standin) async fn chunk(response: &mut Response<Incoming>) -> Option<Bytes> {
    Some(
        response
            .body_mut()
            .frame()
            .await?
            .unwrap()
            .into_data()
            .unwrap(),
    )
}
