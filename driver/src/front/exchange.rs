//! One request and its answer: through the gate to the handler, and back.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use controlplane_core::{
    PeerFault, RequestHead, ResponseHead,
    rules::{self, Admitted, Gate},
};
use futures_util::{AsyncRead, AsyncWrite};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request as HttpRequest, Response, StatusCode, Version,
    header::{CONTENT_LENGTH, TRAILER},
    request::Parts,
};
use hyper::{body::Incoming, upgrade::OnUpgrade};

use super::{
    answer::{Outcome, Pieces, Pour, Reply, ResponseBody},
    lent::Lent,
    refusal::{FAILURE, failed, failure, refused},
    running::Running,
};
use crate::{
    handler::{Body, BoxFuture, Handler, Headers, Request, Responder},
    hyper_io::HyperIo,
    meter::Metered,
    runtime::Runtime,
    upgrade::{ClientIo, UpgradeRequest, UpgradeResponder},
};

const NO_ANSWER: &str = "the request's handler ended without a complete answer";

/// The exchanges of one connection.
pub(super) struct Exchanges<R> {
    runtime: R,
    gate: Gate,
    handler: Arc<dyn Handler>,
    /// Of the request that switched protocols.
    switched: Mutex<Option<Running>>,
}

impl<R: Runtime> Exchanges<R> {
    pub(super) const fn new(runtime: R, gate: Gate, handler: Arc<dyn Handler>) -> Self {
        Self {
            runtime,
            gate,
            handler,
            switched: Mutex::new(None),
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
        let bodiless = admitted.head.method == "HEAD";
        let (reply, outcome) = Reply::new();
        let handling = if admitted.upgrade.is_some() {
            self.upgrade(admitted, reply, switch::<T>(upgrade))
        } else {
            self.handle(admitted, reply, incoming)
        };
        let running = Running::start(&self.runtime, handling);
        Ok(match outcome.await {
            Ok(Outcome::Answer(head, pieces)) => response(head, pieces, running, bodiless),
            Ok(Outcome::Failed(text)) => {
                running.let_go();
                failed(text)
            }
            Ok(Outcome::Switch(headers)) => self.switching(headers, running),
            Err(_) => failed(NO_ANSWER.into()),
        })
    }

    fn handle(&self, admitted: Admitted, reply: Reply, body: Incoming) -> BoxFuture<'static, ()> {
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

/// An answer of the handler's.
fn response(
    head: ResponseHead,
    pieces: Pieces,
    running: Running,
    mut bodiless: bool,
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
    bodiless |= matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = headers.get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_none() && !bodiless {
        // hyper sends those trailers that were announced.
        headers.extend(header_map(announced));
    }
    let left = if bodiless { Some(0) } else { length };
    let body = Pour::new(pieces, left, trailers, running);
    let mut response = Response::new(ResponseBody::Pour(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
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
        {
            map.append(name, value);
        }
    }
    map
}
