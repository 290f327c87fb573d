//! The parts of a kubeconfig that the agent reads or has to refuse. No `Debug`: it holds secrets.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

const TOKEN_INSTEAD: &str = "use a user with a token (`kubectl create token`) or a client \
                             certificate";

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) current_context: Option<String>,
    pub(super) contexts: Option<Vec<ContextEntry>>,
    pub(super) clusters: Option<Vec<ClusterEntry>>,
    pub(super) users: Option<Vec<UserEntry>>,
}

#[derive(Deserialize)]
pub(super) struct ContextEntry {
    name: String,
    context: Option<Context>,
}

#[derive(Deserialize)]
pub(super) struct ClusterEntry {
    name: String,
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
pub(super) struct UserEntry {
    name: String,
    user: Option<User>,
}

#[derive(Deserialize)]
pub(super) struct Context {
    pub(super) cluster: Option<String>,
    pub(super) user: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Cluster {
    pub(super) server: Option<String>,
    #[serde(rename = "certificate-authority")]
    pub(super) ca_file: Option<String>,
    #[serde(rename = "certificate-authority-data")]
    pub(super) ca_data: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    pub(super) tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct User {
    pub(super) token: Option<String>,
    #[serde(rename = "tokenFile")]
    pub(super) token_file: Option<String>,
    #[serde(rename = "client-certificate")]
    pub(super) cert_file: Option<String>,
    #[serde(rename = "client-certificate-data")]
    pub(super) cert_data: Option<String>,
    #[serde(rename = "client-key")]
    pub(super) key_file: Option<String>,
    #[serde(rename = "client-key-data")]
    pub(super) key_data: Option<String>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
    username: Option<IgnoredAny>,
    password: Option<IgnoredAny>,
    /// `as`, `as-uid`, `as-groups` and `as-user-extra` are among these.
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

/// Whether a field is there, its name, and what to do without it.
pub(super) type Refusal = (bool, &'static str, &'static str);

impl Cluster {
    pub(super) fn refusals(&self) -> [Refusal; 2] {
        let filled = |value: &Option<String>| value.as_ref().is_some_and(|text| !text.is_empty());
        [
            (
                self.insecure_skip_tls_verify == Some(true),
                "cluster.insecure-skip-tls-verify",
                "give the cluster's authority by certificate-authority or \
                 certificate-authority-data",
            ),
            (
                filled(&self.proxy_url),
                "cluster.proxy-url",
                "run the agent where it reaches the cluster directly",
            ),
        ]
    }
}

impl User {
    pub(super) fn refusals(&self) -> [Refusal; 4] {
        [
            (self.exec.is_some(), "user.exec", TOKEN_INSTEAD),
            (
                self.auth_provider.is_some(),
                "user.auth-provider",
                TOKEN_INSTEAD,
            ),
            (
                self.username.is_some() || self.password.is_some(),
                "user.username and user.password",
                TOKEN_INSTEAD,
            ),
            (
                self.others
                    .keys()
                    .any(|key| key == "as" || key.starts_with("as-")),
                "user.as",
                "use a user that has the wanted rights itself",
            ),
        ]
    }
}

/// An entry of one of the lists.
pub(super) trait Entry {
    type Value;
    fn parts(&self) -> (&str, Option<&Self::Value>);
}

impl Entry for ContextEntry {
    type Value = Context;
    fn parts(&self) -> (&str, Option<&Context>) {
        (&self.name, self.context.as_ref())
    }
}

impl Entry for ClusterEntry {
    type Value = Cluster;
    fn parts(&self) -> (&str, Option<&Cluster>) {
        (&self.name, self.cluster.as_ref())
    }
}

impl Entry for UserEntry {
    type Value = User;
    fn parts(&self) -> (&str, Option<&User>) {
        (&self.name, self.user.as_ref())
    }
}

/// What the first entry called `name` holds.
pub(super) fn find<'a, E: Entry>(list: Option<&'a [E]>, name: &str) -> Option<&'a E::Value> {
    let entry = list?.iter().find(|entry| entry.parts().0 == name)?;
    entry.parts().1
}
