//! Header, path and identity rules, as pure functions.

/// Whose rights a proxied request has at the Kubernetes API (P-196).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IdentityPolicy {
    /// x
    #[default]
    ServiceAccount,
    /// x
    Impersonate,
    /// x
    Caller,
}
/// Which credentials an upstream request carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Credentials {
    /// x
    ServiceAccount,
    /// x
    Caller,
}
