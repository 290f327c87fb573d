//! A folder with everything to try the controller out: a certificate of its own authority, one
//! agent and one user. The authority's key is not kept, so it can sign nothing else.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use thiserror::Error;

use crate::{
    credentials::{CredentialsError, CredentialsFile, NewUser, create_private},
    tls::ServerTls,
};

/// Name of the cluster in a new folder.
pub const CLUSTER: &str = "demo";
/// Name of the user in a new folder.
const USER: &str = "admin";

/// A folder to try the controller out with.
#[derive(Clone, Debug)]
pub struct SelfSigned {
    folder: PathBuf,
}

impl SelfSigned {
    /// The folder as it is, whether complete or not.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// Creates what is missing in `folder`: a certificate for `localhost`, the loopback
    /// addresses and `names` (host names or addresses), and credentials of the cluster `demo`
    /// and of a user who may reach every cluster, with their tokens.
    ///
    /// # Errors
    ///
    /// The folder cannot be written, or holds half of a certificate.
    pub fn create(folder: impl Into<PathBuf>, names: &[String]) -> Result<Self, SelfSignedError> {
        let made = Self::at(folder);
        create_folder(&made.folder)?;
        made.create_certificate(names)?;
        made.create_credentials()?;
        Ok(made)
    }

    /// Certificate of the authority, for clients.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The credentials file.
    #[must_use]
    pub fn credentials(&self) -> PathBuf {
        self.folder.join("credentials.json")
    }

    /// Token of the agent of [`CLUSTER`].
    #[must_use]
    pub fn agent_token(&self) -> PathBuf {
        self.folder.join("agent.token")
    }

    /// Token of the user.
    #[must_use]
    pub fn user_token(&self) -> PathBuf {
        self.folder.join("user.token")
    }

    /// The server's certificate and key.
    #[must_use]
    pub fn tls(&self) -> ServerTls {
        ServerTls::Files {
            cert: self.folder.join("cert.pem"),
            key: self.folder.join("key.pem"),
        }
    }

    fn create_certificate(&self, names: &[String]) -> Result<(), SelfSignedError> {
        let files = ["ca.pem", "cert.pem", "key.pem"].map(|name| self.folder.join(name));
        match files.iter().filter(|file| file.exists()).count() {
            0 => {}
            3 => return Ok(()),
            _ => {
                let folder = self.folder.clone();
                return Err(SelfSignedError::Incomplete { folder });
            }
        }
        let [ca, cert, key] = files;
        let made = certificate(names)?;
        write_private(&ca, &made.ca)?;
        write_private(&cert, &made.cert)?;
        write_private(&key, &made.key)
    }

    fn create_credentials(&self) -> Result<(), SelfSignedError> {
        if self.credentials().exists() {
            return Ok(());
        }
        let file = CredentialsFile::new(self.credentials());
        let agent = file.add_agent(CLUSTER, None)?;
        let user = file.add_user(NewUser {
            name: USER.into(),
            clusters: vec!["*".into()],
            ..NewUser::default()
        })?;
        for (path, token) in [
            (self.agent_token(), agent.token),
            (self.user_token(), user.token),
        ] {
            // One of credentials that are gone.
            let _ = fs::remove_file(&path);
            write_private(&path, &format!("{}\n", token.as_str()))?;
        }
        Ok(())
    }
}

struct Pem {
    ca: String,
    cert: String,
    key: String,
}

fn certificate(names: &[String]) -> Result<Pem, rcgen::Error> {
    let mut authority = CertificateParams::default();
    let common_name = "pipeops-controller, self-signed";
    authority
        .distinguished_name
        .push(DnType::CommonName, common_name);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
    for name in names {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    let mut server = CertificateParams::new(all)?;
    server
        .distinguished_name
        .push(DnType::CommonName, "pipeops-controller");
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let cert = server.signed_by(&key, &authority)?;
    Ok(Pem {
        ca: authority.pem(),
        cert: cert.pem(),
        key: key.serialize_pem(),
    })
}

fn create_folder(path: &Path) -> Result<(), SelfSignedError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let created = builder.create(path);
    created.map_err(|source| SelfSignedError::Write {
        path: path.into(),
        source,
    })
}

fn write_private(path: &Path, text: &str) -> Result<(), SelfSignedError> {
    let written = create_private(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| SelfSignedError::Write {
        path: path.into(),
        source,
    })
}

/// The folder cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SelfSignedError {
    /// The certificate cannot be made, most often because of an impossible name.
    #[error("cannot make the certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The credentials cannot be made.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Some of its files are missing.
    #[error(
        "{} holds some but not all of ca.pem, cert.pem and key.pem: remove these, and they are \
         made anew",
        folder.display()
    )]
    Incomplete {
        /// Which folder.
        folder: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write {}: {source}; take a folder that this user may write", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn a_folder_is_made_once_and_private() {
        let folder = Folder::new();
        let made = SelfSigned::create(folder.path("try"), &["192.0.2.1".into()]).unwrap();
        let token = fs::read_to_string(made.agent_token()).unwrap();
        let credentials = CredentialsFile::new(made.credentials()).load().unwrap();
        let agent = credentials.agent_by_token(token.trim()).unwrap();
        assert_eq!(agent.name, CLUSTER);
        let token = fs::read_to_string(made.user_token()).unwrap();
        assert!(
            credentials
                .user_by_token(token.trim())
                .unwrap()
                .may_reach(agent)
        );
        assert!(made.tls().start().is_ok());
        #[cfg(unix)]
        for entry in fs::read_dir(folder.path("try")).unwrap() {
            use std::os::unix::fs::PermissionsExt as _;
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        }
        let ca = fs::read(made.ca()).unwrap();
        let again = SelfSigned::create(folder.path("try"), &[]).unwrap();
        assert!(
            fs::read(again.ca()).unwrap() == ca,
            "the certificate was made anew"
        );
    }

    #[test]
    fn half_a_certificate_is_an_error_and_not_overwritten() {
        let folder = Folder::new();
        fs::write(folder.path("key.pem"), "mine").unwrap();
        let error = SelfSigned::create(folder.path(""), &[]).unwrap_err();
        assert!(matches!(error, SelfSignedError::Incomplete { .. }));
        assert_eq!(fs::read_to_string(folder.path("key.pem")).unwrap(), "mine");
    }
}
