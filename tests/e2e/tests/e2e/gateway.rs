//! Gateway mode: a played controller that names a played gateway.

use std::sync::Arc;

use controlplane_driver::{Roots, Runtime, State, TlsOptions};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    bench::on_both,
    played::{Played, TOKEN, agent, agent_of, listen},
};

on_both! {
    p082_p085_p180_the_agent_moves_to_the_gateway_and_comes_back
    p007_a_gateway_that_is_not_listed_never_sees_the_token
    p193_a_gateway_is_dialled_with_the_tls_settings_of_the_controller
}

fn registered(state: &State) -> bool {
    matches!(state, State::Registered(_))
}

async fn p082_p085_p180_the_agent_moves_to_the_gateway_and_comes_back<R: Runtime>(runtime: R) {
    let (controller, at) = listen().await;
    let (gateway, gateway_at) = listen().await;
    let named = json!({"gateway_ws_url": format!("ws://{gateway_at}/ws?shard=7")});
    let agent = agent(runtime, at)
        .gateways(["127.0.0.1".to_string()])
        .start()
        .unwrap();
    let mut old = Played::register(&controller, named.clone()).await;

    // While the gateway hesitates the controller is served, and nobody sees a difference.
    let (hesitating, _) = gateway.accept().await.unwrap();
    old.asks("before").await;
    assert!(registered(&agent.state()), "{:?}", agent.state());
    let mut new = Played::upgrade(hesitating).await;
    assert_eq!(new.authorization, format!("Bearer {TOKEN}"));
    assert!(
        new.target.starts_with("/ws?shard=7&agent_version=")
            && new.target.contains("&cluster_uuid=6f1c&"),
        "{}",
        new.target
    );
    let closed = loop {
        match old.next().await {
            Ok(message) => assert_eq!(message["type"], "heartbeat"),
            Err(code) => break code,
        }
    };
    assert_eq!(closed, Some(1000));
    assert_eq!(new.next().await.unwrap()["type"], "heartbeat");
    new.asks("at the gateway").await;
    assert!(registered(&agent.state()));

    // A connection that breaks is looked for at the gateway once more, without a registration.
    let seen = agent.state();
    drop(new);
    let lost = agent.changed(&seen).await;
    assert!(matches!(lost, State::Waiting { .. }), "{lost:?}");
    let mut new = Played::accept(&gateway).await;
    assert_eq!(new.next().await.unwrap()["type"], "heartbeat");
    new.asks("again at the gateway").await;
    assert_eq!(agent.registered().await.unwrap().cluster_id, "6f1c");
    assert_eq!(agent.stats().registrations, 1);

    // Where it is gone, the controller is, and serves until the gateway is back.
    drop((new, gateway));
    let mut old = Played::register(&controller, named).await;
    old.asks("at the controller").await;
    assert!(registered(&agent.state()));
    let gateway = TcpListener::bind(gateway_at).await.unwrap();
    let mut new = Played::accept(&gateway).await;
    new.asks("back at the gateway").await;
    assert!(registered(&agent.state()));
    assert_eq!(agent.stats().registrations, 2);
}

async fn p007_a_gateway_that_is_not_listed_never_sees_the_token<R: Runtime>(runtime: R) {
    let (controller, at) = listen().await;
    let (gateway, gateway_at) = listen().await;
    let agent = agent(runtime, at)
        .gateways(["gw.example".to_string()])
        .start()
        .unwrap();
    let named = json!({"gateway_ws_url": format!("ws://{gateway_at}/ws")});
    let mut old = Played::register(&controller, named).await;
    for id in ["a", "b", "c"] {
        old.asks(id).await;
    }
    agent.shutdown(std::time::Duration::ZERO).await;
    // The first who comes is we.
    let own = TcpStream::connect(gateway_at).await.unwrap();
    let (_, first) = gateway.accept().await.unwrap();
    assert_eq!(first, own.local_addr().unwrap());
}

/// A server with a certificate of its own, which comes in PEM.
pub(crate) fn server() -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

async fn secured(listener: &TcpListener, tls: &TlsAcceptor) -> TlsStream<TcpStream> {
    let (tcp, _) = listener.accept().await.unwrap();
    tls.accept(tcp).await.unwrap()
}

async fn p193_a_gateway_is_dialled_with_the_tls_settings_of_the_controller<R: Runtime>(runtime: R) {
    let (controller, at) = listen().await;
    let (gateway, gateway_at) = listen().await;
    let ((known, ca), (stranger, _)) = (server(), server());
    let agent = agent_of(runtime, &format!("https://{at}"))
        .allow_plaintext(false)
        .tls(TlsOptions {
            ca_pem: ca.into_bytes(),
            roots: Roots::Only,
            ..TlsOptions::default()
        })
        .gateways(["127.0.0.1".to_string()])
        .start()
        .unwrap();
    let named = json!({"gateway_ws_url": format!("wss://{gateway_at}/ws")});
    let old = Played::upgrade(secured(&controller, &known).await).await;
    let mut old = old.registered(named).await;

    // Who cannot prove to be the gateway gets no token, and the controller goes on.
    let (tcp, _) = gateway.accept().await.unwrap();
    assert!(stranger.accept(tcp).await.is_err());
    old.asks("at the controller").await;
    assert!(registered(&agent.state()));
    let mut new = Played::upgrade(secured(&gateway, &known).await).await;
    assert_eq!(new.authorization, format!("Bearer {TOKEN}"));
    new.asks("at the gateway").await;
}
