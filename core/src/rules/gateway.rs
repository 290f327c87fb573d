//! The URL of a gateway (P-007), which a peer names: used only where the configuration lists its
//! host, and never to send the token in clear (P-193).

use alloc::{format, string::String, vec::Vec};
use core::{fmt::Write as _, net::Ipv6Addr};

use crate::error::PeerFault;

/// The longest URL that a peer may name; it lives as long as the link.
pub(crate) const MAX_URL: usize = 2048;

/// The URL to dial: `wss` or `ws`, a path, and a query that tells who comes and what it can do.
/// What the peer's own query says beside that is kept.
///
/// # Errors
///
/// [`PeerFault::Gateway`]: not such a URL, or not encrypted where the link to the controller is.
/// [`PeerFault::NotPermitted`]: a host that is not in `hosts`.
pub(crate) fn gateway_url(
    url: &str,
    hosts: &[String],
    encrypted: bool,
    cluster_uuid: &str,
    agent_version: &str,
    yamux: bool,
) -> Result<String, PeerFault> {
    let fault = PeerFault::Gateway;
    if url.len() > MAX_URL
        || !url.bytes().all(|b| b.is_ascii_graphic())
        || url.contains(['#', '\\', '"', '<', '>'])
    {
        return Err(fault);
    }
    let (scheme, rest) = url.split_once("://").ok_or(fault)?;
    let scheme = match scheme {
        "https" | "wss" => "wss",
        "http" | "ws" if !encrypted => "ws",
        _ => return Err(fault),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let host = host(authority).ok_or(fault)?;
    if !hosts.iter().any(|listed| permits(listed, host)) {
        return Err(PeerFault::NotPermitted);
    }
    let path = if path.is_empty() { "/ws" } else { path };
    let mut out = format!("{scheme}://{authority}{path}?");
    let ours = parameters(cluster_uuid, agent_version, yamux);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let name = unescaped(pair.split('=').next().unwrap_or_default());
        if !ours
            .iter()
            .any(|(own, _)| name.eq_ignore_ascii_case(own.as_bytes()))
        {
            let _ = write!(out, "{pair}&");
        }
    }
    for (i, (name, value)) in ours.iter().enumerate() {
        let and = if i > 0 { "&" } else { "" };
        let _ = write!(out, "{and}{name}={value}");
    }
    Ok(out)
}

/// What this agent tells a gateway, in the order of the names as the original writes them.
fn parameters(cluster_uuid: &str, agent_version: &str, yamux: bool) -> [(&'static str, String); 7] {
    let yes = || String::from("true");
    [
        ("agent_version", escaped(agent_version)),
        ("cluster_uuid", escaped(cluster_uuid)),
        ("supports_binary", yes()),
        ("supports_response_streaming", yes()),
        ("supports_streaming", yes()),
        ("supports_websocket", yes()),
        (
            "supports_yamux",
            String::from(if yamux { "true" } else { "false" }),
        ),
    ]
}

/// Host of an authority without user information, and with a port that is one.
fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            let port = port
                .strip_prefix(':')
                .or(port.is_empty().then_some("443"))?;
            (host, port)
        }
        None => authority.split_once(':').unwrap_or((authority, "443")),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let fine = !host.is_empty() && host.bytes().all(plain) && digits;
    (fine && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some(host)
}

/// Whether an entry of the list stands for that host; names compare without case, and a leading
/// dot stands for all names below.
fn permits(listed: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let listed = listed.to_ascii_lowercase();
    match listed.strip_prefix('.') {
        Some(domain) => {
            let below = host.strip_suffix(domain);
            below.is_some_and(|name| name.len() > 1 && name.ends_with('.'))
        }
        None => host == listed,
    }
}

/// Whether a text can stand in [`crate::AgentConfig::gateways`]: a host without scheme, port and
/// path, or with a leading dot all names below one.
#[must_use]
pub fn is_gateway_host(text: &str) -> bool {
    if text.parse::<Ipv6Addr>().is_ok() {
        return true;
    }
    let labels = text.strip_prefix('.').unwrap_or(text);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    labels
        .split('.')
        .all(|label| !label.is_empty() && label.bytes().all(plain))
}

