//! Bodies of answers: whole ones, and ones that are made chunk by chunk.

use std::convert::Infallible;
use std::future::Future;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use thiserror::Error;

use super::failure::Failure;

/// How many bytes the pattern of `/api/v1/bytes` has before it begins again. A prime, so that a
/// chunk that is lost or moved does not go unseen.
const PERIOD: usize = 251;

/// The largest chunk of `/api/v1/bytes`.
const CHUNK: usize = 16 * 1024;

/// Why a body breaks off.
#[derive(Debug, Error)]
pub(super) enum BodyError {
    #[error("the log's buffer has overrun its reader")]
    LogOverrun,
    #[error(transparent)]
    Request(#[from] hyper::Error),
}

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A body that is there as a whole.
pub(super) fn whole(content: impl Into<Bytes>) -> Body {
    Full::new(content.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// A body of which `next` makes the chunks, one after the other.
pub(super) fn chunks<S, F, N>(state: S, next: N) -> Body
where
    S: Send + 'static,
    F: Future<Output = Option<(Result<Bytes, BodyError>, S)>> + Send + 'static,
    N: FnMut(S) -> F + Send + 'static,
{
    let chunks = stream::unfold(state, next);
    let frames = futures_util::StreamExt::map(chunks, |chunk| chunk.map(Frame::data));
    StreamBody::new(frames).boxed_unsync()
}

/// An answer of that type.
pub(super) fn answer(status: StatusCode, media: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// An answer with a JSON document, and a line feed after it as the real one has.
pub(super) fn json(status: StatusCode, document: &impl Serialize) -> Response<Body> {
    let mut text = serde_json::to_vec(document).unwrap_or_default();
    text.push(b'\n');
    answer(status, "application/json", whole(text))
}

/// The answer of a failure.
pub(super) fn failure(failure: &Failure) -> Response<Body> {
    let status = StatusCode::from_u16(failure.code());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer(status, "application/json", whole(failure.to_json()));
    if status == StatusCode::FORBIDDEN {
        no_sniffing(&mut response);
    }
    response
}

fn no_sniffing(response: &mut Response<Body>) {
    let value = HeaderValue::from_static("nosniff");
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, value);
}

/// The answer to a path that is none: not a `Status`, in the real one neither.
pub(super) fn no_such_path() -> Response<Body> {
    let body = whole("404 page not found\n");
    let mut response = answer(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", body);
    no_sniffing(&mut response);
    response
}

/// `count` bytes of the pattern, in chunks, the length not announced.
pub(super) fn pattern_body(count: u64) -> Body {
    // Each chunk is a piece of this one buffer.
    let period = pattern(0, CHUNK + PERIOD);
    chunks((0, period), move |(sent, period)| async move {
        let size = usize::try_from(count - sent).map_or(CHUNK, |left| left.min(CHUNK));
        if size == 0 {
            return None;
        }
        let start = phase(sent);
        Some((
            Ok(period.slice(start..start + size)),
            (sent + size as u64, period),
        ))
    })
}

/// The bytes that `/api/v1/bytes` sends at an offset: each is the offset modulo 251.
#[must_use]
pub fn pattern(offset: u64, length: usize) -> Bytes {
    let start = phase(offset);
    let bytes = (start..start + length).map(|index| (index % PERIOD) as u8);
    bytes.collect::<Vec<_>>().into()
}

fn phase(offset: u64) -> usize {
    usize::try_from(offset % PERIOD as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn the_pattern_continues_over_chunks() {
        let count = 3 * CHUNK as u64 + 5;
        let body = pattern_body(count)
            .collect()
            .now_or_never()
            .unwrap()
            .unwrap()
            .to_bytes();
        assert_eq!(body, pattern(0, count as usize));
        assert_eq!(body.slice(1000..), pattern(1000, count as usize - 1000));
        assert!(
            pattern_body(0)
                .collect()
                .now_or_never()
                .unwrap()
                .unwrap()
                .to_bytes()
                .is_empty()
        );
    }
}
