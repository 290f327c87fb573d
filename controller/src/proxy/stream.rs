//! A WebSocket stream that the Kubernetes API has opened: messages pass as they are, at the pace
//! of the slower side, until one of the two closes it or is gone. The other learns how.

mod ended;
#[cfg(test)]
mod tests;

use std::{
    future::poll_fn,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use controlplane_driver::{
    Failure, Incoming, Message, MessageReader, MessageWriter, PeerFault, StreamClose,
};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message as WsMessage, Utf8Bytes,
        protocol::{Role, WebSocketConfig},
    },
};

use self::ended::Ended;
pub(super) use self::ended::{POLICY, STALLED};
use super::{audit::Audit, grant::Grant, guard};
use crate::{config::ServerConfig, pulse::Pulse, reload::lock};

/// For the client to answer our close frame, and for what it sent before it left to be read.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);
/// For the last frame to leave, however slowly it does.
pub(super) const LEAVING: Duration = Duration::from_secs(10);
/// Room for what is read at once; few messages of kubectl are longer.
const READ_BUFFER: usize = 32 << 10;

/// What a stream keeps to toward its client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    ping: Duration,
    silence: Duration,
    pub(super) write: Duration,
    /// Longest message of the client.
    message: usize,
}

impl Terms {
    pub(super) const fn of(config: &ServerConfig) -> Self {
        Self {
            ping: config.limits.stream_ping,
            silence: config.limits.stream_silence,
            write: config.limits.stream_write,
            message: config.agent_limits.message,
        }
    }

    fn websocket(&self) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            // What waits for the client waits at the agent.
            .write_buffer_size(0)
            .max_message_size(Some(self.message))
            .max_frame_size(Some(self.message))
    }
}

/// A stream whose client is about to get its answer. Dropped, both ends break off.
pub(super) struct Carrier {
    pub(super) reader: MessageReader,
    pub(super) writer: MessageWriter,
    pub(super) grant: Grant,
    pub(super) audit: Audit,
    pub(super) pulse: Pulse,
    pub(super) terms: Terms,
}

impl Carrier {
    /// Waits until the connection is the client's WebSocket, and carries the stream to its end.
    pub(super) async fn run(self, upgrade: OnUpgrade) {
        match upgrade.await {
            Ok(upgraded) => self.carry(TokioIo::new(upgraded)).await,
            Err(error) => tracing::debug!(%error, "the client left in the middle of the handshake"),
        }
    }

    async fn carry<T: AsyncRead + AsyncWrite + Unpin>(self, io: T) {
        let Self {
            mut reader,
            mut writer,
            grant,
            mut audit,
            pulse,
            terms,
        } = self;
        let _busy = pulse.busy();
        let config = Some(terms.websocket());
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, config).await;
        let (mut sink, mut source) = socket.split();
        let client = ClientEnd {
            pulse,
            terms,
            is_read: AtomicBool::new(true),
            sent: Mutex::new(None),
        };
        let bytes_in = audit.bytes_in();
        // In random order: what a task may do at a time is bounded, and a flood one way must not
        // use it up before the other way had its turn.
        let ended = tokio::select! {
            ended = client.guard(grant.clone()) => ended,
            ended = client.down(&mut reader, &mut sink, grant.clone(), &mut audit) => ended,
            ended = client.up(&mut source, &mut writer, grant, &bytes_in) => ended,
        };
        ended.tell(writer);
        drop(reader);
        audit.end(ended.to_end());
        drop(audit);
        if let Ok(socket) = source.reunite(sink) {
            client.part(socket, &ended).await;
        }
    }
}

/// The client's end of a stream.
struct ClientEnd {
    pulse: Pulse,
    terms: Terms,
    /// Not so while the agent takes nothing: what the client sends then cannot be seen.
    is_read: AtomicBool,
    /// When it was sent a message last.
    sent: Mutex<Option<Instant>>,
}

