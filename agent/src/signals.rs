//! SIGTERM and SIGINT as a stream, the same under every runtime.

use std::{
    pin::Pin,
    task::{Context, Poll},
    thread,
};

use futures_channel::mpsc::{UnboundedReceiver, unbounded};
use futures_util::Stream;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals as Caught,
};

use crate::error::Error;

/// A request of the system to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// `SIGTERM`: Kubernetes stops the pod.
    Terminate,
    /// `SIGINT`: somebody pressed Ctrl-C.
    Interrupt,
}

impl Signal {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }
}

/// The signals that the process got, in order; it never ends.
#[derive(Debug)]
pub struct Signals(UnboundedReceiver<Signal>);

impl Signals {
    /// Catches both signals from now on, for the rest of the process' life.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn catch() -> Result<Self, Error> {
        let mut caught = Caught::new([SIGTERM, SIGINT]).map_err(Error::Signals)?;
        let (sender, receiver) = unbounded();
        let listen = move || {
            for number in caught.forever() {
                let signal = match number {
                    SIGINT => Signal::Interrupt,
                    _ => Signal::Terminate,
                };
                if sender.unbounded_send(signal).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("signals".into());
        thread.spawn(listen).map_err(Error::Signals)?;
        Ok(Self(receiver))
    }
}

impl Stream for Signals {
    type Item = Signal;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Signal>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}
