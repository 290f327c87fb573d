//! Changes to the credentials file. Each writes a new file next to it, which also keeps others
//! out, and renames it over the old one: readers see the whole old or the whole new file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use controlplane_driver::Token;

use super::{
    AgentCredential, Credentials, CredentialsError, TokenHash, UserCredential, cluster_id,
    token::{AGENT_PREFIX, USER_PREFIX, generate},
};

/// A credentials file by its path.
#[derive(Clone, Debug)]
pub struct CredentialsFile {
    path: PathBuf,
}

/// A new credential, or a new token of an old one.
#[derive(Debug)]
pub struct Created {
    /// Id of the credential.
    pub id: String,
    /// Its token: shown nowhere again.
    pub token: Token,
    /// Id of the cluster, if it is an agent.
    pub cluster_id: Option<String>,
}

/// A user to add.
#[derive(Clone, Debug, Default)]
pub struct NewUser {
    /// Name, for the audit log.
    pub name: String,
    /// Ids or names of clusters, or `*`.
    pub clusters: Vec<String>,
    /// Whom the agent impersonates for this user.
    pub kubernetes_user: Option<String>,
    /// Groups of `kubernetes_user`.
    pub groups: Vec<String>,
}

impl CredentialsFile {
    /// The file at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// It is missing, unreadable or broken.
    pub fn load(&self) -> Result<Credentials, CredentialsError> {
        let path = &self.path;
        let text = fs::read_to_string(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => CredentialsError::Missing { path: path.clone() },
            _ => CredentialsError::Read {
                path: path.clone(),
                source,
            },
        })?;
        Credentials::parse(&text, path)
    }

    /// Adds an agent, and creates the file where there is none.
    ///
    /// # Errors
    ///
    /// The name is taken or impossible, or the file cannot be changed.
    pub fn add_agent(
        &self,
        name: &str,
        workspace_id: Option<i64>,
    ) -> Result<Created, CredentialsError> {
        self.edit(|credentials| {
            if credentials.agents.iter().any(|agent| agent.name == name) {
                return Err(CredentialsError::Refused(format!(
                    "there is an agent {name:?} already: `token renew ID` gives it a new token, \
                     `token list` shows its id"
                )));
            }
            let token = generate(AGENT_PREFIX)?;
            let id = new_id("agent")?;
            let cluster_id = cluster_id(&id);
            credentials.agents.push(AgentCredential {
                id: id.clone(),
                name: name.into(),
                workspace_id,
                token_sha256: TokenHash::of(token.as_str()),
                cluster_id: cluster_id.clone(),
            });
            Ok(Created {
                id,
                token,
                cluster_id: Some(cluster_id),
            })
        })
    }

    /// Adds a user, and creates the file where there is none.
    ///
    /// # Errors
    ///
    /// A cluster is unknown, a name is impossible, or the file cannot be changed.
    pub fn add_user(&self, user: NewUser) -> Result<Created, CredentialsError> {
        self.edit(|credentials| {
            let mut wanted = user.clusters.iter();
            let unknown = wanted.find(|c| *c != "*" && credentials.cluster(c).is_none());
            if let Some(cluster) = unknown {
                let known: Vec<&str> = credentials.agents.iter().map(|a| &*a.name).collect();
                return Err(CredentialsError::Refused(format!(
                    "there is no cluster {cluster:?}: add its agent first with `token agent`, or \
                     take one of: {}",
                    known.join(", ")
                )));
            }
            let token = generate(USER_PREFIX)?;
            let id = new_id("user")?;
            credentials.users.push(UserCredential {
                id: id.clone(),
                name: user.name,
                token_sha256: TokenHash::of(token.as_str()),
                clusters: user.clusters,
                kubernetes_user: user.kubernetes_user,
                groups: user.groups,
            });
            Ok(Created {
                id,
                token,
                cluster_id: None,
            })
        })
    }

    /// Gives the credential `id` a new token; the old one is worth nothing from then on.
    ///
    /// # Errors
    ///
    /// There is no such credential, or the file cannot be changed.
    pub fn renew(&self, id: &str) -> Result<Created, CredentialsError> {
        self.edit(|credentials| {
            let agent = credentials.agents.iter_mut().find(|agent| agent.id == id);
            let user = credentials.users.iter_mut().find(|user| user.id == id);
            let (hash, prefix, cluster_id) = match (agent, user) {
                (Some(agent), _) => {
                    let cluster_id = agent.cluster_id.clone();
                    (&mut agent.token_sha256, AGENT_PREFIX, Some(cluster_id))
                }
                (None, Some(user)) => (&mut user.token_sha256, USER_PREFIX, None),
                (None, None) => return Err(unknown_id(id)),
            };
            let token = generate(prefix)?;
            *hash = TokenHash::of(token.as_str());
            Ok(Created {
                id: id.into(),
                token,
                cluster_id,
            })
        })
    }

    /// Removes the credential `id` and returns its name.
    ///
    /// # Errors
    ///
    /// There is no such credential, or the file cannot be changed.
    pub fn revoke(&self, id: &str) -> Result<String, CredentialsError> {
        self.edit(|credentials| {
            let agents = credentials.agents.extract_if(.., |agent| agent.id == id);
            let agent = agents.map(|agent| agent.name).last();
            let users = credentials.users.extract_if(.., |user| user.id == id);
            let user = users.map(|user| user.name).last();
            agent.or(user).ok_or_else(|| unknown_id(id))
        })
    }

    fn edit<T>(
        &self,
        change: impl FnOnce(&mut Credentials) -> Result<T, CredentialsError>,
    ) -> Result<T, CredentialsError> {
        let mut draft = Draft::create(&self.path)?;
        let mut credentials = match self.load() {
            Err(CredentialsError::Missing { .. }) => Credentials::default(),
            found => found?,
        };
        let outcome = change(&mut credentials)?;
        credentials
            .check()
            .map_err(|fault| CredentialsError::Refused(fault.problem))?;
        let mut text = serde_json::to_vec_pretty(&credentials)
            .map_err(io::Error::from)
            .or_else(|error| write_error(&self.path, Err(error)))?;
        text.push(b'\n');
        write_error(&self.path, draft.replace(&text, &self.path))?;
        Ok(outcome)
    }
}

