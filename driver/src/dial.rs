//! From a URL and a token to an open WebSocket: names, addresses in turn, TLS, upgrade.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use controlplane_core::{Down, Endpoint as To, Limits};
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{
    HeaderValue, Request, Uri,
    header::{AUTHORIZATION, RETRY_AFTER, USER_AGENT},
};
use rustls::pki_types::ServerName;
use thiserror::Error;
use tungstenite::{Error as WsError, client::IntoClientRequest};

use crate::{
    links::{chain, websocket_config},
    meter::Meter,
    proxy::Proxies,
    runtime::{Runtime, timeout},
    secret::TokenSource,
    tls::TlsSource,
    tls_io::SeenCertificate,
};

/// Path of the controller's endpoint, whatever the path of its URL (P-001).
const PATH: &str = "/api/v1/clusters/agent/ws";
/// What the agent calls itself.
pub(crate) const AGENT: &str = concat!("controlplane-agent/", env!("CARGO_PKG_VERSION"));
/// For one address to answer before the next is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// The controller's URL cannot be used.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum UrlError {
    /// Not a URL with a host.
    #[error("{0:?} is not a URL with a scheme and a host, such as https://controller.example.com")]
    Invalid(String),
    /// The link would not be encrypted.
    #[error(
        "{0:?} would send the token unencrypted: use https://, or allow plaintext explicitly \
         (--allow-plaintext) for a trusted network"
    )]
    Plaintext(String),
    /// Not a scheme of HTTP or WebSocket.
    #[error("scheme {0:?} is not supported: use https:// (or wss://)")]
    Scheme(String),
    /// A user name or password.
    #[error("the URL carries a user name or password: the token belongs into its own setting")]
    UserInfo,
}

/// A host to connect to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Endpoint {
    pub(crate) secure: bool,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As it stands in `Host`.
    pub(crate) authority: String,
    pub(crate) path_and_query: String,
}

impl Endpoint {
    /// Reads a URL of scheme `https`, `wss`, `http` or `ws` (P-193).
    pub(crate) fn parse(url: &str, allow_plaintext: bool) -> Result<Self, UrlError> {
        // Neither a password before the `@` nor a token in the query is ever shown.
        let shown = url.split(['?', '#']).next().unwrap_or_default();
        let shown = shown.rsplit('@').next().unwrap_or_default().to_string();
        let uri: Uri = url
            .trim()
            .parse()
            .map_err(|_| UrlError::Invalid(shown.clone()))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(UrlError::Invalid(shown));
        };
        if authority.as_str().contains('@') {
            return Err(UrlError::UserInfo);
        }
        let secure = match scheme {
            "https" | "wss" => true,
            "http" | "ws" if allow_plaintext => false,
            "http" | "ws" => return Err(UrlError::Plaintext(shown)),
            other => return Err(UrlError::Scheme(other.into())),
        };
        let host = authority.host().trim_matches(['[', ']']);
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") if secure => 443,
            Some("") => 80,
            _ => authority.port_u16().unwrap_or_default(),
        };
        if host.is_empty() || port == 0 {
            return Err(UrlError::Invalid(shown));
        }
        Ok(Self {
            secure,
            host: host.into(),
            port,
            authority: authority.as_str().into(),
            path_and_query: uri.path_and_query().map_or("/", |p| p.as_str()).into(),
        })
    }

    /// As a proxy is asked for it: always with the port.
    pub(crate) fn host_and_port(&self) -> String {
        let Self { host, port, .. } = self;
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }

    /// The same host, at the path of the controller's endpoint.
    fn at_controller(mut self) -> Self {
        let query = match self.path_and_query.split_once('?') {
            Some((_, query)) => format!("?{query}"),
            None => String::new(),
        };
        self.path_and_query = format!("{PATH}{query}");
        self
    }

    /// The agent's upgrade request, without its token.
    fn upgrade(&self) -> Result<Request<()>, WsError> {
        let scheme = if self.secure { "wss" } else { "ws" };
        format!("{scheme}://{}{}", self.authority, self.path_and_query).into_client_request()
    }
}

/// Connects to the first address that answers, with TLS where the endpoint is secure; never through
/// a proxy, of which nothing is known here.
pub(crate) async fn connect<R: Runtime>(
    runtime: &R,
    endpoint: &Endpoint,
    tls: Option<Arc<rustls::ClientConfig>>,
    name: Option<&str>,
) -> Result<R::Io, String> {
    let io = tcp(runtime, &endpoint.host, endpoint.port).await?;
    secure(runtime, io, endpoint, tls, name).await
}