impl ClientEnd {
    /// Messages toward the client, with pings between them.
    async fn down<S>(
        &self,
        reader: &mut MessageReader,
        sink: &mut S,
        mut grant: Grant,
        audit: &mut Audit,
    ) -> Ended
    where
        S: Sink<WsMessage, Error = WsError> + Unpin,
    {
        let mut beat = interval_at(Instant::now() + self.terms.ping, self.terms.ping);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let incoming = tokio::select! {
                biased;
                _ = beat.tick() => None,
                incoming = reader.next() => Some(incoming),
                never = flushed(sink) => match never {},
            };
            let message = match incoming {
                None => Some(self.beat()),
                Some(Incoming::Closed(close, failure)) => return Ended::Cluster(close, failure),
                Some(Incoming::Message(_)) if !grant.holds() => return Ended::Withdrawn,
                Some(Incoming::Message(message)) => outgoing(message, audit),
            };
            // The core has looked at it already.
            let Some(message) = message else {
                let failure = Failure::Fault(PeerFault::Utf8);
                let close = StreamClose::new(StreamClose::BROKEN, &failure.to_string());
                return Ended::Cluster(close, Some(failure));
            };
            let counts = message.is_binary() || message.is_text();
            if sink.send(message).await.is_err() {
                // What it sent before it left, its close frame at last, may still be read.
                sleep(FAREWELL).await;
                return Ended::Gone;
            }
            if counts {
                *lock(&self.sent) = Some(Instant::now());
            }
        }
    }

    /// A sign of life that asks for one. A client whose own pings wait behind what the agent does
    /// not take gets the answer unasked: kubectl gives up where it misses one for a minute.
    fn beat(&self) -> WsMessage {
        match self.is_read.load(Ordering::Relaxed) {
            true => WsMessage::Ping(bytes::Bytes::new()),
            false => WsMessage::Pong(bytes::Bytes::new()),
        }
    }

    /// Messages of the client.
    async fn up<S>(
        &self,
        source: &mut S,
        writer: &mut MessageWriter,
        mut grant: Grant,
        bytes: &AtomicU64,
    ) -> Ended
    where
        S: Stream<Item = Result<WsMessage, WsError>> + Unpin,
    {
        let mut wanted = true;
        loop {
            let message = tokio::select! {
                biased;
                message = source.next() => message,
                () = self.silence() => return Ended::Silent,
            };
            let message = match message {
                Some(Ok(WsMessage::Binary(data))) => Message::Binary(data),
                Some(Ok(WsMessage::Text(text))) => Message::Text(text.into()),
                Some(Ok(WsMessage::Close(frame))) => return Ended::by_client(frame),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Ended::by_error(&error, self.terms.message),
                None => return Ended::Gone,
            };
            let (Message::Binary(data) | Message::Text(data)) = &message;
            bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            if !grant.holds() {
                return Ended::Withdrawn;
            }
            self.is_read.store(false, Ordering::Relaxed);
            // Where nobody wants more, the end of the stream is on its way to the client.
            wanted = wanted && writer.write(message).await.is_ok();
            self.is_read.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until nothing was heard of the client for too long from now on. One that has not taken
    /// in yet what it was sent last may have its reasons.
    async fn silence(&self) {
        let start = Instant::now();
        loop {
            let heard = self.pulse.heard();
            let unread = lock(&self.sent).is_some_and(|sent| sent >= heard);
            let owes = unread || self.pulse.is_stalled();
            let patience = match owes {
                // Where it takes nothing at all, that is said of it.
                true => self.terms.write + self.terms.ping,
                false => self.terms.silence,
            };
            let at = heard.max(start) + patience;
            if at <= Instant::now() {
                return;
            }
            sleep_until(at).await;
        }
    }

    /// Waits until the client takes nothing for too long, or its user may no longer do this.
    async fn guard(&self, grant: Grant) -> Ended {
        tokio::select! {
            () = self.stall() => Ended::Stalled,
            () = guard::withdrawn(grant) => Ended::Withdrawn,
        }
    }

    async fn stall(&self) {
        guard::stalled(&self.pulse, self.terms.write).await;
    }

    /// Has the client know how the stream ended, and ends the connection.
    async fn part<T>(&self, mut socket: WebSocketStream<T>, ended: &Ended)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        if !ended.is_told() {
            return;
        }
        let parting = async {
            if let Some(frame) = ended.frame()
                && socket.send(WsMessage::Close(frame)).await.is_err()
            {
                return;
            }
            let heard = async { ended.is_legible() && is_answered(&mut socket).await };
            let lost = timeout(FAREWELL, heard).await == Ok(false);
            let _ = socket.get_mut().shutdown().await;
            if lost {
                let mut rest = tokio::io::sink();
                let rest = tokio::io::copy(socket.get_mut(), &mut rest);
                let _ = timeout(FAREWELL, rest).await;
            }
        };
        tokio::select! {
            () = parting => {}
            () = self.stall() => {}
            () = sleep(LEAVING) => {}
        }
    }
}

/// Pushes out what the socket did not take at once, such as the answer to a ping.
async fn flushed<S>(sink: &mut S) -> std::convert::Infallible
where
    S: Sink<WsMessage, Error = WsError> + Unpin,
{
    poll_fn(|cx| {
        // An error shows again when the socket is read.
        let _ = sink.poll_flush_unpin(cx);
        Poll::Pending
    })
    .await
}

/// A message as it leaves; nothing of a text that is none.
fn outgoing(message: Message, audit: &mut Audit) -> Option<WsMessage> {
    let message = match message {
        Message::Binary(data) => WsMessage::Binary(data),
        Message::Text(data) => WsMessage::Text(Utf8Bytes::try_from(data).ok()?),
    };
    audit.sent(message.len());
    Some(message)
}

/// Reads on until the client's close frame has come or was answered; false where no more can be
/// made out of what it sends. A connection that is closed with something unread is reset, and the
/// client may lose what was last sent to it.
async fn is_answered<T>(socket: &mut WebSocketStream<T>) -> bool
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = socket.next().await {
        if message.is_err() {
            return false;
        }
    }
    true
}
