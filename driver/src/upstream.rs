//! The built-in handler: forwards requests to the Kubernetes API over a bounded pool of HTTP/1.1
//! connections, streaming both ways, with limits for each step and none in all (P-187); WebSocket
//! streams, and requests that switch protocols, each over a connection of its own.

mod body;
mod carry;
mod config;
mod pool;
mod progress;
mod pulse;
mod relay;
mod upgrade;
mod websocket;

use std::sync::Arc;

use http::{HeaderValue, Method, header::AUTHORIZATION};
use http_body_util::{BodyExt, Limited};

pub use self::config::{KubernetesConfig, UpstreamError, UpstreamLimits};
use self::{body::UpstreamBody, pool::Pool, relay::relay};
use crate::{
    dial::Endpoint,
    handler::{BoxFuture, Handler, Request, Responder},
    runtime::{Runtime, timeout},
    upgrade::{UpgradeRequest, UpgradeResponder},
    websocket::{WebSocketRequest, WebSocketResponder},
};

/// Longest answer to `/version` that is read.
const VERSION: usize = 64 << 10;

/// Forwards requests and WebSocket streams to a Kubernetes API. Clones share one pool.
#[derive(Clone)]
pub struct Kubernetes<R: Runtime>(Arc<Shared<R>>);

struct Shared<R: Runtime> {
    runtime: R,
    config: KubernetesConfig,
    endpoint: Endpoint,
    pool: Pool<R>,
}

impl<R: Runtime> std::fmt::Debug for Kubernetes<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kubernetes").field(&self.0.config).finish()
    }
}

impl<R: Runtime> Kubernetes<R> {
    /// A handler that will forward to the API of `config`.
    ///
    /// # Errors
    ///
    /// The URL, token or a certificate file cannot be used.
    pub fn new(runtime: R, config: KubernetesConfig) -> Result<Self, UpstreamError> {
        let endpoint = Endpoint::parse(&config.url, true).map_err(UpstreamError::Url)?;
        if endpoint.secure {
            config.tls.client_config()?;
        }
        if let Some(token) = &config.token {
            token.read()?;
        }
        let pool = Pool::new(config.limits.connections);
        Ok(Self(Arc::new(Shared {
            runtime,
            config,
            endpoint,
            pool,
        })))
    }

    /// Version of the API, such as `v1.36.0`.
    ///
    /// # Errors
    ///
    /// It cannot be reached, refuses the credentials or answers something else.
    pub async fn version(&self) -> Result<String, UpstreamError> {
        let limit = self.0.config.limits.connect + self.0.config.limits.head;
        let version = timeout(&self.0.runtime, limit, self.0.version()).await;
        version
            .unwrap_or_else(|| Err("no answer in time".into()))
            .map_err(UpstreamError::Version)
    }
}

impl<R: Runtime> Shared<R> {
    /// A request with what the API needs to know of every one.
    fn request(&self, method: Method, target: &str) -> Result<http::request::Builder, String> {
        let host = HeaderValue::try_from(&*self.endpoint.authority).map_err(|e| e.to_string())?;
        Ok(http::Request::builder()
            .method(method)
            .uri(target)
            .header(http::header::HOST, host))
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, String> {
        let Some(source) = &self.config.token else {
            return Ok(None);
        };
        let token = source.read().map_err(|e| e.to_string())?;
        Ok(Some(token.header().map_err(|e| e.to_string())?))
    }

    async fn version(&self) -> Result<String, String> {
        let mut request = self
            .request(Method::GET, "/version")?
            .body(UpstreamBody::Empty)
            .map_err(|e| e.to_string())?;
        if let Some(value) = self.authorization()? {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        let mut connection = self.pool.get(self).await?;
        let response = self.pool.send(&mut connection, self, request).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("status {status}"));
        }
        let body = Limited::new(response.into_body(), VERSION).collect();
        let body = body.await.map_err(|e| e.to_string())?.to_bytes();
        let version: serde_json::Value =
            serde_json::from_slice(&body).map_err(|e| e.to_string())?;
        let version = version["gitVersion"].as_str();
        Ok(version.ok_or("no gitVersion in it")?.to_string())
    }
}

impl<R: Runtime> Handler for Kubernetes<R> {
    fn handle(&self, request: Request, responder: Responder) -> BoxFuture<'static, ()> {
        Box::pin(relay(self.0.clone(), request, responder))
    }

    fn open(
        &self,
        request: WebSocketRequest,
        responder: WebSocketResponder,
    ) -> BoxFuture<'static, ()> {
        Box::pin(websocket::open(self.0.clone(), request, responder))
    }

    fn upgrade(
        &self,
        request: UpgradeRequest,
        responder: UpgradeResponder,
    ) -> BoxFuture<'static, ()> {
        Box::pin(upgrade::switch(self.0.clone(), request, responder))
    }
}
