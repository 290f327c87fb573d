//! A controller that does one thing with each of its connections, over and over.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use controlplane_driver::{Backoff, Builder, Limits, Runtime, TlsOptions};
use futures_util::{SinkExt, StreamExt};
use rustls::ServerConfig;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

use crate::played::{Played, agent_of};

/// What it does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Act {
    /// It ends the connection when it has read something.
    CutTcp,
    /// It says nothing at all.
    SilentTcp,
    /// It speaks no TLS.
    NoTls,
    /// It ends the connection when it has read the upgrade.
    CutUpgrade,
    /// It never answers the upgrade.
    SilentUpgrade,
    /// It answers the upgrade with this.
    Answer(&'static str),
    /// It ends the connection when the WebSocket is open and it has read `register`.
    CutRegister,
    /// It never answers `register`.
    SilentRegister,
    /// It answers `register` with an error.
    RefuseRegister,
    /// It registers the agent, and then does this when it is told to.
    Registered(Then),
    /// It registers the agent, and goes on.
    Serve,
}

/// What it does with a registered agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Then {
    Cut,
    Close(u16),
    /// It sends a message that is too long.
    TooBig,
    /// It sends bytes that are no frame.
    NoFrame,
    /// It sends a text that is no UTF-8.
    NoText,
}

/// Longest message that the agents of a scene take.
const LONGEST: usize = 10_000;

/// The controller.
pub(super) struct Scene {
    pub(super) address: SocketAddr,
    /// Tells it to go on.
    pub(super) go: Arc<Notify>,
    upgrades: Arc<AtomicUsize>,
    dials: Arc<AtomicUsize>,
}

impl Scene {
    /// It listens, with TLS where there is a configuration for it.
    pub(super) async fn start(act: Act, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scene = Self {
            address: listener.local_addr().unwrap(),
            go: Arc::default(),
            upgrades: Arc::default(),
            dials: Arc::default(),
        };
        let (go, upgrades) = (scene.go.clone(), scene.upgrades.clone());
        let dials = scene.dials.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                dials.fetch_add(1, Ordering::SeqCst);
                let (tls, go, upgrades) = (tls.clone(), go.clone(), upgrades.clone());
                tokio::spawn(async move { connection(tcp, act, tls, &go, &upgrades).await });
            }
        });
        scene
    }

    /// How many connections got as far as to an upgrade.
    pub(super) fn upgrades(&self) -> usize {
        self.upgrades.load(Ordering::SeqCst)
    }

    /// Returns when an agent is where `act` leaves it.
    pub(super) async fn reached(&self, act: Act) {
        let there = || match act {
            Act::SilentTcp => self.dials() > 0,
            _ => self.upgrades() > 0,
        };
        while !there() {
            tokio::task::yield_now().await;
        }
    }

    /// How many connections there were.
    pub(super) fn dials(&self) -> usize {
        self.dials.load(Ordering::SeqCst)
    }

    /// An agent that dials it and waits a second or two before it comes back.
    pub(super) fn agent<R: Runtime>(&self, runtime: R, tls: TlsOptions) -> Builder<R> {
        patient(agent_of(runtime, &format!("https://{}", self.address))).tls(tls)
    }
}

pub(super) fn patient<R: Runtime>(agent: Builder<R>) -> Builder<R> {
    agent
        .backoff(Backoff {
            base: Duration::from_secs(2),
            ..Backoff::default()
        })
        .limits(Limits {
            frame: LONGEST,
            ..Limits::agent()
        })
}

async fn connection(
    mut tcp: TcpStream,
    act: Act,
    tls: Option<Arc<ServerConfig>>,
    go: &Notify,
    upgrades: &AtomicUsize,
) {
    match act {
        Act::CutTcp => return drop(tcp.read(&mut [0; 4096]).await),
        Act::SilentTcp => return std::future::pending().await,
        Act::NoTls => {
            drop(tcp.read(&mut [0; 4096]).await);
            let text = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
            drop(tcp.write_all(text).await);
            return drop(tcp.read(&mut [0; 4096]).await);
        }
        _ => {}
    }
    let Some(tls) = tls else {
        return upgraded(tcp, act, go, upgrades).await;
    };
    // Who does not trust us has gone.
    if let Ok(io) = TlsAcceptor::from(tls).accept(tcp).await {
        upgraded(io, act, go, upgrades).await;
    }
}

async fn upgraded<T>(mut io: T, act: Act, go: &Notify, upgrades: &AtomicUsize)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    if let Act::CutUpgrade | Act::SilentUpgrade | Act::Answer(_) = act {
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            match io.read_u8().await {
                Ok(byte) => read.push(byte),
                Err(_) => return,
            }
        }
        upgrades.fetch_add(1, Ordering::SeqCst);
        if let Act::Answer(text) = act {
            drop(io.write_all(text.as_bytes()).await);
            drop(io.read(&mut [0; 4096]).await);
        } else if act == Act::SilentUpgrade {
            std::future::pending().await
        }
        return;
    }
    // A byte, so that who never asks for an upgrade is not taken for one.
    let played = Played::try_upgrade(io).await;
    let Some(mut played) = played else { return };
    upgrades.fetch_add(1, Ordering::SeqCst);
    match act {
        Act::CutRegister => drop(played.next().await),
        Act::SilentRegister => while played.next().await.is_ok() {},
        Act::RefuseRegister => {
            let register = played.next().await.unwrap();
            let id = register["request_id"].as_str().unwrap();
            let payload = json!({"error": "no room for another cluster"});
            played.say("error", id, payload).await;
            while played.next().await.is_ok() {}
        }
        Act::Registered(then) => {
            let mut played = played.registered(json!({})).await;
            played.until("heartbeat").await;
            go.notified().await;
            do_then(played, then).await;
        }
        _ => {
            let mut played = played.registered(json!({})).await;
            while played.next().await.is_ok() {}
        }
    }
}

async fn do_then<T: AsyncRead + AsyncWrite + Unpin>(mut played: Played<T>, then: Then) {
    let socket = played.socket();
    let raw: &[u8] = match then {
        Then::Cut => return,
        Then::Close(code) => {
            let code = code.into();
            let reason = "because".into();
            drop(socket.close(Some(CloseFrame { code, reason })).await);
            b""
        }
        Then::TooBig => {
            drop(socket.send(Message::text(" ".repeat(LONGEST + 1))).await);
            b""
        }
        // The reserved bits are set.
        Then::NoFrame => b"\xff\x00",
        Then::NoText => b"\x81\x02\xff\xfe",
    };
    drop(socket.get_mut().write_all(raw).await);
    drop(socket.get_mut().flush().await);
    while let Some(Ok(_)) = socket.next().await {}
}