/// TLS over a connection to an endpoint, where that is secure.
async fn secure<R: Runtime>(
    runtime: &R,
    io: R::Io,
    endpoint: &Endpoint,
    tls: Option<Arc<rustls::ClientConfig>>,
    name: Option<&str>,
) -> Result<R::Io, String> {
    let Some(config) = tls.filter(|_| endpoint.secure) else {
        return Ok(io);
    };
    let name = name.unwrap_or(&endpoint.host);
    let server = ServerName::try_from(name.to_string())
        .map_err(|_| format!("{name:?} is not a name that a certificate could have"))?;
    runtime.tls(io, config, server).await.map_err(|error| {
        // A stale CA file of the same name has the wrong key.
        let untrusted = ["UnknownIssuer", "BadSignature"];
        let text = error.to_string();
        let hint = if untrusted.iter().any(|fault| text.contains(fault)) {
            " (its certificate's issuer is not trusted: name its CA file)"
        } else {
            ""
        };
        format!("TLS with {name}: {}{hint}", chain(&error))
    })
}

/// Connects to the first address of a host that answers.
pub(crate) async fn tcp<R: Runtime>(runtime: &R, host: &str, port: u16) -> Result<R::Io, String> {
    let addresses = resolve(runtime, host, port).await?;
    first_of(runtime, &addresses).await
}

/// The addresses of a host, at least one.
pub(crate) async fn resolve<R: Runtime>(
    runtime: &R,
    host: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, String> {
    match runtime.resolve(host.into(), port).await {
        Ok(addresses) if addresses.is_empty() => Err(format!("resolving {host}: no address")),
        Ok(addresses) => Ok(addresses),
        Err(error) => Err(format!("resolving {host}: {}", root(&error))),
    }
}

/// The cause below all others: what the runtimes put around it differs.
fn root(error: &dyn std::error::Error) -> &dyn std::error::Error {
    error.source().map_or(error, root)
}

/// Tries the addresses in turn, the next one whenever one failed or kept silent for a moment, and
/// takes the first connection (RFC 8305, section 5).
async fn first_of<R: Runtime>(runtime: &R, addresses: &[SocketAddr]) -> Result<R::Io, String> {
    let mut problems = Vec::new();
    let mut attempts = FuturesUnordered::new();
    let mut rest = addresses.iter();
    loop {
        if let Some(address) = rest.next() {
            let attempt = runtime.tcp(*address);
            attempts.push(async move { (address, attempt.await) });
        }
        let outcome = if rest.len() > 0 {
            timeout(runtime, STAGGER, attempts.next()).await
        } else {
            Some(attempts.next().await)
        };
        match outcome {
            Some(Some((_, Ok(io)))) => return Ok(io),
            Some(Some((address, Err(error)))) => {
                problems.push(format!("connecting to {address}: {error}"));
            }
            Some(None) => return Err(problems.join("; ")),
            None => {}
        }
    }
}

/// How the agent reaches its controller.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub(crate) endpoint: Endpoint,
    pub(crate) tls: TlsSource,
    pub(crate) proxies: Proxies,
    pub(crate) token: TokenSource,
    pub(crate) limits: Limits,
    pub(crate) seen: SeenCertificate,
}

impl Dial {
    /// One attempt. Token and certificates are read anew, the core bounds its time.
    pub(crate) async fn run<R: Runtime>(
        self,
        runtime: R,
        to: To,
    ) -> Result<(R::Socket, Meter), Down> {
        let lost = |error: &dyn std::error::Error| Down::Lost(chain(error));
        let token = self.token.read().map_err(|e| lost(&e))?;
        let endpoint = match to {
            To::Controller => self.endpoint.clone().at_controller(),
            // The core has checked it, and that it is encrypted where this link is.
            To::Gateway(url) => Endpoint::parse(&url, true).map_err(|e| lost(&e))?,
        };
        let mut request = endpoint.upgrade().map_err(|e| lost(&e))?;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, token.header().map_err(|e| lost(&e))?);
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let io = self.reach(&runtime, &endpoint).await.map_err(Down::Lost)?;
        self.seen.set(R::peer_certificate(&io));
        let meter = Meter::new();
        let config = websocket_config(&self.limits);
        let socket = runtime.websocket(request, meter.wrap(io), config).await;
        Ok((socket.map_err(|error| refused(&error))?, meter))
    }

    /// Connects, through the proxy that is set for this endpoint where there is one. Who resolves
    /// the endpoint's name then is the proxy.
    async fn reach<R: Runtime>(&self, runtime: &R, to: &Endpoint) -> Result<R::Io, String> {
        let proxy = self.proxies.way(to);
        let tls = match to.secure || proxy.is_some_and(|proxy| proxy.at.secure) {
            true => Some(self.tls.config().map_err(|e| chain(&e))?),
            false => None,
        };
        let Some(proxy) = proxy else {
            return connect(runtime, to, tls, None).await;
        };
        let io = proxy.tunnel(runtime, to, tls.clone()).await?;
        secure(runtime, io, to, tls, None).await
    }
}

