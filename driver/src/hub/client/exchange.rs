//! What the halves of one request know of each other: its body, its answer, and the connection that
//! both go by.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use controlplane_core::{Failure, PeerFault};
use futures_util::stream::AbortHandle;
use http::HeaderMap;

use crate::{answers::Awaited, duplex::Cause};

/// An answer that ends where HTTP says that it goes on.
const BROKEN_OFF: &str = "the cluster's agent broke off the answer";

/// The hold on a connection.
#[derive(Clone)]
pub(super) struct Held {
    /// Drops the connection, which resets its stream.
    pub(super) abort: AbortHandle,
    /// Why its stream failed.
    pub(super) cause: Cause,
}

/// One request and its answer. Clones are of the same one.
#[derive(Clone)]
pub(in crate::hub) struct Exchange(Arc<Mutex<State>>);

struct State {
    held: Option<Held>,
    /// For the counters.
    awaited: Awaited,
    /// The answer's head has come.
    answered: bool,
    /// Why it was given up at this end.
    given_up: Option<Failure>,
    body: Body,
}

/// How far the request's body is.
enum Body {
    Open,
    /// It is complete, with these trailers.
    Finished(Option<HeaderMap>),
}

impl Exchange {
    /// Of a request that has no body, or whose body is to come.
    pub(super) fn new(finished: bool, awaited: Awaited) -> Self {
        let body = match finished {
            true => Body::Finished(None),
            false => Body::Open,
        };
        Self(Arc::new(Mutex::new(State {
            held: None,
            awaited,
            answered: false,
            given_up: None,
            body,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on by this connection.
    pub(super) fn goes_by(&self, held: &Held) {
        let mut state = self.lock();
        if state.given_up.is_some() {
            held.abort.abort();
        }
        state.held = Some(held.clone());
    }

    /// Resets the stream at once. The first cause counts.
    pub(in crate::hub) fn give_up(&self, why: Failure) {
        let mut state = self.lock();
        state.given_up.get_or_insert(why);
        if let Some(held) = &state.held {
            held.abort.abort();
        }
    }

    /// The answer's head has come.
    ///
    /// # Errors
    ///
    /// Nobody wants it any more.
    pub(super) fn answered(&self) -> Result<(), Failure> {
        let mut state = self.lock();
        state.answered = state.given_up.is_none();
        state.given_up.clone().map_or(Ok(()), Err)
    }

    /// It is an answer of the Kubernetes API, with this status.
    pub(in crate::hub) fn counts(&self, status: u16) {
        self.lock().awaited.came(status);
    }

    /// The request's body will never be complete: without an answer this is the end, and an answer
    /// that has begun goes on without it. Returns whether it does.
    pub(in crate::hub) fn let_go(&self) -> bool {
        // An agent that has said its last has answered, also where hyper has not read the head yet.
        let goes_on = self.lock().answered || self.hung_up();
        if !goes_on {
            self.give_up(Failure::Cancelled);
        }
        goes_on
    }

    /// The request's body is complete.
    pub(in crate::hub) fn finish(&self, trailers: Option<HeaderMap>) {
        self.lock().body = Body::Finished(trailers);
    }

    /// Whether the request's body is complete.
    pub(in crate::hub) fn is_finished(&self) -> bool {
        matches!(self.lock().body, Body::Finished(_))
    }

    /// The trailers of a complete body, once.
    pub(super) fn take_trailers(&self) -> Option<HeaderMap> {
        match &mut self.lock().body {
            Body::Open => None,
            Body::Finished(trailers) => trailers.take(),
        }
    }

    /// Whether the agent has said its last, so that nobody takes the rest of the body.
    pub(super) fn hung_up(&self) -> bool {
        let state = self.lock();
        state.held.as_ref().is_some_and(|held| held.cause.hung_up())
    }

    /// Why it failed, where hyper reports this.
    pub(in crate::hub) fn failure(&self, error: &hyper::Error) -> Failure {
        let state = self.lock();
        if let Some(failure) = &state.given_up {
            return failure.clone();
        }
        let cause = state.held.as_ref().and_then(|held| held.cause.get());
        match cause {
            Some(failure) => failure,
            None if error.is_parse() => Failure::Fault(PeerFault::Malformed),
            None if is_short(error) => Failure::Agent(BROKEN_OFF.into()),
            None => Failure::Disconnected,
        }
    }
}

/// Whether the peer ended in order, in the middle of an answer.
fn is_short(error: &hyper::Error) -> bool {
    if error.is_incomplete_message() {
        return true;
    }
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(inner) = inner.downcast_ref::<std::io::Error>() {
            return inner.kind() == std::io::ErrorKind::UnexpectedEof;
        }
        source = inner.source();
    }
    false
}
