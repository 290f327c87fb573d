//! HTTP proxies on the way to the controller and its gateways: which one, if any, and a tunnel
//! through it by CONNECT. The Kubernetes API and the services of tunnels are dialled by
//! [`crate::dial::connect`] and [`crate::dial::tcp`], which know of no proxy.

mod connect;
mod no_proxy;

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, uri::Authority};
use percent_encoding::percent_decode_str;
use thiserror::Error;

use self::no_proxy::NoProxy;
use crate::{
    dial::{self, Endpoint},
    runtime::Runtime,
};

/// The proxies through which the agent reaches its controller and the controller's gateways; by
/// default none. The Kubernetes API is never reached through one.
///
/// A proxy is asked to CONNECT and resolves the controller's name itself. It is reached by TCP, or
/// by TLS where its URL begins with `https://`; its certificate is then verified by the same
/// [`TlsOptions`](crate::TlsOptions) as the controller's. User and password of its URL are sent as
/// basic authentication, and never shown.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// For `https` and `wss`.
    https: Option<Proxy>,
    /// For `http` and `ws`.
    http: Option<Proxy>,
    except: NoProxy,
}

impl Proxies {
    /// No proxy, whatever the environment says.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// One proxy for every host that [`Self::except`] does not except: `http://HOST:PORT` or
    /// `https://HOST:PORT`, with `USER:PASSWORD@` before the host where it wants them. Without a
    /// scheme it is `http`, without a port 80 or 443.
    ///
    /// # Errors
    ///
    /// It is not the URL of a proxy that can be used.
    pub fn new(url: &str) -> Result<Self, ProxyError> {
        let proxy = Proxy::parse("the proxy's URL", url)?;
        Ok(Self {
            https: Some(proxy.clone()),
            http: Some(proxy),
            except: NoProxy::default(),
        })
    }

    /// What the variables `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say, read by `variable`. Of
    /// each the name in upper case comes first, then that in lower case; empty counts as not set.
    /// They mean what they mean to programs in Go, such as kubectl: `HTTPS_PROXY` is for `https`
    /// and `wss`, `HTTP_PROXY` for `http` and `ws`. `ALL_PROXY` is not read.
    ///
    /// # Errors
    ///
    /// One of them is not the URL of a proxy that can be used.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let read = |upper: &str, lower: &str| {
            let values = [upper, lower].into_iter().filter_map(&variable);
            values.into_iter().find(|value| !value.trim().is_empty())
        };
        let proxy = |setting: &'static str, lower| {
            let url = read(setting, lower);
            url.map(|url| Proxy::parse(setting, &url)).transpose()
        };
        let proxies = Self {
            https: proxy("HTTPS_PROXY", "https_proxy")?,
            http: proxy("HTTP_PROXY", "http_proxy")?,
            except: NoProxy::default(),
        };
        Ok(proxies.except(&read("NO_PROXY", "no_proxy").unwrap_or_default()))
    }

    /// The hosts that are reached directly, as in `NO_PROXY` and separated by commas: `*` for all;
    /// `example.com` for that name and all below it; `.example.com` or `*.example.com` for those
    /// below it alone; an IP address; or a network, `10.0.0.0/8` or `fd00::/8`. Names and
    /// addresses may have a port, `example.com:443` or `[::1]:443`, and then hold for that alone.
    /// Names are not resolved: networks are compared with a URL that has an address for a host.
    ///
    /// `localhost` and loopback addresses are always reached directly.
    #[must_use]
    pub fn except(mut self, hosts: &str) -> Self {
        self.except = NoProxy::parse(hosts);
        self
    }

    /// Entries of [`Self::except`] that are none of those, and except nothing.
    #[must_use]
    pub fn ignored(&self) -> &[String] {
        self.except.ignored()
    }

    /// Host and port of the proxy that leads to `url`; `None` where it is reached directly.
    #[must_use]
    pub fn proxy_of(&self, url: &str) -> Option<String> {
        let endpoint = Endpoint::parse(url, true).ok()?;
        Some(self.way(&endpoint)?.at.authority.clone())
    }

    /// The proxy on the way to an endpoint.
    pub(crate) fn way(&self, to: &Endpoint) -> Option<&Proxy> {
        let proxy = if to.secure { &self.https } else { &self.http };
        let proxy = proxy.as_ref()?;
        (!self.except.excepts(&to.host, to.port)).then_some(proxy)
    }

    /// Whether one of them is reached by TLS.
    pub(crate) fn need_tls(&self) -> bool {
        let mut proxies = self.https.iter().chain(&self.http);
        proxies.any(|proxy| proxy.at.secure)
    }
}

