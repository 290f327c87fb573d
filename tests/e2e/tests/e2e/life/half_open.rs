//! A link on which nothing moves any more and that nobody has closed: both ends notice by their own
//! clock, within the bound that is set.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use controlplane_driver::{
    Backoff, ControllerConfig, Disconnect, Failure, Hub, Limits, Meter, OpenError, Periods,
    Request, Responder, Runtime, State, websocket_config,
};
use controlplane_tokio::Tokio;
use tokio::net::TcpListener;
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

use crate::{
    bench::{head, ok, on_both},
    cable::Cable,
    played::agent,
};

on_both! {
    a_link_that_carries_nothing_is_given_up_at_both_ends_in_json
    a_link_that_carries_nothing_is_given_up_at_both_ends_in_the_fast_mode
}

/// Silence after which a link is dead.
const IDLE: Duration = Duration::from_millis(600);
/// A slow machine needs more; far less than what is waited for by default.
const BOUND: Duration = Duration::from_secs(15);

fn hasty() -> Periods {
    Periods {
        ping: Duration::from_millis(200),
        idle: IDLE,
        ..Periods::default()
    }
}

async fn controller() -> (Hub, SocketAddr) {
    let mut config = ControllerConfig::new("6f1c", "prod");
    config.periods = hasty();
    let hub = Hub::start(Tokio, config).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = hub.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let meter = Meter::new();
            let io = meter.wrap(tcp.compat()).compat();
            let config = websocket_config(&Limits::controller());
            let socket = tokio_tungstenite::accept_async_with_config(io, Some(config)).await;
            if let Ok(socket) = socket {
                accepting.accept(socket, meter);
            }
        }
    });
    (hub, address)
}

/// Begins an answer and never ends it.
async fn hang(request: Request, responder: Responder) {
    let mut body = responder.respond(ok());
    if body.write("begun".into()).await.is_ok() {
        std::future::pending::<()>().await;
    }
    drop(request);
}

async fn given_up<R: Runtime>(runtime: R, fast: bool) {
    let (hub, address) = controller().await;
    let cable = Cable::to(address).await.unwrap();
    let agent = agent(runtime, cable.address)
        .yamux(fast)
        .periods(hasty())
        // So long that the test sees it wait.
        .backoff(Backoff {
            base: Duration::from_secs(4),
            ..Backoff::default()
        })
        .handler(hang)
        .start()
        .unwrap();
    agent.registered().await.unwrap();
    assert_eq!(hub.wait_joined().await.unwrap().http_streams, fast);
    // A link on which all is well stays, with nothing but pings.
    tokio::time::sleep(IDLE * 3).await;
    assert_eq!(agent.stats().registrations, 1);

    let (_, mut answer) = hub.request(head("/api/v1/log"), false).await.unwrap();
    answer.head().await.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap(), "begun");
    let registered = agent.state();
    let start = Instant::now();
    cable.swallow();
    let (state, failure) = tokio::join!(agent.changed(&registered), answer.next());
    // However soon it dials again.
    assert!(!matches!(state, State::Registered(_)), "{state:?}");
    assert_eq!(Disconnect::Silence.of(&agent.stats().disconnects), 1);
    assert_eq!(failure, Some(Err(Failure::Disconnected)));
    // Its requests fail before it is gone.
    while hub.joined().is_some() {
        tokio::task::yield_now().await;
    }
    let opened = hub.request(head("/api/v1/log"), false).await;
    assert!(matches!(opened, Err(OpenError::Away)));
    let took = start.elapsed();
    assert!((IDLE / 2..BOUND).contains(&took), "{took:?}");
}

async fn a_link_that_carries_nothing_is_given_up_at_both_ends_in_json<R: Runtime>(runtime: R) {
    given_up(runtime, false).await;
}

async fn a_link_that_carries_nothing_is_given_up_at_both_ends_in_the_fast_mode<R: Runtime>(
    runtime: R,
) {
    given_up(runtime, true).await;
}
