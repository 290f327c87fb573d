//! Who may connect: agents and users with the hashes of their tokens. Tokens are generated only,
//! 256 bit each, and never stored; a presented one is hashed and compared in constant time.

mod file;
#[cfg(test)]
mod tests;
mod token;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use controlplane_driver::{TokenError, rules::KubernetesUser};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

pub(crate) use self::{
    file::create_private,
    token::{AGENT_PREFIX, USER_PREFIX},
};
pub use self::{
    file::{Created, CredentialsFile, NewUser},
    token::TokenHash,
};

/// Longest name of an agent or a user.
const MAX_NAME: usize = 128;

/// All agents and users of a controller, as its credentials file lists them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The agents, each of one cluster.
    #[serde(default)]
    pub agents: Vec<AgentCredential>,
    /// The users.
    #[serde(default)]
    pub users: Vec<UserCredential>,
}

/// An agent, and with it a cluster.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AgentCredential {
    /// Stays the same when the token is renewed; the cluster id is made of it.
    pub id: String,
    /// Name of the cluster.
    pub name: String,
    /// Workspace told to the agent when it registers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<i64>,
    /// Hash of the agent's token.
    pub token_sha256: TokenHash,
    #[serde(skip)]
    cluster_id: String,
}

/// A user of the controller.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UserCredential {
    /// Stays the same when the token is renewed.
    pub id: String,
    /// Name, for the audit log.
    pub name: String,
    /// Hash of the user's token.
    pub token_sha256: TokenHash,
    /// Ids or names of the clusters that the user may reach; `*` is every cluster.
    #[serde(default)]
    pub clusters: Vec<String>,
    /// Whom the agent impersonates for this user at the Kubernetes API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_user: Option<String>,
    /// Groups of `kubernetes_user`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

impl Credentials {
    /// Reads the text of the credentials file `path`, which is named in errors.
    ///
    /// # Errors
    ///
    /// The text is not JSON of the right shape, or contradicts itself.
    pub fn parse(text: &str, path: &Path) -> Result<Self, CredentialsError> {
        let mut credentials: Self =
            serde_json::from_str(text).map_err(|source| CredentialsError::Broken {
                path: path.into(),
                line: source.line(),
                problem: source.to_string(),
            })?;
        credentials.check().map_err(|fault| {
            let quoted = serde_json::to_string(&fault.about).unwrap_or_default();
            let lines = text.lines().enumerate();
            let last = lines.filter(|(_, line)| line.contains(&quoted)).last();
            CredentialsError::Broken {
                path: path.into(),
                line: last.map_or(1, |(index, _)| index + 1),
                problem: fault.problem,
            }
        })?;
        for agent in &mut credentials.agents {
            agent.cluster_id = cluster_id(&agent.id);
        }
        Ok(credentials)
    }

    /// The agent whose token this is.
    #[must_use]
    pub fn agent_by_token(&self, token: &str) -> Option<&AgentCredential> {
        by_token(&self.agents, token, |agent| agent.token_sha256)
    }

    /// The user whose token this is.
    #[must_use]
    pub fn user_by_token(&self, token: &str) -> Option<&UserCredential> {
        by_token(&self.users, token, |user| user.token_sha256)
    }

    /// The agent of the cluster with this id or name.
    #[must_use]
    pub fn cluster(&self, id_or_name: &str) -> Option<&AgentCredential> {
        let called = |agent: &&AgentCredential| agent.is_called(id_or_name);
        self.agents.iter().find(called)
    }

    fn check(&self) -> Result<(), Fault> {
        let mut ids = BTreeSet::new();
        let mut names = BTreeSet::new();
        for agent in &self.agents {
            check_id(&agent.id, &mut ids)?;
            check_cluster_name(&agent.name)?;
            if !names.insert(&agent.name) {
                return Err(Fault::new(&agent.name, "is the name of two agents"));
            }
        }
        for user in &self.users {
            check_id(&user.id, &mut ids)?;
            user.check()?;
        }
        Ok(())
    }
}

impl AgentCredential {
    /// Id of the agent's cluster: always the same for one credential, so nothing has to be
    /// remembered.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    fn is_called(&self, id_or_name: &str) -> bool {
        self.cluster_id == id_or_name || self.name == id_or_name
    }
}

