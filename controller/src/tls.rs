//! The server's certificate and key, read anew when their files change.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use controlplane_health::not_after;
use rustls::{
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
};
use thiserror::Error;

use crate::reload::Reloaded;

/// Where the server's TLS configuration comes from.
#[derive(Clone)]
pub enum ServerTls {
    /// PEM files, read anew when they change.
    Files {
        /// Certificate, followed by those between it and the CA's.
        cert: PathBuf,
        /// Private key.
        key: PathBuf,
    },
    /// The same, in memory.
    Pem {
        /// Certificates.
        cert: Vec<u8>,
        /// Private key.
        key: Vec<u8>,
    },
    /// Ready-made. Its protocols (ALPN) are replaced: only HTTP/1.1 is spoken.
    Config(Arc<rustls::ServerConfig>),
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files { cert, key } => f
                .debug_struct("Files")
                .field("cert", cert)
                .field("key", key)
                .finish(),
            Self::Pem { .. } => f.write_str("Pem(..)"),
            Self::Config(_) => f.write_str("Config(..)"),
        }
    }
}

pub(crate) type Configs = Reloaded<Serving, ServerTlsError>;

/// What clients are shown.
pub(crate) struct Serving {
    pub(crate) config: Arc<rustls::ServerConfig>,
    /// When the certificate ends, in seconds since the UNIX epoch; unknown of a ready-made
    /// configuration.
    pub(crate) not_after: Option<i64>,
}

impl ServerTls {
    /// Reads certificate and key for the first time.
    pub(crate) fn start(&self) -> Result<Configs, ServerTlsError> {
        let source = self.clone();
        let paths = match self {
            Self::Files { cert, key } => vec![cert.clone(), key.clone()],
            Self::Pem { .. } | Self::Config(_) => Vec::new(),
        };
        Reloaded::start(paths, move || source.config())
    }

    fn config(&self) -> Result<Serving, ServerTlsError> {
        let (certs, key) = match self {
            Self::Files { cert, key } => {
                let certs = pem(&read(cert)?, &Place::File(cert))?;
                (certs, private_key(&read(key)?, &Place::File(key))?)
            }
            Self::Pem { cert, key } => {
                let certs = pem(cert, &Place::Memory)?;
                (certs, private_key(key, &Place::Memory)?)
            }
            Self::Config(config) => return Ok(Serving::new((**config).clone(), None)),
        };
        let not_after = certs.first().and_then(|first| not_after(first));
        Ok(Serving::new(server_config(certs, key)?, not_after))
    }
}

/// The key stays out.
impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Serving {
    fn new(mut config: rustls::ServerConfig, not_after: Option<i64>) -> Self {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            config: Arc::new(config),
            not_after,
        }
    }
}

fn server_config(
    certs: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<rustls::ServerConfig, ServerTlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?;
    Ok(builder.with_no_client_auth().with_single_cert(certs, key)?)
}

/// Where a PEM text comes from, for errors.
enum Place<'a> {
    File(&'a Path),
    Memory,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Memory => f.write_str("the given PEM text"),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ServerTlsError> {
    fs::read(path).map_err(|source| ServerTlsError::Read {
        path: path.into(),
        source,
    })
}

fn pem(text: &[u8], place: &Place<'_>) -> Result<Vec<CertificateDer<'static>>, ServerTlsError> {
    let certs: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
    match certs {
        Ok(certs) if !certs.is_empty() => Ok(certs),
        _ => Err(ServerTlsError::Pem {
            place: place.to_string(),
            what: "certificate",
        }),
    }
}

fn private_key(text: &[u8], place: &Place<'_>) -> Result<PrivateKeyDer<'static>, ServerTlsError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|_| ServerTlsError::Pem {
        place: place.to_string(),
        what: "private key without a passphrase",
    })
}

/// Certificate and key cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerTlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}; check the path and that this user may read it", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{place} holds no PEM {what}")]
    Pem {
        /// Which.
        place: String,
        /// What it should hold.
        what: &'static str,
    },
    /// Certificate and key do not fit each other, or cannot be used.
    #[error("the certificate and its key cannot be used: {0}")]
    Rejected(#[from] rustls::Error),
}

#[cfg(test)]
mod tests {
    use controlplane_health::not_after_pem;

    use super::*;
    use crate::testing::{Folder, certificate};

    #[test]
    fn certificates_are_read_anew_and_a_wrong_key_changes_nothing() {
        let folder = Folder::new();
        let (cert, key) = (folder.path("cert.pem"), folder.path("key.pem"));
        let write = |pair: &(String, String)| {
            fs::write(&cert, &pair.0).unwrap();
            fs::write(&key, &pair.1).unwrap();
        };
        let (first, second) = (certificate(), certificate());
        write(&first);
        let files = ServerTls::Files {
            cert: cert.clone(),
            key: key.clone(),
        };
        let configs = files.start().unwrap();
        let before = configs.current();
        assert_eq!(before.config.alpn_protocols, [b"http/1.1"]);
        let ends = not_after_pem(first.0.as_bytes());
        assert_eq!(before.not_after, ends.first().copied());
        assert!(before.not_after.is_some());
        assert!(Arc::ptr_eq(&before, &configs.current()));
        fs::write(&cert, format!("{}\n\n", second.0)).unwrap();
        assert!(
            Arc::ptr_eq(&before, &configs.current()),
            "a certificate without its key"
        );
        write(&second);
        assert!(!Arc::ptr_eq(&before, &configs.current()));
    }

    #[test]
    fn errors_name_the_file_and_never_show_a_key() {
        let folder = Folder::new();
        let (cert, key) = certificate();
        let (cert_file, key_file) = (folder.path("cert.pem"), folder.path("key.pem"));
        let files = ServerTls::Files {
            cert: cert_file.clone(),
            key: key_file.clone(),
        };
        let text = files.config().unwrap_err().to_string();
        assert!(text.contains("cert.pem"), "{text}");
        fs::write(&cert_file, &cert).unwrap();
        fs::write(&key_file, &cert).unwrap();
        let text = files.config().unwrap_err().to_string();
        assert!(text.contains("key.pem holds no PEM private key"), "{text}");
        let memory = ServerTls::Pem {
            cert: cert.into_bytes(),
            key: key.into_bytes(),
        };
        assert_eq!(format!("{memory:?}"), "Pem(..)");
    }
}
