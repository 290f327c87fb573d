//! Heads as the core has them and as hyper wants them.

use controlplane_core::{Failure, PeerFault, RequestHead, ResponseHead, rules};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};

/// In an answer of 502: there is no answer, for this cause. Behind an answer: it broke off.
const FAILURE: &str = "controlplane-failure";
/// The length of an answer that is chunked, so that it can end with [`FAILURE`].
const LENGTH: &str = "controlplane-length";
/// What answers may end with.
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers, controlplane-failure");
/// HTTP wants one; the agent does not look at it.
const HOST: HeaderValue = HeaderValue::from_static("kubernetes");
/// That of a header, with what JSON puts around it, as the core counts.
const AROUND: usize = 8;

/// How long a head is, as the core counts for [`controlplane_core::Limits::head`].
pub(super) fn len(head: &RequestHead) -> usize {
    let query = head.query.as_ref().map_or(0, String::len);
    let headers = head.headers.iter();
    let headers: usize = headers.map(|(n, v)| n.len() + v.len() + AROUND).sum();
    head.method.len() + head.path.len() + query + headers
}

/// The request, or what the agent would say of it.
pub(super) fn request(head: RequestHead, has_body: bool) -> Result<Request<()>, Failure> {
    let refused = |fault: PeerFault| Failure::Agent(fault.to_string());
    let method = Method::try_from(&*head.method).map_err(|_| refused(PeerFault::Method))?;
    let root = if head.path.starts_with('/') { "" } else { "/" };
    let target = match &head.query {
        Some(query) => format!("{root}{}?{query}", head.path),
        None => format!("{root}{}", head.path),
    };
    let uri = Uri::try_from(target).map_err(|_| refused(PeerFault::Path))?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    *headers = map(head.headers).ok_or_else(|| refused(PeerFault::Header))?;
    headers.insert(header::HOST, HOST);
    headers.insert(header::TE, TRAILERS);
    // hyper leaves the body of a GET out unless its length or this says that there is one.
    if has_body && !headers.contains_key(header::CONTENT_LENGTH) {
        let chunked = HeaderValue::from_static("chunked");
        headers.insert(header::TRANSFER_ENCODING, chunked);
    }
    Ok(request)
}

/// What the agent says in place of an answer.
pub(in crate::hub) fn failure_of<B>(response: &Response<B>) -> Option<Failure> {
    if response.status() != StatusCode::BAD_GATEWAY {
        return None;
    }
    response.headers().get(FAILURE).map(agent)
}

fn agent(text: &HeaderValue) -> Failure {
    Failure::Agent(String::from_utf8_lossy(text.as_bytes()).into_owned())
}

/// What the agent says behind an answer that broke off.
pub(in crate::hub) fn take_failure(trailers: &mut HeaderMap) -> Option<Failure> {
    trailers.remove(FAILURE).as_ref().map(agent)
}

/// Gives an answer back the length that it was declared with, and returns it where it is chunked
/// all the same.
pub(in crate::hub) fn take_length(headers: &mut HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(length) = headers.remove(LENGTH) else {
        return Ok(None);
    };
    let text = length.to_str().ok();
    let parsed = text.and_then(|text| text.parse().ok());
    if parsed.is_none() || headers.contains_key(header::CONTENT_LENGTH) {
        return Err(Failure::Fault(PeerFault::Malformed));
    }
    headers.insert(header::CONTENT_LENGTH, length);
    Ok(parsed)
}

/// The answer's head as it is relayed.
pub(in crate::hub) fn response_head<B>(response: &Response<B>) -> ResponseHead {
    let status = response.status().as_u16();
    ResponseHead {
        status,
        headers: rules::response_headers(status, pairs(response.headers())),
    }
}

/// Without those that are not UTF-8, as JSON cannot carry them either.
pub(in crate::hub) fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let headers = headers.iter();
    let pairs = headers.filter_map(|(name, value)| {
        let value = str::from_utf8(value.as_bytes()).ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    pairs.collect()
}

/// Trailers that can stand in HTTP.
pub(in crate::hub) fn trailers(pairs: Vec<(String, String)>) -> Option<HeaderMap> {
    map(pairs).filter(|trailers| !trailers.is_empty())
}

fn map(pairs: Vec<(String, String)>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(pairs.len());
    for (name, value) in pairs {
        let name = HeaderName::try_from(name).ok()?;
        headers.append(name, HeaderValue::try_from(value).ok()?);
    }
    Some(headers)
}
