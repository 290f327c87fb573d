//! The kubeconfig of one user for one cluster behind the controller.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use controlplane_driver::Token;
use http::Uri;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use thiserror::Error;

/// What a kubeconfig is made of.
#[derive(Clone, Debug)]
pub struct Kubeconfig {
    /// URL of the controller, such as `https://controller.example.com`.
    pub server: String,
    /// Id or name of the cluster.
    pub cluster: String,
    /// PEM certificates that the controller's is signed by; without, those of the system.
    pub ca: Option<Vec<u8>>,
    /// Token of the user.
    pub token: Token,
}

impl Kubeconfig {
    /// The text of the file. It holds the token: keep it private.
    ///
    /// # Errors
    ///
    /// The URL, the cluster or the certificates cannot be used.
    pub fn render(&self) -> Result<String, KubeconfigError> {
        let server = self.url()?;
        let cluster = quote(&self.cluster);
        let mut text = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: {cluster}\n  cluster:\n    \
             server: {}\n",
            quote(&server),
        );
        if let Some(ca) = &self.ca {
            if CertificateDer::from_pem_slice(ca).is_err() {
                return Err(KubeconfigError::Ca);
            }
            let ca = STANDARD.encode(ca);
            let _ = writeln!(text, "    certificate-authority-data: {ca}");
        }
        let _ = write!(
            text,
            "users:\n- name: {cluster}\n  user:\n    token: {}\ncontexts:\n- name: {cluster}\n  \
             context:\n    cluster: {cluster}\n    user: {cluster}\ncurrent-context: {cluster}\n",
            quote(self.token.as_str()),
        );
        Ok(text)
    }

    fn url(&self) -> Result<String, KubeconfigError> {
        let wrong = || KubeconfigError::Server(self.server.clone());
        let uri: Uri = self.server.parse().map_err(|_| wrong())?;
        let host = uri.authority().map(|authority| authority.as_str());
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let host = host
            .filter(|host| bare && !host.contains('@'))
            .ok_or_else(wrong)?;
        if uri.scheme_str() != Some("https") {
            return Err(wrong());
        }
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if self.cluster.is_empty() || !self.cluster.bytes().all(fine) {
            return Err(KubeconfigError::Cluster(self.cluster.clone()));
        }
        Ok(format!("https://{host}/clusters/{}", self.cluster))
    }
}

/// As JSON, which YAML reads the same.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// No kubeconfig can be made of this.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KubeconfigError {
    /// The certificates are none.
    #[error("the CA file holds no PEM certificate: take the one that signed the controller's")]
    Ca,
    /// Neither a name nor an id.
    #[error("{0:?} is no cluster: take the name or the cluster id that `token list` shows")]
    Cluster(String),
    /// The URL cannot be used.
    #[error("{0:?} is not the controller's URL: it looks like https://HOST or https://HOST:PORT")]
    Server(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(server: &str) -> Kubeconfig {
        Kubeconfig {
            server: server.into(),
            cluster: "prod".into(),
            ca: None,
            token: Token::new("cpu_secret").unwrap(),
        }
    }

    #[test]
    fn it_names_cluster_user_and_context() {
        let text = config("https://c.example.com:8443/").render().unwrap();
        let expected = "apiVersion: v1\nkind: Config\nclusters:\n- name: \"prod\"\n  cluster:\n    \
                        server: \"https://c.example.com:8443/clusters/prod\"\nusers:\n\
                        - name: \"prod\"\n  user:\n    token: \"cpu_secret\"\ncontexts:\n\
                        - name: \"prod\"\n  context:\n    cluster: \"prod\"\n    \
                        user: \"prod\"\ncurrent-context: \"prod\"\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn certificates_are_put_in_and_nothing_else() {
        let mut config = config("https://c.example.com");
        let pem = crate::testing::certificate().0;
        config.ca = Some(pem.clone().into_bytes());
        let text = config.render().unwrap();
        let line = format!(
            "    certificate-authority-data: {}\n",
            STANDARD.encode(&pem)
        );
        assert!(text.contains(&line), "{text}");
        config.ca = Some(b"no certificate".to_vec());
        assert!(matches!(config.render(), Err(KubeconfigError::Ca)));
    }

    #[test]
    fn urls_that_would_not_work_are_refused() {
        for url in [
            "",
            "c.example.com",
            "http://c.example.com",
            "https://user:pw@c.example.com",
            "https://c.example.com/base",
            "https://c.example.com?a",
        ] {
            let error = config(url).render().unwrap_err();
            assert!(matches!(error, KubeconfigError::Server(_)), "{url}");
        }
        let mut odd = config("https://c.example.com");
        odd.cluster = "a/b".into();
        assert!(matches!(odd.render(), Err(KubeconfigError::Cluster(_))));
    }
}
