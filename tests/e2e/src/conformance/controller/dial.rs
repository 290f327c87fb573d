//! How the tester reaches a controller: over TLS only, as an agent and as a client.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use controlplane_driver::{Limits, TlsOptions, Token, websocket_config};
use http::{HeaderMap, HeaderValue, Uri, header};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Error, client::IntoClientRequest},
};

/// Where agents connect, unless the URL has a path of its own (P-001).
const PATH: &str = "/api/v1/clusters/agent/ws";

/// A connection to the controller.
pub(super) type Tls = TlsStream<TcpStream>;

/// One end of a controller: where it is, and with which token it is asked.
#[derive(Clone)]
pub(super) struct Place {
    tls: TlsConnector,
    host: String,
    port: u16,
    /// As it stands in `Host`.
    pub(super) authority: String,
    /// Path of the URL, without a slash at its end.
    pub(super) path: String,
    token: Token,
}

impl Place {
    /// Reads a URL of scheme `https` or `wss`.
    pub(super) fn new(url: &str, token: &Token, tls: &TlsOptions) -> Result<Self> {
        let uri: Uri = url.trim().parse().context("it is no URL")?;
        ensure!(
            matches!(uri.scheme_str(), Some("https" | "wss")),
            "it must begin with https:// (or wss://): a token is sent over TLS only"
        );
        let authority = uri.authority().context("it names no host")?;
        ensure!(
            !authority.as_str().contains('@') && uri.query().is_none(),
            "it must hold neither a user name nor a query"
        );
        Ok(Self {
            tls: TlsConnector::from(Arc::new(tls.client_config()?)),
            host: authority.host().trim_matches(['[', ']']).into(),
            port: authority.port_u16().unwrap_or(443),
            authority: authority.to_string(),
            path: uri.path().trim_end_matches('/').into(),
            token: token.clone(),
        })
    }

    /// A connection, encrypted.
    pub(super) async fn connect(&self) -> Result<Tls> {
        let tcp = TcpStream::connect((&*self.host, self.port)).await;
        let tcp = tcp.with_context(|| format!("cannot connect to {}", self.authority))?;
        let name = ServerName::try_from(self.host.clone())?;
        let tls = self.tls.connect(name, tcp).await;
        tls.with_context(|| format!("no TLS with {}", self.authority))
    }

    /// The header that shows the token.
    pub(super) fn bearer(&self) -> Result<HeaderValue> {
        let text = format!("Bearer {}", self.token.as_str());
        let mut value = HeaderValue::try_from(text).context("the token is none")?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The WebSocket of an agent.
    pub(super) async fn agent(&self) -> Result<WebSocketStream<Tls>> {
        let path = if self.path.is_empty() {
            PATH
        } else {
            &self.path
        };
        let url = format!("wss://{}{path}", self.authority);
        let mut request = url.into_client_request()?;
        let headers: &mut HeaderMap = request.headers_mut();
        headers.insert(header::AUTHORIZATION, self.bearer()?);
        let io = self.connect().await?;
        let config = websocket_config(&Limits::controller());
        match client_async_with_config(request, io, Some(config)).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(answer)) => bail!(
                "an agent is refused with {} at {path}: is it the path of the agents, and the \
                 token that of an agent?",
                answer.status()
            ),
            Err(error) => Err(error).context("no WebSocket for an agent"),
        }
    }
}