/// A proxy's URL cannot be used. The URL itself is not shown: it may hold a password.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ProxyError {
    /// Not a URL with a host.
    #[error(
        "{0} is not that of a proxy, which looks like http://proxy.example.com:3128; in user and \
         password, special characters are written as %XX"
    )]
    Invalid(&'static str),
    /// A proxy of another kind.
    #[error("{setting} has the scheme {scheme:?}: only http:// and https:// proxies are supported")]
    Scheme {
        /// Where it was set.
        setting: &'static str,
        /// Its scheme.
        scheme: String,
    },
    /// A user name that basic authentication cannot carry.
    #[error("{0} has a user name with a colon, which basic authentication cannot carry")]
    User(&'static str),
}

/// One proxy.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) at: Endpoint,
    /// `Proxy-Authorization`; marked as sensitive, so that `Debug` does not show it.
    credentials: Option<HeaderValue>,
    /// Where it was set, for remedies.
    setting: &'static str,
}

impl Proxy {
    fn parse(setting: &'static str, url: &str) -> Result<Self, ProxyError> {
        let invalid = || ProxyError::Invalid(setting);
        let (scheme, rest) = url.trim().split_once("://").unwrap_or(("http", url.trim()));
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(end) => rest.split_at(end),
            None => (rest, ""),
        };
        // The end of a password is no path.
        if path.contains('@') {
            return Err(invalid());
        }
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            other if is_scheme(other) => {
                let scheme = other.into();
                return Err(ProxyError::Scheme { setting, scheme });
            }
            _ => return Err(invalid()),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let at = endpoint(secure, host).ok_or_else(invalid)?;
        let user = user.filter(|user| !user.is_empty());
        let credentials = user.map(|user| basic(setting, user)).transpose()?;
        Ok(Self {
            at,
            credentials,
            setting,
        })
    }

    /// A connection to `to` through this proxy; TLS with `to` is still to come. `tls` is for the
    /// proxy itself.
    pub(crate) async fn tunnel<R: Runtime>(
        &self,
        runtime: &R,
        to: &Endpoint,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<R::Io, String> {
        let proxy = &self.at.authority;
        let mut io = dial::connect(runtime, &self.at, tls, None)
            .await
            .map_err(|problem| format!("proxy {proxy}: {problem}"))?;
        let target = to.host_and_port();
        connect::ask(&mut io, self, &target)
            .await
            .map_err(|problem| format!("proxy {proxy}, asked to CONNECT {target}: {problem}"))?;
        Ok(io)
    }
}

fn is_scheme(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    !text.is_empty() && text.chars().all(plain)
}

/// `HOST`, `HOST:PORT`, or the same with an address of IPv6 in brackets.
fn endpoint(secure: bool, text: &str) -> Option<Endpoint> {
    let authority: Authority = text.parse().ok()?;
    let port = match text.strip_prefix(authority.host())? {
        "" if secure => 443,
        "" => 80,
        port => port.strip_prefix(':')?.parse().ok().filter(|p| *p > 0)?,
    };
    let host = authority.host();
    let name = host.trim_matches(['[', ']']);
    (!name.is_empty()).then(|| Endpoint {
        secure,
        host: name.into(),
        port,
        authority: format!("{host}:{port}"),
        path_and_query: "/".into(),
    })
}

/// `USER:PASSWORD`, percent-encoded, as a header (RFC 7617).
fn basic(setting: &'static str, user: &str) -> Result<HeaderValue, ProxyError> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut plain: Vec<u8> = percent_decode_str(name).collect();
    if plain.contains(&b':') {
        return Err(ProxyError::User(setting));
    }
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(plain)))
        .map_err(|_| ProxyError::Invalid(setting))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
