//! One request and its answer: through the gate to the handler, and back.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use controlplane_core::{
    PeerFault, RequestHead, ResponseHead,
    rules::{self, Admitted, Gate},
};
use futures_channel::oneshot;
use futures_util::{AsyncRead, AsyncWrite};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request as HttpRequest, Response, StatusCode, Version,
    header::{CONTENT_LENGTH, EXPECT, TE, TRAILER},
    request::Parts,
};
use hyper::{body::Incoming, upgrade::OnUpgrade};

use super::{
    answer::{Framing, NO_ANSWER, Outcome, Pieces, Pour, Reply, ResponseBody},
    lent::Lent,
    refusal::{FAILURE, LENGTH, failed, failure, refused},
    running::Running,
    unread::{Discarding, Unsent, Upload},
};
use crate::{
    answers::Answers,
    handler::{Body, BoxFuture, Handler, Headers, Request, Responder},
    hyper_io::HyperIo,
    meter::Metered,
    runtime::Runtime,
    upgrade::{ClientIo, UpgradeRequest, UpgradeResponder},
};

/// The exchanges of one connection.
pub(super) struct Exchanges<R> {
    runtime: R,
    gate: Gate,
    handler: Arc<dyn Handler>,
    /// Of the request that switched protocols.
    switched: Mutex<Option<Running>>,
    unsent: Unsent,
    answers: Arc<Answers>,
}

impl<R: Runtime> Exchanges<R> {
    pub(super) const fn new(
        runtime: R,
        gate: Gate,
        handler: Arc<dyn Handler>,
        unsent: Unsent,
        answers: Arc<Answers>,
    ) -> Self {
        Self {
            runtime,
            gate,
            handler,
            switched: Mutex::new(None),
            unsent,
            answers,
        }
    }

    /// The handler that has the connection now.
    pub(super) fn switched(&self) -> Option<Running> {
        let mut switched = self.switched.lock().unwrap_or_else(PoisonError::into_inner);
        switched.take()
    }

    /// Answers a request on a connection of type `T`.
    pub(super) async fn answer<T>(
        &self,
        request: HttpRequest<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut awaited = self.answers.awaited();
        let response = self.respond::<T>(request).await?;
        if !response.headers().contains_key(FAILURE) {
            awaited.came(response.status().as_u16());
        }
        Ok(response)
    }

    async fn respond<T>(
        &self,
        mut request: HttpRequest<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        if request.version() != Version::HTTP_11 {
            // Without chunks, an answer of unknown length could not be told from half of it.
            let status = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
            return Ok(failure(status, "only HTTP/1.1 is spoken here".into()));
        }
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, incoming) = request.into_parts();
        let admitted = request_head(&parts).and_then(|head| self.gate.admit(head));
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(fault) => return Ok(refused(fault)),
        };
        let taker = Taker {
            bodiless: admitted.head.method == "HEAD",
            told: is_told(&parts.headers),
        };
        let (upload, unread) = Upload::new(incoming);
        let (answered, answer) = oneshot::channel();
        let waits = parts.headers.contains_key(EXPECT);
        let discarding = unread.discard(&self.runtime, waits.then_some(answer));
        let (reply, outcome) = Reply::new();
        let handling = if admitted.upgrade.is_some() {
            self.upgrade(admitted, reply, switch::<T>(upgrade))
        } else {
            self.handle(admitted, reply, upload)
        };
        let running = Running::start(&self.runtime, handling);
        let outcome = outcome.await;
        drop(answered);
        Ok(match outcome {
            Ok(Outcome::Answer(head, pieces)) => {
                let unread = (discarding, self.unsent.clone());
                response(head, pieces, running, unread, taker)
            }
            Ok(Outcome::Failed(text)) => {
                running.let_go();
                failed(text)
            }
            Ok(Outcome::Switch(headers)) => self.switching(headers, running),
            Err(_) => failed(NO_ANSWER.into()),
        })
    }

    fn handle(&self, admitted: Admitted, reply: Reply, body: Upload) -> BoxFuture<'static, ()> {
        let request = Request {
            head: admitted.head,
            credentials: admitted.credentials,
            body: Body::http(body, self.gate.clone()),
        };
        let handler = self.handler.clone();
        // Called in the task, where a panic is its own.
        Box::pin(async move { handler.handle(request, Responder::http(reply)).await })
    }

    fn upgrade(
        &self,
        admitted: Admitted,
        reply: Reply,
        switched: BoxFuture<'static, Option<ClientIo>>,
    ) -> BoxFuture<'static, ()> {
        let Some(to) = admitted.upgrade else {
            return Box::pin(std::future::ready(()));
        };
        let request = UpgradeRequest {
            head: admitted.head,
            to,
            credentials: admitted.credentials,
        };
        let handler = self.handler.clone();
        let responder = UpgradeResponder::new(reply, switched);
        Box::pin(async move { handler.upgrade(request, responder).await })
    }

    /// The answer that switches protocols.
    fn switching(&self, headers: Headers, running: Running) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::Empty);
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = header_map(rules::response_headers(101, headers));
        let mut switched = self.switched.lock().unwrap_or_else(PoisonError::into_inner);
        *switched = Some(running);
        response
    }
}

