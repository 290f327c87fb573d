//! Reads from a kubeconfig what the agent needs to reach one cluster. What it cannot do is refused
//! by name instead of left out, and nothing that the file holds is ever part of an error.

mod file;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use controlplane_driver::{KubernetesConfig, Roots, TlsOptions, Token, TokenSource};
use http::Uri;
use thiserror::Error;

use self::file::{Cluster, File, User};

/// Reads the cluster and the user of `context`, or of the file's current context.
///
/// Files that it names are looked for in its own folder, and read anew at each connect.
///
/// # Errors
///
/// The file cannot be read or understood, lacks something, or asks for something that the agent
/// does not do.
pub fn read(path: &Path, context: Option<&str>) -> Result<KubernetesConfig, KubeconfigError> {
    let read = || -> Result<_, Problem> {
        let text = fs::read_to_string(path).map_err(Problem::Unreadable)?;
        let file: File =
            serde_saphyr::from_str(&text).map_err(|error| Problem::malformed(&error))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Reader { folder }.settings(&file, context)
    };
    read().map_err(|problem| KubeconfigError {
        path: path.into(),
        problem,
    })
}

struct Reader<'a> {
    folder: &'a Path,
}

impl Reader<'_> {
    fn settings(&self, file: &File, context: Option<&str>) -> Result<KubernetesConfig, Problem> {
        let (cluster, user) = select(file, context)?;
        refuse(&cluster.refusals())?;
        let url = filled(cluster.server.as_ref()).ok_or(Problem::Lacks("cluster.server"))?;
        check_server(url)?;
        let mut config = KubernetesConfig::new(url);
        config.server_name = filled(cluster.tls_server_name.as_ref()).map(String::from);
        config.tls = self.authorities(cluster)?;
        if let Some(user) = user {
            refuse(&user.refusals())?;
            self.certificate(user, &mut config.tls)?;
            config.token = self.token(user)?;
        }
        Ok(config)
    }

    fn authorities(&self, cluster: &Cluster) -> Result<TlsOptions, Problem> {
        let mut tls = TlsOptions::default();
        if let Some(data) = filled(cluster.ca_data.as_ref()) {
            tls.ca_pem = decode(data, "cluster.certificate-authority-data")?;
        } else {
            tls.ca_file = self.file(cluster.ca_file.as_ref());
        }
        // As for kubectl, the cluster's own authorities replace those of the system.
        if tls.ca_file.is_some() || !tls.ca_pem.is_empty() {
            tls.roots = Roots::Only;
        }
        Ok(tls)
    }

    fn certificate(&self, user: &User, tls: &mut TlsOptions) -> Result<(), Problem> {
        if let Some(data) = filled(user.cert_data.as_ref()) {
            tls.cert_pem = decode(data, "user.client-certificate-data")?;
        } else {
            tls.cert_file = self.file(user.cert_file.as_ref());
        }
        if let Some(data) = filled(user.key_data.as_ref()) {
            tls.key_pem = decode(data, "user.client-key-data")?;
        } else {
            tls.key_file = self.file(user.key_file.as_ref());
        }
        let cert = tls.cert_file.is_some() || !tls.cert_pem.is_empty();
        let key = tls.key_file.is_some() || !tls.key_pem.is_empty();
        match (cert, key) {
            (true, false) => Err(Problem::Lacks("user.client-key")),
            (false, true) => Err(Problem::Lacks("user.client-certificate")),
            _ => Ok(()),
        }
    }

    /// As for kubectl, the file wins over the text.
    fn token(&self, user: &User) -> Result<Option<TokenSource>, Problem> {
        if let Some(path) = self.file(user.token_file.as_ref()) {
            return Ok(Some(TokenSource::File(path)));
        }
        let Some(text) = filled(user.token.as_ref()) else {
            return Ok(None);
        };
        match Token::new(text) {
            Ok(token) => Ok(Some(token.into())),
            Err(_) => Err(Problem::NoToken),
        }
    }

    /// A path of the file, relative to the file's folder.
    fn file(&self, path: Option<&String>) -> Option<PathBuf> {
        filled(path).map(|path| self.folder.join(path))
    }
}

