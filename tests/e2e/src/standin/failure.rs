//! Errors of the API, as the `metav1.Status` documents that a real API server prints: same fields,
//! same order, same texts.

use serde::Serialize;
use serde_json::{Map, Value};

use super::resource::Resource;

/// An answer that is not a success.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    code: u16,
    reason: &'static str,
    message: String,
    details: Option<Box<Details>>,
}

/// The `Status` document of a failure.
#[derive(Serialize)]
struct Document<'a> {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    metadata: Map<String, Value>,
    status: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Details>,
    code: u16,
}

/// What a failure is about.
#[derive(Debug, Clone, Default, Serialize)]
struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'static str,
}

impl Failure {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    fn about(mut self, kind: &'static str, name: &str) -> Self {
        self.details = Some(Box::new(Details {
            name: name.to_owned(),
            kind,
        }));
        self
    }

    /// The HTTP status code.
    pub(super) fn code(&self) -> u16 {
        self.code
    }

    /// The text for a human.
    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    fn document(&self) -> Document<'_> {
        Document {
            kind: "Status",
            api_version: "v1",
            metadata: Map::new(),
            status: "Failure",
            message: &self.message,
            reason: self.reason,
            details: self.details.as_deref(),
            code: self.code,
        }
    }

    /// The document, with the line feed that the real one ends with.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(&self.document()).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// The document as a value, for the object of a watch's ERROR event.
    pub(super) fn to_value(&self) -> Value {
        serde_json::to_value(self.document()).unwrap_or_default()
    }

    /// 401: no token, or not the right one.
    pub(super) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 400.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 403 of an object.
    pub(super) fn forbidden(resource: Resource, name: &str, why: &str) -> Self {
        let kind = resource.plural();
        let message = format!("{kind} \"{name}\" is forbidden: {why}");
        Self::new(403, "Forbidden", message).about(kind, name)
    }

    /// One that the API server did not expect, and gives no reason for.
    pub(super) fn without_reason(code: u16, message: &str) -> Self {
        Self::new(code, "", message)
    }

    /// 404 of an object.
    pub(super) fn not_found(resource: Resource, name: &str) -> Self {
        let kind = resource.plural();
        Self::new(404, "NotFound", format!("{kind} \"{name}\" not found")).about(kind, name)
    }

    /// 409 of a create.
    pub(super) fn already_exists(resource: Resource, name: &str) -> Self {
        let kind = resource.plural();
        Self::new(
            409,
            "AlreadyExists",
            format!("{kind} \"{name}\" already exists"),
        )
        .about(kind, name)
    }

    /// 409 of a write or a delete that expected another state.
    pub(super) fn conflict(resource: Resource, name: &str, why: &str) -> Self {
        let kind = resource.plural();
        let message = format!("Operation cannot be fulfilled on {kind} \"{name}\": {why}");
        Self::new(409, "Conflict", message).about(kind, name)
    }

    /// 409 of a write against an older resource version.
    pub(super) fn modified(resource: Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Self::conflict(resource, name, why)
    }

    /// 422: the object was understood, but it may not be like that.
    pub(super) fn invalid(resource: Resource, name: &str, why: &str) -> Self {
        let kind = resource.kind();
        Self::new(
            422,
            "Invalid",
            format!("{kind} \"{name}\" is invalid: {why}"),
        )
        .about(kind, name)
    }

    /// 422 of a JSON patch that does not fit its object.
    pub(super) fn bad_patch(why: impl Into<String>) -> Self {
        Self::new(422, "Invalid", why)
    }

    /// 405.
    pub(super) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message).about("", "")
    }

    /// 406: nothing of what the client accepts can be made.
    pub(super) fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json";
        Self::new(406, "NotAcceptable", message)
    }

    /// 413.
    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415 of a body that is in none of the formats in `accepted`.
    pub(super) fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: \
             {accepted}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 410: the watch would begin before the oldest event that is kept.
    pub(super) fn expired(asked: u64, oldest: u64) -> Self {
        let message = format!("too old resource version: {asked} ({oldest})");
        Self::new(410, "Expired", message)
    }

    /// The answer that a test asked for by its code alone.
    pub(super) fn of_code(code: u16) -> Self {
        let (reason, message) = match code {
            400 => (
                "BadRequest",
                "the server rejected our request for an unknown reason",
            ),
            401 => ("Unauthorized", "Unauthorized"),
            403 => ("Forbidden", "forbidden"),
            404 => (
                "NotFound",
                "the server could not find the requested resource",
            ),
            409 => ("Conflict", "the server reported a conflict"),
            429 => (
                "TooManyRequests",
                "the server has received too many requests and has asked us to try again later",
            ),
            500 => (
                "InternalError",
                "an error on the server has prevented the request from succeeding",
            ),
            503 => (
                "ServiceUnavailable",
                "the server is currently unable to handle the request",
            ),
            504 => (
                "Timeout",
                "the server was unable to return a response in the time allotted, but may still \
                 be processing the request",
            ),
            _ => (
                "",
                "the server responded with the status code that the test asked for",
            ),
        };
        Self::new(code, reason, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(failure: &Failure) -> String {
        String::from_utf8(failure.to_json()).unwrap()
    }

    #[test]
    fn prints_the_recorded_documents() {
        assert_eq!(
            text(&Failure::not_found(Resource::Pods, "nosuchpod")),
            concat!(
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
                r#""message":"pods \"nosuchpod\" not found","reason":"NotFound","#,
                r#""details":{"name":"nosuchpod","kind":"pods"},"code":404}"#,
                "\n"
            )
        );
        assert_eq!(
            text(&Failure::unauthorized()),
            concat!(
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
                r#""message":"Unauthorized","reason":"Unauthorized","code":401}"#,
                "\n"
            )
        );
        assert_eq!(
            text(&Failure::bad_request(
                "container nosuch is not valid for pod web"
            )),
            concat!(
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
                r#""message":"container nosuch is not valid for pod web","#,
                r#""reason":"BadRequest","code":400}"#,
                "\n"
            )
        );
        assert!(text(&Failure::method_not_allowed()).contains(r#""details":{},"code":405"#));
    }
}