/// A value as it may stand in a query.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// What a name in a query stands for; what is no escape stands for itself.
fn unescaped(name: &str) -> Vec<u8> {
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escape = match rest {
            [b'%', high, low, ..] => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match escape {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = rest.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn url(url: &str, encrypted: bool) -> Result<String, PeerFault> {
        let hosts = ["gw.example", ".gw.test", "::1"].map(String::from);
        gateway_url(url, &hosts, encrypted, "6f1c", "1.2 β", false)
    }

    const OURS: &str = "agent_version=1.2%20%CE%B2&cluster_uuid=6f1c&supports_binary=true\
        &supports_response_streaming=true&supports_streaming=true&supports_websocket=true\
        &supports_yamux=false";

    #[test]
    fn p007_scheme_path_and_query() {
        for (given, expected) in [
            ("https://gw.example", "wss://gw.example/ws?"),
            ("wss://gw.example/", "wss://gw.example/?"),
            ("wss://gw.example:8443/a/b", "wss://gw.example:8443/a/b?"),
            ("wss://gw.example?x=1&y", "wss://gw.example/ws?x=1&y&"),
            ("wss://a.b.gw.test/ws", "wss://a.b.gw.test/ws?"),
            ("wss://GW.Example./ws", "wss://GW.Example./ws?"),
            ("wss://[::1]:9/ws", "wss://[::1]:9/ws?"),
            (
                "wss://gw.example/?cluster_uuid=evil&k=v&supports_yamux=true",
                "wss://gw.example/?k=v&",
            ),
            (
                "wss://gw.example/?%63luster_uuid=evil&%Supports%5fYamux=1&%6B=v&%zz",
                "wss://gw.example/?%Supports%5fYamux=1&%6B=v&%zz&",
            ),
        ] {
            assert_eq!(url(given, true), Ok(expected.to_string() + OURS), "{given}");
        }
    }

    #[test]
    fn p193_a_gateway_is_no_way_to_send_the_token_in_clear() {
        for plain in ["http://gw.example/ws", "ws://gw.example/ws"] {
            assert_eq!(url(plain, true), Err(PeerFault::Gateway));
            let expected = "ws://gw.example/ws?".to_string() + OURS;
            assert_eq!(url(plain, false), Ok(expected));
        }
    }

    #[test]
    fn only_hosts_that_are_listed() {
        for other in [
            "wss://evil.example/ws",
            "wss://gw.example.evil/ws",
            "wss://xgw.example/ws",
            "wss://gw.test/ws",
            "wss://xgw.test/ws",
            "wss://.gw.test/ws",
        ] {
            assert_eq!(url(other, true), Err(PeerFault::NotPermitted), "{other}");
        }
        let none = gateway_url("wss://gw.example/ws", &[], true, "", "", false);
        assert_eq!(none, Err(PeerFault::NotPermitted));
    }

    #[test]
    fn what_can_be_listed() {
        for host in ["gw.example", "GW", ".gw.test", "10.0.0.1", "::1", "a_b-c.d"] {
            assert!(is_gateway_host(host), "{host:?}");
        }
        for other in [
            "",
            ".",
            "..gw",
            "gw.example.",
            "gw.example:443",
            "wss://gw.example",
            "gw.example/ws",
            "[::1]",
            "*.gw.test",
            " gw",
        ] {
            assert!(!is_gateway_host(other), "{other:?}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_gateway() {
        let long = format!("wss://gw.example/ws?k={}", "v".repeat(2048));
        let bad: Vec<&str> = Vec::from([
            &long,
            "",
            "gw.example/ws",
            "ftp://gw.example/",
            "WSS://gw.example/",
            "wss://user@gw.example/",
            "wss://evil.example@gw.example/",
            "wss://gw.example:0/",
            "wss://gw.example:99999/",
            "wss://gw.example:/",
            "wss://gw.example:+1/",
            "wss://gw.example /",
            "wss://gw.example/\r\nX: y",
            "wss://gw.example/#x",
            "wss://gw.example\\@evil.example/",
            "wss://[::1/",
            "wss://[::1]x/",
            "wss://",
            "wss:///ws",
            "wss://gw.exämple/",
        ]);
        for bad in bad {
            assert_eq!(url(bad, true), Err(PeerFault::Gateway), "{bad:?}");
        }
    }
}
