//! Authorities and what they sign; and that an agent trusts nobody but whom it should.

use std::sync::Arc;

use controlplane_driver::{Roots, Runtime, State, TlsOptions};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};

use super::scene::{Act, Scene};
use crate::bench::on_both;

on_both! {
    a_certificate_that_is_not_right_is_never_trusted
    a_client_certificate_is_shown_where_it_is_asked_for
}

/// An authority.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flaw {
    None,
    /// It is that of another host.
    Name,
    Expired,
    NotYet,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// What a server at 127.0.0.1 speaks with; it asks its clients for a certificate of `clients`.
    pub(super) fn server(&self, flaw: Flaw, clients: Option<&Self>) -> Arc<ServerConfig> {
        let name = match flaw {
            Flaw::Name => "controller.example.com",
            _ => "127.0.0.1",
        };
        let mut params = CertificateParams::new([name.to_string()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        match flaw {
            Flaw::Expired => {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            }
            Flaw::NotYet => {
                params.not_before = date_time_ymd(2400, 1, 1);
                params.not_after = date_time_ymd(2401, 1, 1);
            }
            Flaw::None | Flaw::Name => {}
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.0.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![certificate.der().clone()];
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }

    /// Settings of a client that trusts this one alone.
    pub(super) fn trusted(&self) -> TlsOptions {
        TlsOptions {
            ca_pem: self.0.pem().into_bytes(),
            roots: Roots::Only,
            ..TlsOptions::default()
        }
    }

    /// The same, with a certificate of a client that `of` has signed.
    pub(super) fn trusted_with_identity(&self, of: &Self) -> TlsOptions {
        let mut params = CertificateParams::new(["agent".to_string()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &of.0).unwrap();
        TlsOptions {
            cert_pem: certificate.pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
            ..self.trusted()
        }
    }
}

async fn a_certificate_that_is_not_right_is_never_trusted<R: Runtime>(runtime: R) {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    for (config, trusted) in [
        (ours.server(Flaw::Name, None), ours.trusted()),
        (ours.server(Flaw::Expired, None), ours.trusted()),
        (ours.server(Flaw::NotYet, None), ours.trusted()),
        (theirs.server(Flaw::None, None), ours.trusted()),
        (
            Authority::new("ours").server(Flaw::None, None),
            ours.trusted(),
        ),
        (ours.server(Flaw::None, None), TlsOptions::default()),
    ] {
        let scene = Scene::start(Act::Serve, Some(config)).await;
        let agent = scene.agent(runtime.clone(), trusted).start().unwrap();
        let mut state = agent.state();
        let reason = loop {
            if let State::Waiting { reason, .. } = &state {
                break reason.to_string();
            }
            assert!(!matches!(state, State::Registered(_)), "it was trusted");
            state = agent.changed(&state).await;
        };
        assert!(reason.contains("TLS with 127.0.0.1"), "{reason}");
        assert_eq!(scene.upgrades(), 0, "the token was sent");
    }
}

async fn a_client_certificate_is_shown_where_it_is_asked_for<R: Runtime>(runtime: R) {
    let (ours, clients) = (Authority::new("ours"), Authority::new("clients"));
    let config = ours.server(Flaw::None, Some(&clients));
    let scene = Scene::start(Act::Serve, Some(config)).await;
    let trusted = ours.trusted_with_identity(&clients);
    let agent = scene.agent(runtime, trusted).start().unwrap();
    assert_eq!(agent.registered().await.unwrap().cluster_id, "6f1c");
}