/// The cluster and the user of a context; a context without user is anonymous.
fn select<'a>(
    file: &'a File,
    context: Option<&str>,
) -> Result<(&'a Cluster, Option<&'a User>), Problem> {
    let name = match context {
        Some(name) => name,
        None => filled(file.current_context.as_ref()).ok_or(Problem::NoCurrentContext)?,
    };
    let context = file::find(file.contexts.as_deref(), name).ok_or_else(|| match context {
        Some(name) => Problem::NoContext(crate::escape::escape(name)),
        None => Problem::Dangling("current-context", "context"),
    })?;
    let cluster = filled(context.cluster.as_ref()).ok_or(Problem::Lacks("context.cluster"))?;
    let cluster = file::find(file.clusters.as_deref(), cluster)
        .ok_or(Problem::Dangling("context.cluster", "cluster"))?;
    let Some(user) = filled(context.user.as_ref()) else {
        return Ok((cluster, None));
    };
    let user =
        file::find(file.users.as_deref(), user).ok_or(Problem::Dangling("context.user", "user"))?;
    Ok((cluster, Some(user)))
}

fn refuse(refusals: &[(bool, &'static str, &'static str)]) -> Result<(), Problem> {
    match refusals.iter().find(|(present, ..)| *present) {
        Some((_, field, remedy)) => Err(Problem::Refused { field, remedy }),
        None => Ok(()),
    }
}

/// The agent relays the paths of requests as they are, so there is no place for one here.
fn check_server(url: &str) -> Result<(), Problem> {
    let uri: Uri = url.parse().map_err(|_| Problem::Server)?;
    let scheme = matches!(uri.scheme_str(), Some("https" | "http"));
    let user = uri.authority().is_none_or(|a| a.as_str().contains('@'));
    let path = !matches!(uri.path(), "" | "/") || uri.query().is_some();
    if !scheme || user || path || !crate::url::has_host(&uri) {
        return Err(Problem::Server);
    }
    Ok(())
}

fn filled(value: Option<&String>) -> Option<&str> {
    value
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
}

fn decode(data: &str, field: &'static str) -> Result<Vec<u8>, Problem> {
    // A folded scalar of YAML leaves white space between the lines.
    let data: String = data.split_ascii_whitespace().collect();
    BASE64_STANDARD
        .decode(data)
        .map_err(|_| Problem::Base64(field))
}

/// A kubeconfig that cannot be used.
#[derive(Debug, Error)]
#[error("the kubeconfig {} {problem}", path.display())]
pub struct KubeconfigError {
    path: PathBuf,
    problem: Problem,
}

impl KubeconfigError {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it.
    #[must_use]
    pub const fn problem(&self) -> &Problem {
        &self.problem
    }
}

/// What is wrong with a kubeconfig; none holds anything of what the file says.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// Not YAML, or a field is of another type.
    #[error(
        "cannot be understood at line {line}, column {column}: this is not YAML, or the field is \
         not of the type that a kubeconfig has there"
    )]
    Malformed {
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
    },
    /// No context is current and none was asked for.
    #[error("has no current-context: give --context")]
    NoCurrentContext,
    /// The context that was asked for is not there.
    #[error("has no context \"{0}\": see `kubectl config get-contexts`")]
    NoContext(String),
    /// A name that leads nowhere.
    #[error("has a {0} that names no {1} of the file: correct it, or give another --context")]
    Dangling(&'static str, &'static str),
    /// A field is missing.
    #[error("lacks {0}, which the agent needs")]
    Lacks(&'static str),
    /// Something the agent does not do.
    #[error("has {field}, which the agent does not support: {remedy}")]
    Refused {
        /// The field.
        field: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// Not the URL of an API server.
    #[error(
        "has a cluster.server that the agent cannot use: it has to look like \
         https://10.0.0.1:6443, without path, query or user name"
    )]
    Server,
    /// Not base64.
    #[error("has a {0} that is not base64")]
    Base64(&'static str),
    /// Not a token.
    #[error("has a user.token with characters that no token has")]
    NoToken,
}

impl Problem {
    /// Keeps the place alone: the text of the error may quote the file.
    fn malformed(error: &serde_saphyr::Error) -> Self {
        let place = error.location();
        Self::Malformed {
            line: place.map_or(1, |p| p.line().max(1)),
            column: place.map_or(1, |p| p.column().max(1)),
        }
    }
}

#[cfg(test)]
mod tests;
