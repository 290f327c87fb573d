//! Values of flags and variables that are more than a text.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use controlplane_driver::{
    IdentityPolicy, TunnelTarget,
    rules::{NoTarget, is_gateway_host},
};

pub(super) fn label(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().into(), value.into())),
        _ => Err("a label looks like KEY=VALUE"),
    }
}

/// Nothing where nothing is set.
pub(super) fn tunnel(text: &str) -> Result<Option<TunnelTarget>, NoTarget> {
    match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some),
    }
}

/// The same.
pub(super) fn gateway(text: &str) -> Result<Option<String>, &'static str> {
    match text.trim() {
        "" => Ok(None),
        host if is_gateway_host(host) => Ok(Some(host.into())),
        _ => {
            Err("not a host: use HOST, or .DOMAIN for all names below it, without scheme and port")
        }
    }
}

/// Knows the names of the policies, for help and for errors.
pub(super) fn policy() -> impl TypedValueParser<Value = IdentityPolicy> {
    PossibleValuesParser::new(POLICIES).try_map(|name| name.parse::<IdentityPolicy>())
}

const POLICIES: [&str; 3] = [
    IdentityPolicy::ServiceAccount.as_str(),
    IdentityPolicy::Impersonate.as_str(),
    IdentityPolicy::Caller.as_str(),
];