fn unknown_id(id: &str) -> CredentialsError {
    CredentialsError::Refused(format!(
        "there is no credential with the id {id:?}: `token list` shows the ids"
    ))
}

/// 12 random hexadecimal digits: an id is no secret, it only has to be new.
fn new_id(kind: &str) -> Result<String, CredentialsError> {
    let number = getrandom::u64()? >> 16;
    Ok(format!("{kind}-{number:012x}"))
}

fn write_error<T>(path: &Path, outcome: io::Result<T>) -> Result<T, CredentialsError> {
    outcome.map_err(|source| CredentialsError::Write {
        path: path.into(),
        source,
    })
}

/// The file that is to replace the old one; removed unless it did.
struct Draft {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Draft {
    fn create(of: &Path) -> Result<Self, CredentialsError> {
        let mut path = of.as_os_str().to_owned();
        path.push(".new");
        let path = PathBuf::from(path);
        match create_private(&path) {
            Ok(file) => Ok(Self {
                path,
                file,
                renamed: false,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(CredentialsError::Busy { path })
            }
            Err(error) => write_error(of, Err(error)),
        }
    }

    fn replace(&mut self, text: &[u8], old: &Path) -> io::Result<()> {
        self.file.write_all(text)?;
        self.file.sync_all()?;
        fs::rename(&self.path, old)?;
        self.renamed = true;
        // The rename itself is on disk once the directory is.
        match old.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) if cfg!(unix) => File::open(parent)?.sync_all(),
            _ => Ok(()),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A new file that only its owner can read.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}
