//! A cable between the agent and the controller that a test can cut or make swallow everything.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// What happens to bytes on the way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Sound,
    /// Connections end, and new ones too.
    Cut,
    /// Nothing arrives, and nobody is told.
    Hole,
}

/// Forwards TCP connections to one address.
#[derive(Debug)]
pub(crate) struct Cable {
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
}

impl Cable {
    pub(crate) async fn to(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (state, seen) = watch::channel(State::Sound);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if *seen.borrow() == State::Sound {
                    let seen = seen.clone();
                    tokio::spawn(async move { connect(near, target, seen).await });
                }
            }
        });
        Ok(Self { address, state })
    }

    pub(crate) fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    pub(crate) fn mend(&self) {
        self.state.send_replace(State::Sound);
    }

    /// From now on it swallows everything.
    pub(crate) fn swallow(&self) {
        self.state.send_replace(State::Hole);
    }
}

async fn connect(near: TcpStream, target: SocketAddr, state: watch::Receiver<State>) {
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        _ = forward(near_in, far_out, state.clone()) => {}
        _ = forward(far_in, near_out, state.clone()) => {}
        () = cut(state) => {}
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = from.read(&mut buffer).await?;
        if *state.borrow_and_update() == State::Hole {
            // The connection stays, and nothing moves.
            std::future::pending::<()>().await;
        }
        if len == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..len).unwrap_or_default()).await?;
    }
}

async fn cut(mut state: watch::Receiver<State>) {
    let cut = state.wait_for(|state| *state == State::Cut).await.is_ok();
    if !cut {
        // The test is over.
        std::future::pending::<()>().await;
    }
}
