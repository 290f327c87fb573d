//! The life of the program: start, answer health checks, log each change, drain on a signal.

use std::{pin::pin, sync::Arc, time::Duration};

use controlplane_driver::{Agent, Runtime, timeout};
use futures_util::{
    Stream, StreamExt,
    future::{Either, pending, select},
};

use crate::{
    config::Config,
    error::Error,
    health::{self, View},
    report,
    signals::Signal,
    start::start,
};

/// What a shutdown may take beyond its drain time, to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// Runs an agent until a signal asks it to stop: the first one drains, a second one ends it at
/// once. Call it inside the runtime.
///
/// # Errors
///
/// It cannot start, or stopped though nobody asked it to.
pub async fn run<R: Runtime>(
    runtime: R,
    config: Config,
    mut signals: impl Stream<Item = Signal> + Unpin,
) -> Result<(), Error> {
    let drain = config.drain_timeout;
    let view = Arc::new(View::new(runtime.clone(), config.tls.clone()));
    // Kept until the end: it listens as long as it lives.
    let _server = match config.health_listen {
        Some(address) => Some(health::listen(address, &view)?),
        None => None,
    };
    let starting = start(runtime.clone(), config);
    let agent = match select(pin!(starting), pin!(next(&mut signals))).await {
        Either::Left((agent, _)) => agent?,
        Either::Right((signal, _)) => {
            tracing::info!(signal = signal.as_str(), "stopped before it was connected");
            return Ok(());
        }
    };
    view.started(agent.clone());
    let life = pin!(live(&runtime, &agent, drain, signals));
    let follow = pin!(report::follow(&runtime, &agent));
    match select(life, follow).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(((), life)) => life.await,
    }
}

async fn live<R: Runtime>(
    runtime: &R,
    agent: &Agent<R>,
    drain: Duration,
    mut signals: impl Stream<Item = Signal> + Unpin,
) -> Result<(), Error> {
    let signal = match select(pin!(agent.stopped()), pin!(next(&mut signals))).await {
        Either::Left(_) => return Err(Error::Stopped),
        Either::Right((signal, _)) => signal,
    };
    let seconds = drain.as_secs();
    tracing::info!(signal = signal.as_str(), "stopping within {seconds} s");
    let draining = timeout(runtime, drain + GOODBYE, agent.shutdown(drain));
    match select(pin!(draining), pin!(next(&mut signals))).await {
        Either::Left((Some(()), _)) => {}
        Either::Left((None, _)) => tracing::warn!("not all has ended in time: stopping anyway"),
        Either::Right((signal, _)) => {
            tracing::warn!(signal = signal.as_str(), "stopping at once");
            let _ = timeout(runtime, GOODBYE, agent.shutdown(Duration::ZERO)).await;
        }
    }
    Ok(())
}

/// The next signal; a stream that ends asks for nothing.
async fn next(signals: &mut (impl Stream<Item = Signal> + Unpin)) -> Signal {
    match signals.next().await {
        Some(signal) => signal,
        None => pending().await,
    }
}
