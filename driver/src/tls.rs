//! TLS settings of a client: roots of the system or of a file, and a client certificate.
//! Files are read anew at each connect, so that they may be replaced at any time.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Once},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use thiserror::Error;

/// Settings of a TLS client. TLS 1.2 or newer, and the peer's certificate is always verified.
#[derive(Clone, Default)]
pub struct TlsOptions {
    /// File with certificate authorities in PEM.
    pub ca_file: Option<PathBuf>,
    /// The same as text.
    pub ca_pem: Vec<u8>,
    /// File with the client's certificate chain in PEM; needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// File with the client's private key in PEM; needs `cert_file`.
    pub key_file: Option<PathBuf>,
    /// The client's certificate chain as text; needs `key_pem`.
    pub cert_pem: Vec<u8>,
    /// The client's private key as text; a secret, never shown by `Debug`.
    pub key_pem: Vec<u8>,
    /// Which other authorities are trusted.
    pub roots: Roots,
}

/// Whom to trust besides the given authorities.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Roots {
    /// The system's authorities; where it has none, as in a bare container, those of Mozilla
    /// that are compiled in, with a warning.
    #[default]
    System,
    /// Nobody else.
    Only,
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("ca_file", &self.ca_file)
            .field("cert_file", &self.cert_file)
            .field("key_file", &self.key_file)
            .field("roots", &self.roots)
            .finish_non_exhaustive()
    }
}

/// Where TLS settings come from.
#[derive(Clone, Debug)]
pub enum TlsSource {
    /// Options, whose files are read anew at each connect.
    Options(TlsOptions),
    /// A finished configuration.
    Config(Arc<ClientConfig>),
}

impl From<TlsOptions> for TlsSource {
    fn from(options: TlsOptions) -> Self {
        Self::Options(options)
    }
}

impl From<Arc<ClientConfig>> for TlsSource {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self::Config(config)
    }
}

impl From<ClientConfig> for TlsSource {
    fn from(config: ClientConfig) -> Self {
        Self::Config(Arc::new(config))
    }
}

impl TlsSource {
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        match self {
            Self::Options(options) => options.client_config().map(Arc::new),
            Self::Config(config) => Ok(config.clone()),
        }
    }
}

impl TlsOptions {
    /// Reads all files and makes a configuration of them.
    ///
    /// # Errors
    ///
    /// A file cannot be read or is not what it should be, or a certificate lacks its key.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let roots = self.root_store()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Config)?
            .with_root_certificates(roots);
        let mut config = match self.identity()? {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(TlsError::Config)?,
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn root_store(&self) -> Result<RootCertStore, TlsError> {
        let mut store = match self.roots {
            Roots::System => system_roots(),
            Roots::Only => RootCertStore::empty(),
        };
        if let Some(path) = &self.ca_file {
            add(&mut store, &read(path)?, &path.display().to_string())?;
        }
        if !self.ca_pem.is_empty() {
            add(&mut store, &self.ca_pem, "the given text")?;
        }
        if store.is_empty() {
            return Err(TlsError::NoRoots);
        }
        Ok(store)
    }

    fn identity(&self) -> Result<Option<Identity>, TlsError> {
        let cert = pem(self.cert_file.as_deref(), &self.cert_pem)?;
        let key = pem(self.key_file.as_deref(), &self.key_pem)?;
        let ((cert, cert_name), (key, key_name)) = match (cert, key) {
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => return Err(TlsError::KeyMissing),
            (None, Some(_)) => return Err(TlsError::CertificateMissing),
        };
        let chain = certificates(&cert, &cert_name)?;
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| TlsError::NotPem {
            name: key_name,
            what: "private key",
        })?;
        Ok(Some((chain, key)))
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The text with its name, from the file if there is one.
fn pem(file: Option<&Path>, text: &[u8]) -> Result<Option<(Vec<u8>, String)>, TlsError> {
    match file {
        Some(path) => Ok(Some((read(path)?, path.display().to_string()))),
        None if text.is_empty() => Ok(None),
        None => Ok(Some((text.to_vec(), "the given text".into()))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Unreadable {
        path: path.into(),
        source: Arc::new(source),
    })
}

fn certificates(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::NotPem {
            name: name.into(),
            what: "certificate",
        }),
    }
}

fn add(store: &mut RootCertStore, pem: &[u8], name: &str) -> Result<(), TlsError> {
    for certificate in certificates(pem, name)? {
        store.add(certificate).map_err(|_| TlsError::NotPem {
            name: name.into(),
            what: "certificate of an authority",
        })?;
    }
    Ok(())
}

fn system_roots() -> RootCertStore {
    roots_or_compiled_in(rustls_native_certs::load_native_certs().certs)
}

fn roots_or_compiled_in(found: Vec<CertificateDer<'static>>) -> RootCertStore {
    static WARN: Once = Once::new();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found);
    if store.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        WARN.call_once(|| {
            tracing::warn!(
                "this system has no root certificates: trusting those of Mozilla that are \
                 compiled in; mount the system's (/etc/ssl/certs) or name a CA file instead"
            );
        });
    }
    store
}

