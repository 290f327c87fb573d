//! The agent's id: given, or made once and kept in a file, so that a restarted agent is the same
//! agent to the control plane.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process,
};

use thiserror::Error;

use crate::error::Error;

/// Longest id accepted.
const LONGEST: usize = 128;

/// Where the agent's id comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AgentId {
    /// It is this.
    Given(String),
    /// It is kept in this file, which is made at the first start.
    File(PathBuf),
}

impl AgentId {
    /// The id, after the file was read or made. A file that cannot be made costs a warning and
    /// an id that the next start will not have.
    ///
    /// # Errors
    ///
    /// The id given or kept is not one, a file that exists cannot be read, or a new one would be
    /// needed and there is no randomness.
    pub fn resolve(&self) -> Result<String, Error> {
        let path = match self {
            Self::Given(id) => {
                check(id)?;
                return Ok(id.clone());
            }
            Self::File(path) => path,
        };
        match kept(path)? {
            Some(id) => Ok(id),
            None => make(path),
        }
    }
}

impl From<&str> for AgentId {
    fn from(id: &str) -> Self {
        Self::Given(id.into())
    }
}

impl From<String> for AgentId {
    fn from(id: String) -> Self {
        Self::Given(id)
    }
}

/// Whether `id` can be the id of an agent.
///
/// # Errors
///
/// It is empty, too long, or has characters other than letters, digits, `-`, `.` and `_`.
pub fn check(id: &str) -> Result<(), AgentIdError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if id.is_empty() || id.len() > LONGEST || !id.bytes().all(fits) {
        return Err(AgentIdError::Invalid);
    }
    Ok(())
}

/// A new id: `agent-` and 16 hexadecimal digits (P-032).
///
/// # Errors
///
/// The operating system gave no randomness.
pub fn generate() -> Result<String, Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(format!("agent-{:016x}", u64::from_be_bytes(bytes)))
}

/// The file that is used where none is named.
#[must_use]
pub fn default_file() -> PathBuf {
    default_file_in(|name| env::var_os(name).map(PathBuf::from))
}

fn default_file_in(variable: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(|| "/var/lib".into())
        .join("pipeops-agent/agent-id")
}

fn kept(path: &Path) -> Result<Option<String>, AgentIdError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        // Where no file can be, none is kept: the attempt to make one tells the rest.
        Err(error) if is_absent(&error) => return Ok(None),
        Err(source) => {
            return Err(AgentIdError::Unreadable {
                path: path.into(),
                source,
            });
        }
    };
    let id = text.trim();
    check(id).map_err(|_| AgentIdError::Corrupt { path: path.into() })?;
    Ok(Some(id.to_owned()))
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

fn make(path: &Path) -> Result<String, Error> {
    let id = generate()?;
    match write(path, &id) {
        Ok(()) => tracing::info!(agent_id = id, file = %path.display(), "made a new agent id"),
        Err(error) => tracing::warn!(
            agent_id = id,
            file = %path.display(),
            %error,
            "the new agent id cannot be kept: after a restart the control plane will see another \
             agent; set PIPEOPS_AGENT_ID, or --agent-id-file to a file that can be written"
        ),
    }
    Ok(id)
}

/// Writes a file that is either whole or not there.
fn write(path: &Path, id: &str) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let draft = folder.join(format!(".agent-id.{}", process::id()));
    // A draft that a killed process of the same number left behind.
    let _ = fs::remove_file(&draft);
    let written = write_new(&draft, id).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

fn write_new(path: &Path, id: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{id}")?;
    file.sync_all()
}

/// An agent id that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AgentIdError {
    /// Not an id.
    #[error(
        "this is no agent id: use 1 to 128 letters, digits, \"-\", \".\" or \"_\", such as \
         agent-0123456789abcdef"
    )]
    Invalid,
    /// The file does not hold an id.
    #[error(
        "the agent id file {} does not hold an agent id: delete it to become a new agent, or \
         give --agent-id", path.display()
    )]
    Corrupt {
        /// Which.
        path: PathBuf,
    },
    /// The file is there and cannot be read.
    #[error(
        "cannot read the agent id file {}: {source}; make it readable, or give --agent-id",
        path.display()
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests;