impl UserCredential {
    /// Whether the user may reach the cluster of this agent.
    #[must_use]
    pub fn may_reach(&self, agent: &AgentCredential) -> bool {
        let mut allowed = self.clusters.iter();
        allowed.any(|cluster| cluster == "*" || agent.is_called(cluster))
    }

    /// The identity that the user has at the Kubernetes API, where it is not the agent's.
    #[must_use]
    pub fn kubernetes(&self) -> Option<KubernetesUser> {
        let user = self.kubernetes_user.clone()?;
        Some(KubernetesUser {
            user,
            groups: self.groups.clone(),
        })
    }

    fn check(&self) -> Result<(), Fault> {
        check_text(&self.name)?;
        for text in self.kubernetes_user.iter().chain(&self.groups) {
            check_text(text)?;
        }
        if self.kubernetes_user.is_none() && !self.groups.is_empty() {
            let problem = "has groups but no kubernetes_user, and Kubernetes impersonates no \
                           groups without a user";
            return Err(Fault::new(&self.name, problem));
        }
        Ok(())
    }
}

/// Compares with every entry, whichever matches, so that the time tells nothing.
fn by_token<'a, T>(entries: &'a [T], token: &str, hash: fn(&T) -> TokenHash) -> Option<&'a T> {
    let presented = TokenHash::of(token);
    entries.iter().fold(None, |found, entry| {
        if hash(entry) == presented {
            Some(entry)
        } else {
            found
        }
    })
}

/// UUIDv5 of the credential's id.
fn cluster_id(id: &str) -> String {
    let name = format!("urn:pipeops-controller:agent:{id}");
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
}

/// Something that contradicts something.
struct Fault {
    about: String,
    problem: String,
}

impl Fault {
    fn new(about: &str, problem: &str) -> Self {
        Self {
            about: about.into(),
            problem: format!("{about:?} {problem}"),
        }
    }
}

fn check_id<'a>(id: &'a str, ids: &mut BTreeSet<&'a str>) -> Result<(), Fault> {
    check_text(id)?;
    if ids.insert(id) {
        Ok(())
    } else {
        Err(Fault::new(id, "is the id of two entries"))
    }
}

fn check_text(text: &str) -> Result<(), Fault> {
    if text.is_empty() || text.len() > MAX_NAME || text.chars().any(char::is_control) {
        return Err(Fault::new(
            text,
            "must have 1 to 128 bytes and no control characters",
        ));
    }
    Ok(())
}

/// A cluster's name stands in URLs, next to cluster ids.
fn check_cluster_name(name: &str) -> Result<(), Fault> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !starts || name.len() > MAX_NAME || !name.chars().all(fine) {
        let problem = "cannot be a cluster's name: it stands in URLs, so use 1 to 128 of \
                       A-Z a-z 0-9 . _ - and begin with a letter or digit";
        return Err(Fault::new(name, problem));
    }
    if Uuid::try_parse(name).is_ok() {
        let problem = "cannot be a cluster's name: it looks like a cluster id";
        return Err(Fault::new(name, problem));
    }
    Ok(())
}

/// The credentials file cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// It is not JSON of the right shape, or contradicts itself.
    #[error(
        "the credentials file {}, line {line}, is broken: {problem}; mend that line, or restore \
         the file from a copy",
        path.display()
    )]
    Broken {
        /// Which file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// Another program is changing it.
    #[error(
        "the credentials file is being changed by another program, or a change was cut off: try \
         again, and if this stays, remove {}",
        path.display()
    )]
    Busy {
        /// The file that the other program is writing.
        path: PathBuf,
    },
    /// There is none.
    #[error(
        "there is no credentials file {}: create it with `pipeops-controller token agent NAME \
         --credentials {}`",
        path.display(),
        path.display()
    )]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error(
        "cannot read the credentials file {}: {source}; check that this user may read it",
        path.display()
    )]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error(
        "cannot write the credentials file {}: {source}; check that its directory exists and \
         that this user may write there",
        path.display()
    )]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name or an id that is taken, unknown or impossible.
    #[error("{0}")]
    Refused(String),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// A token that cannot be one.
    #[error(transparent)]
    Token(#[from] TokenError),
}