/// TLS cannot be set up.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A client's key without its certificate.
    #[error("a client key was given without its certificate: give both or neither")]
    CertificateMissing,
    /// Refused by the TLS library.
    #[error("TLS settings: {0} (do the certificate and the key belong together?)")]
    Config(rustls::Error),
    /// A client's certificate without its key.
    #[error("a client certificate was given without its key: give both or neither")]
    KeyMissing,
    /// Nobody would be trusted.
    #[error("no certificate authority to trust was given")]
    NoRoots,
    /// Not what it should be.
    #[error("{name} holds no {what} in PEM (the text between -----BEGIN and -----END)")]
    NotPem {
        /// The file.
        name: String,
        /// What it should hold.
        what: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Vec<u8>, Vec<u8>) {
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
        (
            made.cert.pem().into(),
            made.signing_key.serialize_pem().into(),
        )
    }

    #[test]
    fn where_the_system_has_no_roots_the_compiled_in_ones_count() {
        assert!(roots_or_compiled_in(Vec::new()).len() > 50);
        let (cert, _) = pair();
        let one = certificates(&cert, "it").unwrap();
        assert_eq!(roots_or_compiled_in(one).len(), 1);
    }

    #[test]
    fn p006_a_certificate_and_its_key_come_together() {
        let (cert_pem, key_pem) = pair();
        let options = TlsOptions {
            ca_pem: cert_pem.clone(),
            roots: Roots::Only,
            ..TlsOptions::default()
        };
        let with = |cert_pem: &[u8], key_pem: &[u8]| TlsOptions {
            cert_pem: cert_pem.to_vec(),
            key_pem: key_pem.to_vec(),
            ..options.clone()
        };
        let outcome = |options: &TlsOptions| options.client_config().map(|_| ());
        assert!(outcome(&with(&[], &[])).is_ok());
        assert!(outcome(&with(&cert_pem, &key_pem)).is_ok());
        assert!(matches!(
            outcome(&with(&cert_pem, &[])),
            Err(TlsError::KeyMissing)
        ));
        assert!(matches!(
            outcome(&with(&[], &key_pem)),
            Err(TlsError::CertificateMissing)
        ));
        let (_, other_key) = pair();
        assert!(matches!(
            outcome(&with(&cert_pem, &other_key)),
            Err(TlsError::Config(_))
        ));
        assert!(matches!(
            outcome(&with(&cert_pem, b"x")),
            Err(TlsError::NotPem {
                what: "private key",
                ..
            })
        ));
        assert!(matches!(
            outcome(&with(b"x", &key_pem)),
            Err(TlsError::NotPem {
                what: "certificate",
                ..
            })
        ));
        let shown = format!("{:?}", with(&cert_pem, &key_pem));
        assert!(
            !shown.contains("KEY") && !shown.contains("key_pem"),
            "{shown}"
        );
    }

    #[test]
    fn p006_a_ca_file_is_named_when_it_cannot_be_used() {
        let missing = TlsOptions {
            ca_file: Some("/nonexistent/ca.pem".into()),
            ..TlsOptions::default()
        };
        let text = missing.client_config().unwrap_err().to_string();
        assert!(
            text.starts_with("cannot read /nonexistent/ca.pem: "),
            "{text}"
        );
        let not_pem = TlsOptions {
            ca_file: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").into()),
            ..TlsOptions::default()
        };
        let text = not_pem.client_config().unwrap_err().to_string();
        assert!(
            text.contains("Cargo.toml holds no certificate in PEM"),
            "{text}"
        );
        let nobody = TlsOptions {
            roots: Roots::Only,
            ..TlsOptions::default()
        };
        assert!(matches!(nobody.client_config(), Err(TlsError::NoRoots)));
    }
}
