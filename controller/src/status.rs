//! Refusals as `metav1.Status`, the form in which kubectl shows an error's text.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::body::ResponseBody;

/// Longest text of a `Warning`, which repeats what a client has sent.
const MAX_WARNING: usize = 512;

/// A request that is answered by the controller itself.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: StatusCode,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// A refusal with this code; the reason is Kubernetes' name for it.
    pub(crate) fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason(code),
            message: message.into(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        self.with(header::RETRY_AFTER, seconds.into())
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Tells the text in a `Warning`, too. kubectl shows that where it ignores the status, which
    /// is in its discovery of what the API has.
    pub(crate) fn with_warning(self) -> Self {
        let mut quoted = String::new();
        let text = self.message.chars().filter(|c| !c.is_control());
        for c in text.take(MAX_WARNING) {
            if matches!(c, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        match HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            Ok(warning) => self.with(header::WARNING, warning),
            Err(_) => self,
        }
    }

    pub(crate) fn response(self) -> Response<ResponseBody> {
        let status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        let mut response = plain(self.code, "application/json", format!("{status}\n"));
        let headers = response.headers_mut();
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache, private"),
        );
        headers.extend(self.headers);
        response
    }
}

/// A response with a text of the controller.
pub(crate) fn plain(
    code: StatusCode,
    content_type: &'static str,
    text: impl Into<String>,
) -> Response<ResponseBody> {
    let text = Bytes::from(text.into());
    let mut response = Response::new(ResponseBody::full(text));
    *response.status_mut() = code;
    let content_type = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// Kubernetes' name for a status code, where it has one.
fn reason(code: StatusCode) -> &'static str {
    match code.as_u16() {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        409 => "Conflict",
        413 => "RequestEntityTooLarge",
        429 => "TooManyRequests",
        500 | 502 => "InternalError",
        501 => "NotImplemented",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_refusal_is_a_status_object() {
        let refusal = Refusal::unavailable("the agent of cluster \"x\" is not connected");
        let response = refusal.retry_after(1).with_warning().response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["retry-after"], "1");
        let warning = r#"299 - "the agent of cluster \"x\" is not connected""#;
        assert_eq!(response.headers()["warning"], warning);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let status: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let expected = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "the agent of cluster \"x\" is not connected",
            "reason": "ServiceUnavailable", "code": 503,
        });
        assert_eq!(status, expected);
    }

    #[test]
    fn reasons_are_those_of_kubernetes() {
        for (refusal, code, reason) in [
            (Refusal::bad_request(""), 400, "BadRequest"),
            (Refusal::unauthorized(""), 401, "Unauthorized"),
            (Refusal::forbidden(""), 403, "Forbidden"),
            (Refusal::not_found(""), 404, "NotFound"),
            (
                Refusal::new(StatusCode::GATEWAY_TIMEOUT, ""),
                504,
                "Timeout",
            ),
            (
                Refusal::new(StatusCode::BAD_GATEWAY, ""),
                502,
                "InternalError",
            ),
        ] {
            assert_eq!((refusal.code.as_u16(), refusal.reason), (code, reason));
        }
    }
}
