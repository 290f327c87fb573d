//! What the client is told where there is no answer of the handler's: in a header, by which the
//! controller knows a failure of the agent's from an answer of the Kubernetes API.

use bytes::Bytes;
use controlplane_core::{PeerFault, rules};
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
};

use super::answer::ResponseBody;

/// Names the failure.
pub(super) const FAILURE: HeaderName = HeaderName::from_static("controlplane-failure");
/// The length of an answer that has no `Content-Length` because it may end with [`FAILURE`].
pub(super) const LENGTH: HeaderName = HeaderName::from_static("controlplane-length");
/// Longest text in the header, in bytes.
const LONGEST: usize = 1024;

/// The request was not let in.
pub(super) fn refused(fault: PeerFault) -> Response<ResponseBody> {
    let status = match fault {
        PeerFault::Path => StatusCode::FORBIDDEN,
        PeerFault::Method => StatusCode::METHOD_NOT_ALLOWED,
        PeerFault::HeadTooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    failure(status, rules::refusal(fault))
}

/// The handler had no answer.
pub(super) fn failed(text: String) -> Response<ResponseBody> {
    failure(StatusCode::BAD_GATEWAY, text)
}

pub(super) fn failure(status: StatusCode, mut text: String) -> Response<ResponseBody> {
    let mut headers = HeaderMap::new();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, plain);
    headers.insert(FAILURE, value(&text));
    text.push('\n');
    let mut response = Response::new(ResponseBody::Text(Bytes::from(text).into()));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// What follows an answer that broke off.
pub(super) fn trailer(text: &str) -> HeaderMap {
    HeaderMap::from_iter([(FAILURE, value(text))])
}

/// A text as the value of a header, in UTF-8: of one line, and bounded.
fn value(text: &str) -> HeaderValue {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = text.chars().map(printable).collect();
    line.truncate(line.floor_char_boundary(LONGEST));
    let value = HeaderValue::try_from(line.trim().to_string());
    value.unwrap_or_else(|_| HeaderValue::from_static("no answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_fits_a_header() {
        assert_eq!(value("a\r\nb: c\0").as_bytes(), b"a  b: c");
        assert_eq!(value("häh?").as_bytes(), "häh?".as_bytes());
        let long = value(&"ä".repeat(LONGEST));
        assert_eq!(long.as_bytes(), "ä".repeat(LONGEST / 2).as_bytes());
        let odd = value(&format!("x{}", "ä".repeat(LONGEST)));
        assert_eq!(odd.len(), LONGEST - 1);
    }
}
