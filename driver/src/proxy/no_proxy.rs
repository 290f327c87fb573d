//! Which hosts no proxy is used for: `NO_PROXY`, read as by Go's `golang.org/x/net/http/httpproxy`,
//! so that the agent and kubectl understand the same line alike.

use std::net::IpAddr;

use ipnet::IpNet;

/// Of an entry that could not be read, in characters.
const SHOWN: usize = 100;

/// The hosts that are reached directly.
#[derive(Clone, Debug, Default)]
pub(super) struct NoProxy {
    rules: Vec<Rule>,
    /// What could not be read.
    ignored: Vec<String>,
}

#[derive(Clone, Debug)]
struct Rule {
    hosts: Hosts,
    /// Every port, where none is given.
    port: Option<u16>,
}

#[derive(Clone, Debug)]
enum Hosts {
    All,
    /// The names below this one, and itself where that is said.
    Below {
        /// With a dot before it.
        dotted: String,
        itself: bool,
    },
    Net(IpNet),
}

impl NoProxy {
    /// Reads a list, separated by commas. What is no entry is left out, as Go does, and kept for a
    /// warning: the same variable is often set for programs that read more into it.
    pub(super) fn parse(list: &str) -> Self {
        let mut read = Self::default();
        let entries = list.split(',').map(str::trim);
        for entry in entries.filter(|entry| !entry.is_empty()) {
            match Rule::parse(&entry.to_ascii_lowercase()) {
                Some(rule) => read.rules.push(rule),
                None => read.ignored.push(shown(entry)),
            }
        }
        read
    }

    pub(super) fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// Whether `host`, without brackets, is reached directly at `port`.
    pub(super) fn excepts(&self, host: &str, port: u16) -> bool {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse().ok().map(|ip: IpAddr| ip.to_canonical());
        if name == "localhost" || address.is_some_and(|ip| ip.is_loopback()) {
            return true;
        }
        let port_fits = |rule: &Rule| rule.port.is_none_or(|only| only == port);
        let mut rules = self.rules.iter().filter(|rule| port_fits(rule));
        rules.any(|rule| rule.hosts.contain(&name, address))
    }
}

impl Rule {
    fn parse(entry: &str) -> Option<Self> {
        let of = |hosts, port| Some(Self { hosts, port });
        if entry == "*" {
            return of(Hosts::All, None);
        }
        if let Ok(net) = entry.parse() {
            return of(Hosts::Net(net), None);
        }
        let (host, port) = split_port(entry)?;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return of(Hosts::Net(ip.to_canonical().into()), port);
        }
        let (name, itself) = match host.strip_prefix("*.").or(host.strip_prefix('.')) {
            Some(below) => (below, false),
            None => (host, true),
        };
        let name = name.trim_end_matches('.');
        let hosts = Hosts::Below {
            dotted: format!(".{name}"),
            itself,
        };
        is_name(name).then_some(Self { hosts, port })
    }
}

impl Hosts {
    /// A name is none of an address' and an address in none of a name's, whatever they look like.
    fn contain(&self, name: &str, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Self::All, _) => true,
            (Self::Net(net), Some(ip)) => net.contains(&ip),
            (Self::Below { dotted, itself }, None) => {
                name.ends_with(dotted) || *itself && dotted.strip_prefix('.') == Some(name)
            }
            _ => false,
        }
    }
}

/// A host and its port; the host of an address of IPv6 without brackets.
fn split_port(entry: &str) -> Option<(&str, Option<u16>)> {
    if entry.parse::<IpAddr>().is_ok() {
        return Some((entry, None));
    }
    let (host, port) = match entry.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => entry.split_at(entry.find(':').unwrap_or(entry.len())),
    };
    if port.is_empty() {
        return Some((host, None));
    }
    let port = port.strip_prefix(':')?.parse().ok()?;
    Some((host, Some(port)))
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    text.split('.')
        .all(|label| !label.is_empty() && label.chars().all(plain))
}

/// An entry as it may be logged: no password, should there be a URL, and of bounded length.
fn shown(entry: &str) -> String {
    let entry = entry.rsplit('@').next().unwrap_or_default();
    entry.escape_debug().take(SHOWN).collect()
}

#[cfg(test)]
mod tests;
