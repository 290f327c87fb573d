//! The agent's state in words: one line of the log for each change, one line for `/readyz`.

use std::time::{Duration, Instant};

use controlplane_driver::{Agent, Reason, Runtime, State};

use crate::escape::escape;

/// Logs each change of the state until the agent has stopped.
pub(crate) async fn follow<R: Runtime>(runtime: &R, agent: &Agent<R>) {
    let mut state = agent.state();
    loop {
        log(&state, runtime.now());
        if state == State::Stopped {
            return;
        }
        state = agent.changed(&state).await;
    }
}

fn log(state: &State, now: Instant) {
    match state {
        State::Connecting => tracing::info!("connecting to the control plane"),
        State::Registering => tracing::info!("connected, registering"),
        State::Registered(registration) => tracing::info!(
            cluster_id = escape(&registration.cluster_id),
            name = escape(&registration.name),
            "registered: requests are served"
        ),
        State::Waiting {
            until,
            attempt,
            reason,
        } => log_waiting(reason, *attempt, until.saturating_duration_since(now)),
        State::Draining => tracing::info!("draining: open requests may end, no new ones begin"),
        State::Stopped => tracing::info!("stopped"),
        other => tracing::info!(state = ?other, "state changed"),
    }
}

fn log_waiting(reason: &Reason, attempt: u32, delay: Duration) {
    let (reason_text, next) = (words(reason), seconds(delay));
    match reason {
        Reason::Unauthorized(_) => tracing::error!(
            attempt,
            "not connected: {reason_text}; next attempt in {next} s"
        ),
        _ => tracing::warn!(
            attempt,
            "not connected: {reason_text}; next attempt in {next} s"
        ),
    }
}

/// Why there is no connection, with the remedy where there is one, without anything of the peer
/// that could forge a line.
fn words(reason: &Reason) -> String {
    let text = escape(&reason.to_string());
    match reason {
        Reason::Unauthorized(_) => format!(
            "{text}: check PIPEOPS_TOKEN or --token-file, and whether the control plane knows \
             this agent"
        ),
        Reason::Superseded => format!("{text}: do two agents run with the same token?"),
        _ => text,
    }
}

/// The state in one line.
pub(crate) fn line(state: &State, now: Instant) -> String {
    match state {
        State::Connecting => "connecting".into(),
        State::Registering => "registering".into(),
        State::Registered(_) => "ok".into(),
        State::Waiting {
            until,
            attempt,
            reason,
        } => format!(
            "waiting {} s, attempt {attempt}: {}",
            seconds(until.saturating_duration_since(now)),
            words(reason)
        ),
        State::Draining => "draining".into(),
        State::Stopped => "stopped".into(),
        _ => "not connected".into(),
    }
}

/// Seconds with one digit, as people read them.
fn seconds(span: Duration) -> String {
    format!("{:.1}", span.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::{
        logging::{Level, Options, layer},
        testing::Log,
    };

    fn waiting(reason: Reason, now: Instant) -> State {
        State::Waiting {
            until: now + Duration::from_millis(12_300),
            attempt: 3,
            reason,
        }
    }

    fn logged(state: &State, now: Instant) -> String {
        let shown = Log::default();
        let options = Options {
            level: Level::Info,
            ..Options::default()
        };
        let subscriber = tracing_subscriber::registry().with(layer(options, shown.clone()));
        tracing::subscriber::with_default(subscriber, || log(state, now));
        shown.text()
    }

    #[test]
    fn waiting_tells_how_long_which_attempt_and_why() {
        let now = Instant::now();
        let state = waiting(Reason::Idle, now);
        let expected = "waiting 12.3 s, attempt 3: nothing was heard from the peer for too long";
        assert_eq!(line(&state, now), expected);
        let text = logged(&state, now);
        assert!(text.contains(" WARN "), "{text}");
        let expected = "not connected: nothing was heard from the peer for too long; \
                        next attempt in 12.3 s attempt=3";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn a_refused_token_says_what_to_check() {
        let now = Instant::now();
        for status in [401, 403] {
            let text = logged(&waiting(Reason::Unauthorized(status), now), now);
            assert!(text.contains("ERROR"), "{text}");
            assert!(
                text.contains("check PIPEOPS_TOKEN or --token-file"),
                "{text}"
            );
            assert!(text.contains(&status.to_string()), "{text}");
        }
    }

    #[test]
    fn text_of_the_peer_cannot_forge_a_line() {
        let now = Instant::now();
        let forged = "no\n2026-01-01T00:00:00Z INFO registered\u{1b}[2K".to_owned();
        for reason in [
            Reason::RegisterRefused(forged.clone()),
            Reason::Lost(forged.clone()),
            Reason::Closed {
                code: 1000,
                reason: forged,
            },
        ] {
            let state = waiting(reason, now);
            assert_eq!(logged(&state, now).lines().count(), 1);
            assert!(!line(&state, now).contains(['\n', '\u{1b}']));
        }
    }

    #[test]
    fn registered_names_the_cluster() {
        let registration = controlplane_driver::Registration {
            cluster_id: "6f1c".into(),
            ..Default::default()
        };
        let state = State::Registered(registration);
        let text = logged(&state, Instant::now());
        assert!(
            text.contains("registered: requests are served cluster_id=\"6f1c\""),
            "{text}"
        );
        assert_eq!(line(&state, Instant::now()), "ok");
    }
}
