//! The silence of a link may come to its end in the very moment in which a ping leaves: the end is
//! noticed although nothing comes any more that would remind of it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use controlplane_driver::{Disconnect, Metered, Periods, Runtime, State};
use controlplane_e2e::left_to;
use futures_util::{Sink, Stream};
use serde_json::json;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, protocol::WebSocketConfig};

use crate::{
    bench::on_both,
    played::{Played, agent, listen},
};

on_both! {
    a_silence_that_ends_while_a_ping_leaves_is_noticed
}

/// By so much the clock leaps once.
const LEAP: Duration = Duration::from_secs(3600);

async fn a_silence_that_ends_while_a_ping_leaves_is_noticed<R: Runtime>(runtime: R) {
    let (listener, address) = listen().await;
    let leaping = Leaping {
        inner: runtime,
        leapt: Arc::default(),
    };
    let periods = Periods {
        ping: Duration::from_millis(50),
        ..Periods::default()
    };
    let agent = agent(leaping, address).periods(periods).start().unwrap();
    let played = Played::register(&listener, json!({})).await;
    agent.registered().await.unwrap();
    // From now on nothing is read, so that no pong comes.
    let mut state = agent.state();
    while matches!(state, State::Registered(_)) {
        state = agent.changed(&state).await;
    }
    assert_eq!(Disconnect::Silence.of(&agent.stats().disconnects), 1);
    drop(played);
}

/// A runtime whose clock leaps when the first ping has left.
#[derive(Clone, Default)]
struct Leaping<R> {
    inner: R,
    leapt: Arc<AtomicBool>,
}

/// A WebSocket that makes it leap.
struct Watched<S> {
    inner: S,
    pinged: bool,
    leapt: Arc<AtomicBool>,
}

impl<S: Stream + Unpin> Stream for Watched<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        Pin::new(&mut self.inner).poll_next(cx)
    }
}

impl<S: Sink<Message, Error = WsError> + Unpin> Sink<Message> for Watched<S> {
    type Error = WsError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        Pin::new(&mut self.inner).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), WsError> {
        self.pinged |= message.is_ping();
        Pin::new(&mut self.inner).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        if self.pinged {
            self.leapt.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

impl<R: Runtime> Runtime for Leaping<R> {
    type Io = R::Io;
    type Socket = Watched<R::Socket>;
    type Timer = R::Timer;
    type Udp = R::Udp;

    left_to!(inner: name resolve tcp udp tls spawn timer);

    fn websocket(
        &self,
        request: http::Request<()>,
        io: Metered<Self::Io>,
        config: WebSocketConfig,
    ) -> impl Future<Output = Result<Self::Socket, WsError>> + Send + 'static {
        let leapt = self.leapt.clone();
        let opening = self.inner.websocket(request, io, config);
        async move {
            Ok(Watched {
                inner: opening.await?,
                pinged: false,
                leapt,
            })
        }
    }

    fn websocket_over(
        &self,
        io: Metered<Self::Io>,
        read: Vec<u8>,
        config: WebSocketConfig,
    ) -> impl Future<Output = Self::Socket> + Send + 'static {
        let leapt = self.leapt.clone();
        let opening = self.inner.websocket_over(io, read, config);
        async move {
            Watched {
                inner: opening.await,
                pinged: false,
                leapt,
            }
        }
    }

    fn now(&self) -> Instant {
        let now = self.inner.now();
        match self.leapt.load(Ordering::Relaxed) {
            true => now + LEAP,
            false => now,
        }
    }
}
