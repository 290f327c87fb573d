//! Streams of the fast mode: once the Kubernetes API has switched protocols, opaque bytes pass both
//! ways, each at its own pace and up to its own end. Where the cluster's side breaks, the client is
//! told, because a bare end passes for a success.

#[cfg(test)]
mod tests;

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use controlplane_driver::{
    ByteStream, Failure, OpenError, ResponseHead, StreamClose, Switched,
    rules::{Closed, Follower},
};
use http::{Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

use super::{
    Outcome, SOON, STOPPING,
    answer::{Pour, headers},
    audit::{Audit, End, Side},
    failure::refusal,
    grant::{Grant, WITHDRAWN},
    guard, not_opened,
    permit::Permitted,
    stream::{FAREWELL, LEAVING, POLICY, STALLED, Terms},
    upgrade::SPDY_STREAMS,
    upload::Upload,
};
use crate::{
    body::ResponseBody, connection::Client, pulse::Pulse, reload::lock, server::App,
    status::Refusal,
};

/// What is read at once.
const BUFFER: usize = 32 << 10;
const BARE_END: &str = "the Kubernetes API ended the stream without a word of how it ended";

/// A stream whose client is still to be told.
pub(super) struct Passage {
    head: ResponseHead,
    stream: ByteStream,
    follower: Follower,
    grant: Grant,
}

/// Asks the agent to have the protocol switched, and returns what the Kubernetes API says.
pub(super) async fn open(
    client: &Client,
    permitted: Permitted,
    audit: &mut Audit,
) -> Result<Outcome, Refusal> {
    let Permitted {
        hub,
        head,
        policy,
        away,
        grant,
        ..
    } = permitted;
    let path = head.path.clone();
    let switch = match hub.upgrade(policy, head).await {
        Ok(switch) => switch,
        Err(OpenError::Away | OpenError::Mode | OpenError::Policy) => return Err(away),
        Err(error) => return Err(not_opened(error)),
    };
    match switch.answer().await {
        // A connection that is being closed can no longer switch protocols.
        Ok(Switched::Open { .. }) if client.is_stopping() => {
            Err(Refusal::unavailable(STOPPING).retry_after(SOON))
        }
        Ok(Switched::Open { head, stream }) => Ok(Outcome::Passage(Box::new(Passage {
            follower: follower(&path, &head),
            head,
            stream,
            grant,
        }))),
        Ok(Switched::Refused(head, answer)) => {
            let pour = Pour::new(answer, Upload::none(), grant, false);
            Ok(Outcome::Answer(head, pour))
        }
        Err(failure) => {
            audit.end(End::failed(&failure, false));
            Err(refusal(&failure))
        }
    }
}

fn follower(path: &str, head: &ResponseHead) -> Follower {
    let value = |name: &str| {
        let mut headers = head.headers.iter();
        let found = headers.find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    };
    let websocket = value(header::UPGRADE.as_str());
    if websocket.is_some_and(|name| name.eq_ignore_ascii_case("websocket")) {
        let protocol = value(header::SEC_WEBSOCKET_PROTOCOL.as_str()).unwrap_or_default();
        let extended = value(header::SEC_WEBSOCKET_EXTENSIONS.as_str()).is_some();
        return Follower::websocket(path, protocol, extended);
    }
    Follower::spdy(path, value(SPDY_STREAMS).unwrap_or_default())
}

impl Passage {
    /// The answer that switches protocols, as the Kubernetes API gave it, after which bytes pass.
    pub(super) fn begin(
        self,
        app: &App,
        client: &Client,
        upgrade: OnUpgrade,
        mut audit: Audit,
    ) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = headers(self.head.headers);
        audit.status(response.status());
        let carrier = Carrier {
            stream: self.stream.compat(),
            follower: Mutex::new(self.follower),
            grant: self.grant,
            pulse: client.pulse.clone(),
            terms: Terms::of(&app.config),
        };
        client.goes_on(async {
            match upgrade.await {
                Ok(upgraded) => carrier.carry(TokioIo::new(upgraded), audit).await,
                Err(error) => tracing::debug!(%error, "the client left during the upgrade"),
            }
        });
        response
    }
}

/// Carries a stream. Dropped, both ends break off.
struct Carrier {
    stream: Compat<ByteStream>,
    /// Of what has passed in full.
    follower: Mutex<Follower>,
    grant: Grant,
    pulse: Pulse,
    terms: Terms,
}

/// Why a stream is over.
#[derive(Debug)]
enum Ended {
    /// The cluster's side did not go on.
    Broken(Failure),
    /// The cluster has no more to say.
    Cluster,
    /// The client is gone.
    Gone,
    /// The client took nothing.
    Stalled,
    /// Its user may no longer reach the cluster.
    Withdrawn,
}

