//! What a client is told when a request failed on its way.

use controlplane_driver::Failure;
use http::StatusCode;

use crate::status::Refusal;

/// The answer to a request that failed before the client was sent anything of the answer.
pub(super) fn refusal(failure: &Failure) -> Refusal {
    let text = failure.to_string();
    match failure {
        Failure::Agent(text) if is_timeout(text) => Refusal::new(StatusCode::GATEWAY_TIMEOUT, text),
        Failure::RequestTooLarge | Failure::MessageTooLong => {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text)
        }
        Failure::Refused { status, .. } => {
            let code = StatusCode::from_u16(*status);
            Refusal::new(code.unwrap_or(StatusCode::BAD_GATEWAY), text)
        }
        Failure::Shutdown => Refusal::unavailable(text).retry_after(super::SOON),
        _ => Refusal::new(StatusCode::BAD_GATEWAY, text),
    }
}

/// `proxy_error` has a text only: these words are how agents say that time ran out.
fn is_timeout(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let words = [
        "timeout",
        "time-out",
        "timed out",
        "deadline exceeded",
        "took too long",
        "in time",
    ];
    words.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_the_agents_reason() {
        let agent = |text: &str| Failure::Agent(text.into());
        for (failure, code) in [
            (agent("connection refused"), 502),
            (agent("context deadline exceeded"), 504),
            (agent("the API server did not answer: timed out"), 504),
            (agent("Client.Timeout exceeded while awaiting headers"), 504),
            (Failure::Disconnected, 502),
            (Failure::RequestTooLarge, 413),
            (
                Failure::Refused {
                    status: 403,
                    text: "bad handshake (status: 403)".into(),
                },
                403,
            ),
            (Failure::Overrun, 502),
            (Failure::Shutdown, 503),
        ] {
            let told = refusal(&failure);
            assert_eq!(told.code.as_u16(), code, "{failure}");
            assert_eq!(told.message, failure.to_string());
        }
    }
}
