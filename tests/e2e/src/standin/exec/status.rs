//! The document on the error channel that says how a command ended, with the real server's fields
//! and texts in its order.

use serde::Serialize;
use serde_json::{Map, Value};

use super::channel::Subprotocol;

/// How a stream ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The command ended with that code; 128 and the number of the signal that killed it.
    Exit(i32),
    /// There is nothing more to see; how it ended is not known, and counts as success.
    Ended,
    /// The command could not be started; what the container runtime says about it.
    NotStarted(String),
}

#[derive(Serialize)]
struct Document<'a> {
    metadata: Map<String, Value>,
    status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Serialize)]
struct Details<'a> {
    causes: [Cause<'a>; 1],
}

#[derive(Serialize)]
struct Cause<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    message: &'a str,
}

impl Outcome {
    /// What is written to the error channel, if anything is.
    pub(super) fn report(&self, subprotocol: Subprotocol, argv: &[String]) -> Option<Vec<u8>> {
        match self {
            Self::Exit(0) | Self::Ended => success(subprotocol),
            Self::Exit(code) => {
                let why = match subprotocol {
                    Subprotocol::V5 => format!("command terminated with exit code {code}"),
                    _ => {
                        let command = argv.join(" ");
                        format!("error executing command [{command}], exit code {code}")
                    }
                };
                let message = format!("command terminated with non-zero exit code: {why}");
                let cause = Cause {
                    reason: "ExitCode",
                    message: &code.to_string(),
                };
                failure(subprotocol, &message, "NonZeroExitCode", cause, None)
            }
            Self::NotStarted(why) => {
                let prefix = "Internal error occurred: ";
                let why = format!("error executing command in container: {why}");
                let why = match subprotocol {
                    // It passes one server more on its way, which says it once more.
                    Subprotocol::V5 => format!("{prefix}{why}"),
                    _ => why,
                };
                let cause = Cause {
                    reason: "",
                    message: &why,
                };
                let message = format!("{prefix}{why}");
                failure(subprotocol, &message, "InternalError", cause, Some(500))
            }
        }
    }
}

/// Whether the error channel carries documents; elsewhere it has only the text of a failure.
const fn documents(subprotocol: Subprotocol) -> bool {
    matches!(
        subprotocol,
        Subprotocol::V5 | Subprotocol::V4 | Subprotocol::V4Base64
    )
}

fn success(subprotocol: Subprotocol) -> Option<Vec<u8>> {
    documents(subprotocol).then(|| {
        json(&Document {
            metadata: Map::new(),
            status: "Success",
            message: "",
            reason: "",
            details: None,
            code: None,
        })
    })
}

fn failure(
    subprotocol: Subprotocol,
    message: &str,
    reason: &'static str,
    cause: Cause<'_>,
    code: Option<u16>,
) -> Option<Vec<u8>> {
    if !documents(subprotocol) {
        return Some(message.into());
    }
    Some(json(&Document {
        metadata: Map::new(),
        status: "Failure",
        message,
        reason,
        details: Some(Details { causes: [cause] }),
        code,
    }))
}

/// Go's encoder writes these three characters as escapes, also where JSON does not ask for it.
fn json(document: &Document<'_>) -> Vec<u8> {
    let text = serde_json::to_string(document).unwrap_or_default();
    let text = text
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026");
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcome: &Outcome, subprotocol: Subprotocol) -> Option<String> {
        let argv = ["sh", "-c", "echo err >&2; exit 3"].map(str::to_owned);
        let report = outcome.report(subprotocol, &argv);
        report.map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn tells_success() {
        let success = Some(r#"{"metadata":{},"status":"Success"}"#.to_owned());
        for outcome in [Outcome::Exit(0), Outcome::Ended] {
            assert_eq!(report(&outcome, Subprotocol::V5), success);
            assert_eq!(report(&outcome, Subprotocol::V4Base64), success);
            assert_eq!(report(&outcome, Subprotocol::V1), None);
            assert_eq!(report(&outcome, Subprotocol::Unnamed), None);
        }
    }

    #[test]
    fn tells_the_exit_code() {
        let document = |message: &str| {
            let start = r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: "#;
            let end = r#"","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
            Some(format!("{start}{message}{end}"))
        };
        let code = Outcome::Exit(3);
        assert_eq!(
            report(&code, Subprotocol::V5),
            document("command terminated with exit code 3")
        );
        assert_eq!(
            report(&code, Subprotocol::V4),
            document(
                r"error executing command [sh -c echo err \u003e\u00262; exit 3], exit code 3"
            )
        );
        assert_eq!(
            report(&code, Subprotocol::V1).unwrap(),
            "command terminated with non-zero exit code: error executing command \
             [sh -c echo err >&2; exit 3], exit code 3"
        );
    }

    #[test]
    fn tells_that_a_command_was_not_started() {
        let why = Outcome::NotStarted("no \"x\"".to_owned());
        assert_eq!(
            report(&why, Subprotocol::V4).unwrap(),
            concat!(
                r#"{"metadata":{},"status":"Failure","message":"Internal error occurred: "#,
                r#"error executing command in container: no \"x\"","reason":"InternalError","#,
                r#""details":{"causes":[{"message":"error executing command in container: "#,
                r#"no \"x\""}]},"code":500}"#
            )
        );
        assert_eq!(
            report(&why, Subprotocol::V5).unwrap(),
            concat!(
                r#"{"metadata":{},"status":"Failure","message":"Internal error occurred: "#,
                r#"Internal error occurred: error executing command in container: no \"x\"","#,
                r#""reason":"InternalError","details":{"causes":[{"message":"Internal error "#,
                r#"occurred: error executing command in container: no \"x\""}]},"code":500}"#
            )
        );
    }
}