impl Carrier {
    async fn carry<T: AsyncRead + AsyncWrite + Unpin>(self, mut io: T, mut audit: Audit) {
        let Self {
            mut stream,
            follower,
            grant,
            pulse,
            terms,
        } = self;
        let _busy = pulse.busy();
        let ways = Ways {
            follower: &follower,
            pulse: &pulse,
            terms,
            down: AtomicU64::new(0),
            half: Notify::new(),
        };
        let bytes_in = audit.bytes_in();
        let ended = {
            let (mut from, mut to) = split(&mut io);
            let (mut output, mut input) = split(&mut stream);
            let mut up = Box::pin(ways.up(&mut from, &mut input, grant.clone(), &bytes_in));
            // In random order: a flood one way must not keep the other from its turn.
            let ended = tokio::select! {
                () = guard::stalled(&pulse, terms.write) => Ended::Stalled,
                () = guard::withdrawn(grant.clone()) => Ended::Withdrawn,
                ended = ways.down(&mut output, &mut to, grant, &mut audit) => ended,
                ended = &mut up => ended,
            };
            if matches!(ended, Ended::Cluster) && lock(&follower).is_complete() {
                // What the client still says may concern the cluster.
                let _ = timeout(LEAVING, to.shutdown()).await;
                tokio::select! {
                    _ = up => {}
                    () = ways.half.notified() => {}
                    () = sleep(FAREWELL) => {}
                }
            }
            ended
        };
        let ended = ended.with_cause(stream.get_ref().failure());
        drop(stream);
        let words = ended.last_words(&lock(&follower));
        audit.end(ended.to_end(&lock(&follower)));
        drop(audit);
        if let Some(words) = words {
            tokio::select! {
                () = part(&mut io, &words) => {}
                () = guard::stalled(&pulse, terms.write) => {}
                () = sleep(LEAVING) => {}
            }
        }
    }
}

/// The two directions of a stream.
struct Ways<'a> {
    follower: &'a Mutex<Follower>,
    pulse: &'a Pulse,
    terms: Terms,
    /// Bytes that went to the client.
    down: AtomicU64,
    /// Told when the client has no more to send.
    half: Notify,
}

impl Ways<'_> {
    async fn down(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        mut grant: Grant,
        audit: &mut Audit,
    ) -> Ended {
        let mut buffer = vec![0; BUFFER];
        loop {
            let len = match from.read(&mut buffer).await {
                Ok(0) => return Ended::Cluster,
                Ok(len) => len,
                Err(_) => return Ended::Broken(Failure::Disconnected),
            };
            if !grant.holds() {
                return Ended::Withdrawn;
            }
            let mut rest = buffer.get(..len).unwrap_or_default();
            while !rest.is_empty() {
                // Whatever ends this: the follower knows what was written and what was not.
                let Ok(len) = to.write(rest).await else {
                    return Ended::Gone;
                };
                let (written, left) = rest.split_at_checked(len).unwrap_or((rest, &[]));
                lock(self.follower).down(written);
                self.down.fetch_add(len as u64, Ordering::Relaxed);
                audit.sent(len);
                rest = left;
            }
            if to.flush().await.is_err() {
                return Ended::Gone;
            }
        }
    }

    async fn up(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        mut grant: Grant,
        bytes: &AtomicU64,
    ) -> Ended {
        let mut buffer = vec![0; BUFFER];
        loop {
            let len = match from.read(&mut buffer).await {
                Ok(0) => break,
                Ok(len) => len,
                Err(_) => return Ended::Gone,
            };
            if !grant.holds() {
                return Ended::Withdrawn;
            }
            let data = buffer.get(..len).unwrap_or_default();
            bytes.fetch_add(len as u64, Ordering::Relaxed);
            // Before an answer can come.
            lock(self.follower).up(data);
            let taken = to.write_all(data).await.is_ok() && to.flush().await.is_ok();
            if !taken {
                // The cluster's side says why.
                std::future::pending::<()>().await;
            }
        }
        // The client may have gone altogether, or ended this half only: it shows in whether the
        // cluster goes on.
        let _ = to.shutdown().await;
        self.half.notify_one();
        loop {
            let before = self.down.load(Ordering::Relaxed);
            sleep(self.terms.write).await;
            if self.down.load(Ordering::Relaxed) == before && !self.pulse.is_stalled() {
                return Ended::Gone;
            }
        }
    }
}

/// Has the client know the last, and ends the connection.
async fn part<T: AsyncRead + AsyncWrite + Unpin>(io: &mut T, words: &[u8]) {
    if io.write_all(words).await.is_err() || io.shutdown().await.is_err() {
        return;
    }
    // A connection that is closed with something unread is reset, and the words may be lost.
    let mut rest = tokio::io::sink();
    let _ = timeout(FAREWELL, tokio::io::copy(io, &mut rest)).await;
}

impl Ended {
    /// With what the stream failed by.
    fn with_cause(self, cause: Option<Failure>) -> Self {
        match (self, cause) {
            (Self::Broken(_), Some(cause)) => Self::Broken(cause),
            (ended, _) => ended,
        }
    }

    /// What the client is told, where it can be told anything: nothing more after an end in order.
    fn last_words(&self, follower: &Follower) -> Option<Vec<u8>> {
        match self {
            Self::Gone | Self::Stalled => None,
            Self::Withdrawn => follower.last_words(POLICY, WITHDRAWN),
            Self::Broken(_) | Self::Cluster if follower.is_complete() => Some(Vec::new()),
            Self::Broken(failure) => follower.last_words(StreamClose::BROKEN, &failure.to_string()),
            Self::Cluster => follower.last_words(StreamClose::BROKEN, BARE_END),
        }
    }

    fn to_end(&self, follower: &Follower) -> End {
        match (self, follower.closed()) {
            (Self::Stalled, _) => End::Failed(STALLED.into()),
            (Self::Withdrawn, _) => End::Failed(WITHDRAWN.into()),
            (_, Some(Closed::Client(close))) => End::Closed(Side::Client, close),
            (_, Some(Closed::Cluster(close))) => End::Closed(Side::Cluster, close),
            (Self::Gone, None) => End::ClientGone,
            (Self::Broken(_) | Self::Cluster, None) if follower.is_complete() => End::Complete,
            (Self::Broken(failure), None) => End::failed(failure, false),
            (Self::Cluster, None) => End::Failed(BARE_END.into()),
        }
    }
}