fn refused(error: &WsError) -> Down {
    let WsError::Http(response) = error else {
        return Down::Lost(format!("WebSocket upgrade: {}", chain(error)));
    };
    let text = response.body().as_deref().unwrap_or_default();
    let text: String = String::from_utf8_lossy(text).chars().take(512).collect();
    if !text.is_empty() {
        tracing::warn!(status = response.status().as_u16(), answer = ?text, "upgrade refused");
    }
    let retry_after = response.headers().get(RETRY_AFTER);
    Down::Refused {
        status: response.status().as_u16(),
        retry_after: retry_after.and_then(|value| parse_retry_after(value.to_str().ok()?)),
    }
}

/// Seconds, or a date.
fn parse_retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p193_schemes() {
        for url in ["https://c.example", "wss://c.example/x"] {
            assert!(Endpoint::parse(url, false).unwrap().secure, "{url}");
        }
        for url in ["http://c.example", "ws://c.example"] {
            assert!(!Endpoint::parse(url, true).unwrap().secure, "{url}");
            let refused = Endpoint::parse(url, false);
            assert_eq!(refused, Err(UrlError::Plaintext(url.into())));
        }
        let scheme = Endpoint::parse("ftp://c.example", true);
        assert_eq!(scheme, Err(UrlError::Scheme("ftp".into())));
        for url in [
            "",
            "c.example",
            "/x",
            "https://",
            "https://c:x",
            "https://c:0",
            "https://c:70000",
        ] {
            assert!(
                matches!(Endpoint::parse(url, true), Err(UrlError::Invalid(_))),
                "{url}"
            );
        }
    }

    #[test]
    fn p001_the_path_is_replaced_and_the_query_kept() {
        let endpoint = Endpoint::parse("https://c.example:8443/base?a=b&c", false).unwrap();
        let request = endpoint.at_controller().upgrade().unwrap();
        let expected = "wss://c.example:8443/api/v1/clusters/agent/ws?a=b&c";
        assert_eq!(request.uri().to_string(), expected);
        assert_eq!(request.headers()["host"], "c.example:8443");
    }

    #[test]
    fn p007_the_url_of_a_gateway_is_dialled_as_it_is() {
        let url = "wss://gw.example/ws?cluster_uuid=6f1c";
        let endpoint = Endpoint::parse(url, true).unwrap();
        let request = endpoint.upgrade().unwrap();
        assert_eq!(request.uri().to_string(), url);
    }

    #[test]
    fn user_information_is_refused_and_never_shown() {
        let error = Endpoint::parse("https://u:S3CRET@c.example", true).unwrap_err();
        assert_eq!(error, UrlError::UserInfo);
        for url in [
            "ftp ://u:S3CRET@c",
            "http://u:S3CRET@c.example",
            "http://c.example?token=S3CRET",
        ] {
            let error = Endpoint::parse(url, false).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("S3CRET"));
        }
    }

    #[test]
    fn ports_and_ipv6() {
        let port = |url| {
            Endpoint::parse(url, true)
                .map(|e| (e.host, e.port))
                .unwrap()
        };
        assert_eq!(port("https://[::1]"), ("::1".into(), 443));
        assert_eq!(port("ws://[::1]:99"), ("::1".into(), 99));
        assert_eq!(port("http://c"), ("c".into(), 80));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(parse_retry_after(" 120 "), Some(Duration::from_secs(120)));
        let past = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(parse_retry_after(past), Some(Duration::ZERO));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!(parse_retry_after(&soon).unwrap() > Duration::from_secs(90));
        assert_eq!(parse_retry_after("-1"), None);
    }
}