/// The head of a request as it came.
fn request_head(parts: &Parts) -> Result<RequestHead, PeerFault> {
    let method = parts.method.as_str();
    if method.bytes().any(|b| b.is_ascii_lowercase()) {
        // To hyper it is another method, whose answer may have a body where there is none.
        return Err(PeerFault::Method);
    }
    if parts.uri.authority().is_some() {
        return Err(PeerFault::Path);
    }
    Ok(RequestHead {
        method: method.into(),
        path: parts.uri.path().into(),
        query: parts.uri.query().map(String::from),
        headers: pairs(&parts.headers)?,
    })
}

/// Headers as the rules take them.
pub(crate) fn pairs(headers: &HeaderMap) -> Result<Headers, PeerFault> {
    let text = |value: &HeaderValue| std::str::from_utf8(value.as_bytes()).map(String::from);
    let pairs = headers.iter().map(|(name, value)| {
        let value = text(value).map_err(|_| PeerFault::Header)?;
        Ok((name.to_string(), value))
    });
    pairs.collect()
}

/// The connection, once hyper has sent the 101, with what it has read beyond the request.
fn switch<T>(upgrade: OnUpgrade) -> BoxFuture<'static, Option<ClientIo>>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Box::pin(async move {
        let upgraded = upgrade.await.ok()?;
        let parts = upgraded.downcast::<HyperIo<Lent<Metered<T>>>>().ok()?;
        let io = parts.io.into_inner().keep()?;
        Some(ClientIo::new(io, parts.read_buf))
    })
}

/// Who takes an answer.
#[derive(Clone, Copy, Debug)]
struct Taker {
    /// Asks for the head only.
    bodiless: bool,
    /// Understands the trailer that tells why an answer broke off.
    told: bool,
}

/// Whether the client takes trailers, and this one for what it is.
fn is_told(headers: &HeaderMap) -> bool {
    let has = |name: &str| {
        let lines = headers.get_all(TE).into_iter();
        let mut tokens = lines.filter_map(|line| line.to_str().ok());
        tokens.any(|line| line.split(',').any(|t| t.trim().eq_ignore_ascii_case(name)))
    };
    has("trailers") && has(FAILURE.as_str())
}

/// An answer of the handler's.
fn response(
    head: ResponseHead,
    pieces: Pieces,
    running: Running,
    unread: (Discarding, Unsent),
    taker: Taker,
) -> Response<ResponseBody> {
    let code = if head.status == 0 { 200 } else { head.status };
    let Ok(status) = StatusCode::from_u16(code) else {
        return failed(format!("the answer has no valid status: {code}"));
    };
    if status.is_informational() {
        return failed(format!("the answer has a status that is none: {code}"));
    }
    let announced: Headers = named(&head.headers, TRAILER.as_str());
    let mut headers = header_map(rules::response_headers(code, head.headers));
    if status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
    }
    let none = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
    let bodiless = taker.bodiless || none.contains(&status);
    let framing = frame(&mut headers, announced, bodiless, taker.told);
    let body = Pour::new(pieces, framing, trailers, running, unread);
    let mut response = Response::new(ResponseBody::Pour(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Has the headers say how the body ends.
fn frame(headers: &mut HeaderMap, announced: Headers, bodiless: bool, told: bool) -> Framing {
    if bodiless {
        let left = Some(0);
        return Framing { left, told: false };
    }
    let length = headers.get(CONTENT_LENGTH);
    let left: Option<u64> = length.and_then(|value| value.to_str().ok()?.parse().ok());
    // What is empty cannot break off.
    let told = told && left != Some(0);
    if left.is_none() {
        // hyper sends those trailers that were announced.
        headers.extend(header_map(announced));
    }
    if told {
        headers.append(TRAILER, FAILURE.into());
        if let Some(length) = headers.remove(CONTENT_LENGTH) {
            headers.insert(LENGTH, length);
        }
    }
    Framing { left, told }
}

fn named(headers: &[(String, String)], wanted: &str) -> Headers {
    let headers = headers.iter();
    let found = headers.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
    found.cloned().collect()
}

fn trailers(trailers: Headers) -> HeaderMap {
    let mut trailers = header_map(rules::response_headers(200, trailers));
    trailers.remove(CONTENT_LENGTH);
    trailers
}

/// Without what only the agent itself says, and what HTTP cannot carry.
fn header_map(headers: Headers) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let pair = (HeaderName::try_from(name), HeaderValue::try_from(value));
        if let (Ok(name), Ok(value)) = pair
            && name != FAILURE
            && name != LENGTH
        {
            map.append(name, value);
        }
    }
    map
}
