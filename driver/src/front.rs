//! The agent's front end for HTTP/1.1: the requests of one connection, one after the other, each
//! through the core's [`Gate`] to the same [`Handler`] that answers requests in JSON.

mod answer;
mod exchange;
mod lent;
mod patience;
mod refusal;
mod running;
mod unread;

use std::{pin::pin, sync::Arc, time::Duration};

use controlplane_core::rules::Gate;
use futures_util::{
    AsyncRead, AsyncReadExt, AsyncWrite,
    future::{Either, select},
};
use hyper::{server::conn::http1, service::service_fn};
use tokio::sync::watch;

pub(crate) use self::{
    answer::{Reply, Writer},
    exchange::pairs,
    unread::Upload,
};
use self::{
    exchange::Exchanges,
    lent::{Lent, Place},
    patience::HeadTimer,
    unread::Unsent,
};
use crate::{
    answers::Answers,
    handler::Handler,
    hyper_io::HyperIo,
    links::chain,
    meter::Meter,
    runtime::{Runtime, sleep},
};

/// For a head to arrive, from its first byte to its last. How long a connection may be idle is the
/// client's business.
const HEAD: Duration = Duration::from_secs(30);
/// For a client that has an answer which ended the connection, once the agent leaves. Before that
/// the client ends it when it has read the answer, however long that takes.
const LINGER: Duration = Duration::from_secs(10);
/// Most headers of a request: a user may be in many groups, each of which takes one.
const HEADERS: usize = 1024;
/// hyper's least.
const BUFFER: usize = 8192;

/// Answers the HTTP/1.1 requests that come in on `io` by `handler`, as far as `gate` lets them in;
/// returns when the connection has ended.
///
/// A request is cancelled where the connection ends before its answer has, and where the future
/// of this function is dropped: the handler's future is dropped then. An answer that breaks off
/// takes the connection with it, which is then dropped and not closed, so that no part ever passes
/// for the whole. What the gate refuses, and what failed before its answer began, is told in the
/// header `controlplane-failure`, which no handler can send.
///
/// A client whose `TE` names `trailers` and `controlplane-failure` is told as well why an answer
/// broke off, in a trailer of that name. For this the answer is chunked; the length that it has is
/// in `controlplane-length` then.
pub async fn serve<R, T>(runtime: R, io: T, gate: Gate, handler: Arc<dyn Handler>)
where
    R: Runtime,
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (_stays, leaving) = watch::channel(false);
    let answers = Arc::default();
    serve_until(runtime, io, (gate, handler), answers, leaving).await;
}

/// The same; once `leaving` is true, the connection ends with the answer that is under way.
pub(crate) async fn serve_until<R, T>(
    runtime: R,
    io: T,
    (gate, handler): (Gate, Arc<dyn Handler>),
    answers: Arc<Answers>,
    mut leaving: watch::Receiver<bool>,
) where
    R: Runtime,
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let meter = Meter::new();
    let place = Place::default();
    let unsent = Unsent::default();
    let io = HyperIo::new(Lent::new(meter.wrap(io), &place, unsent.clone()));
    // Each line of a header has four bytes more than the gate counts.
    let longest = gate.limit().saturating_add(4 * HEADERS).max(BUFFER);
    let exchanges = Arc::new(Exchanges::new(
        runtime.clone(),
        gate,
        handler,
        unsent,
        answers,
    ));
    let serving = exchanges.clone();
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .half_close(false)
        .header_read_timeout(HEAD)
        .max_buf_size(longest)
        .max_headers(HEADERS)
        .timer(HeadTimer::new(runtime.clone(), meter, HEAD))
        .serve_connection(
            io,
            service_fn(move |request| {
                let serving = serving.clone();
                async move { serving.answer::<T>(request).await }
            }),
        );
    // In a future of its own, which gives the connection back at its end.
    let serving = async {
        let mut connection = pin!(connection.with_upgrades());
        match select(connection.as_mut(), pin!(told(&mut leaving))).await {
            Either::Left((ended, _)) => ended,
            Either::Right(_) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    let ended = serving.await;
    if let Some(running) = exchanges.switched() {
        return running.ended().await;
    }
    if let Err(error) = &ended {
        let error_text = chain(error);
        tracing::debug!(error = error_text, "an HTTP connection of the tunnel broke");
        // What cannot be understood was answered all the same.
        if !error.is_parse() {
            return;
        }
    }
    if let Some(mut io) = place.take() {
        // Dropped now, it might take the last answer with it.
        let ends = pin!(async {
            let mut rest = [0; 4096];
            while let Ok(1..) = io.read(&mut rest).await {}
        });
        let enough = pin!(async {
            told(&mut leaving).await;
            sleep(&runtime, LINGER).await;
        });
        select(ends, enough).await;
    }
}

/// Returns when the connection is to end; never where nobody can say so any more.
async fn told(leaving: &mut watch::Receiver<bool>) {
    if leaving.wait_for(|leaving| *leaving).await.is_err() {
        std::future::pending().await
    }
}
