//! Where tunnels may lead: validated as a service's name is (P-140), and only to what the agent's
//! configuration lists (P-197).

use alloc::string::String;
use core::{fmt, str::FromStr};

use crate::error::PeerFault;

/// Longest name of a service or namespace.
const MAX_NAME: usize = 253;
/// Most that a datagram of UDP over IPv4 can carry.
pub(crate) const MAX_DATAGRAM: usize = 65_507;

/// Somewhere a tunnel may lead: `NAME.NAMESPACE:PORT` or `localhost:PORT`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TunnelTarget {
    /// A port of the agent's own host, as the first agents dialled it (P-123).
    Local {
        /// Port.
        port: u16,
    },
    /// A port of a service of the cluster.
    Service {
        /// Name of the service.
        name: String,
        /// Its namespace.
        namespace: String,
        /// Port.
        port: u16,
    },
}

impl TunnelTarget {
    /// The service of that name, namespace and port.
    ///
    /// # Errors
    ///
    /// [`PeerFault::Target`]: not as names of services are, or port 0.
    pub fn service(name: &str, namespace: &str, port: u16) -> Result<Self, PeerFault> {
        if !is_name(name) || !is_name(namespace) || port == 0 {
            return Err(PeerFault::Target);
        }
        Ok(Self::Service {
            name: name.into(),
            namespace: namespace.into(),
            port,
        })
    }

    /// Name to resolve, and port. That of a service ends with `.svc`, so that the search list of a
    /// pod adds the cluster's own domain, whatever it is (P-141).
    #[must_use]
    pub(crate) fn address(&self) -> (String, u16) {
        match self {
            Self::Local { port } => ("localhost".into(), *port),
            Self::Service {
                name,
                namespace,
                port,
            } => (alloc::format!("{name}.{namespace}.svc"), *port),
        }
    }
}

impl fmt::Display for TunnelTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { port } => write!(f, "localhost:{port}"),
            Self::Service {
                name,
                namespace,
                port,
            } => write!(f, "{name}.{namespace}:{port}"),
        }
    }
}

/// Not a [`TunnelTarget`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not the target of a tunnel: use SERVICE.NAMESPACE:PORT or localhost:PORT")]
pub struct NoTarget;

impl FromStr for TunnelTarget {
    type Err = NoTarget;

    fn from_str(text: &str) -> Result<Self, NoTarget> {
        let (host, port) = text.rsplit_once(':').ok_or(NoTarget)?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port: u16 = port.parse().map_err(|_| NoTarget)?;
        if port == 0 || !digits {
            return Err(NoTarget);
        }
        if host == "localhost" {
            return Ok(Self::Local { port });
        }
        let (name, namespace) = host.split_once('.').ok_or(NoTarget)?;
        Self::service(name, namespace, port).map_err(|_| NoTarget)
    }
}

/// What a peer names as the target of a tunnel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    pub(crate) service: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) service_port: u16,
    /// Port of the gateway, which the first agents dialled on their own host.
    pub(crate) gateway_port: u16,
}

/// The target that is dialled: the service where that is listed, else the local port.
///
/// # Errors
///
/// [`PeerFault::Target`]: neither a service nor a port. [`PeerFault::NotPermitted`]: none is listed.
pub(crate) fn tunnel_target(
    named: Named<'_>,
    permitted: &[TunnelTarget],
) -> Result<TunnelTarget, PeerFault> {
    let service = match named.service {
        "" => None,
        name => Some(TunnelTarget::service(
            name,
            named.namespace,
            named.service_port,
        )?),
    };
    let local = (named.gateway_port != 0).then_some(TunnelTarget::Local {
        port: named.gateway_port,
    });
    if service.is_none() && local.is_none() {
        return Err(PeerFault::Target);
    }
    let mut named = service.into_iter().chain(local);
    let target = named.find(|target| permitted.contains(target));
    target.ok_or(PeerFault::NotPermitted)
}

/// P-140.
fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec::Vec};

    use super::*;

    #[test]
    fn p140_targets_are_written_as_they_are_read() {
        for text in ["pg.db:5432", "localhost:1", "a-1.b-2:65535"] {
            let target: TunnelTarget = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
        }
        let service: TunnelTarget = "pg.db:5432".parse().unwrap();
        assert_eq!(service.address(), ("pg.db.svc".into(), 5432));
        let local: TunnelTarget = "localhost:80".parse().unwrap();
        assert_eq!(local.address(), ("localhost".into(), 80));
    }

    #[test]
    fn p140_what_is_no_target() {
        let long = alloc::format!("{}.db:1", "a".repeat(254));
        for text in [
            "",
            "pg.db",
            "pg:5432",
            "pg.db:0",
            "pg.db:65536",
            "pg.db:+1",
            "pg.db.svc:1",
            "Pg.db:1",
            "-pg.db:1",
            "pg-.db:1",
            "p_g.db:1",
            ".db:1",
            "pg.:1",
            "127.0.0.1:80",
            "evil.com/x:80",
            &long,
        ] {
            assert_eq!(text.parse::<TunnelTarget>(), Err(NoTarget), "{text}");
        }
    }

    #[test]
    fn p197_only_what_is_listed_is_dialled() {
        let listed: Vec<TunnelTarget> = ["pg.db:5432", "localhost:53"]
            .into_iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let named = |service, namespace, service_port, gateway_port| Named {
            service,
            namespace,
            service_port,
            gateway_port,
        };
        let target = |named| tunnel_target(named, &listed);
        assert_eq!(target(named("pg", "db", 5432, 53)), Ok(listed[0].clone()));
        assert_eq!(target(named("pg", "db", 5433, 53)), Ok(listed[1].clone()));
        assert_eq!(target(named("", "", 0, 53)), Ok(listed[1].clone()));
        for refused in [
            named("pg", "db", 5433, 5432),
            named("", "", 0, 8080),
            named("pg", "dc", 5432, 0),
        ] {
            assert_eq!(target(refused), Err(PeerFault::NotPermitted));
        }
        for wrong in [
            named("", "db", 5432, 0),
            named("pg", "", 5432, 53),
            named("pg/..", "db", 5432, 53),
            named("pg", "db", 0, 53),
        ] {
            assert_eq!(target(wrong), Err(PeerFault::Target));
        }
        assert_eq!(
            tunnel_target(named("pg", "db", 5432, 53), &[]),
            Err(PeerFault::NotPermitted)
        );
    }
}
