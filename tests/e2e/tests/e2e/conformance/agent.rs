//! The suite against agents in this process: a right one, and such as are wrong in one message.

use std::time::Duration;

use controlplane_driver::Runtime;
use controlplane_e2e::conformance::{
    Options, agent,
    report::{Outcome, Report},
    vectors,
};
use controlplane_world::vectors::Role;

use super::flawed::{Flaw, Flawed};
use crate::bench::block_on_within;

const PATIENCE: Duration = Duration::from_secs(300);
/// How it dials, and whom it trusts.
const SCENARIOS: usize = 6;

/// Runs a test for both runtimes that takes its time.
macro_rules! on_both_slowly {
    ($($name:ident)*) => {
        mod slow_on_tokio {
            $(#[test] fn $name() {
                super::block_on_within(super::PATIENCE, super::$name(controlplane_tokio::Tokio));
            })*
        }
        mod slow_on_async_std {
            $(#[test] fn $name() {
                let runtime = controlplane_async_std::AsyncStd;
                super::block_on_within(super::PATIENCE, super::$name(runtime));
            })*
        }
    };
}

on_both_slowly! {
    an_agent_in_this_process_conforms
    an_agent_that_changes_the_order_fails
    an_agent_that_drops_a_piece_fails
    an_agent_that_repeats_a_piece_fails
    an_agent_that_ends_a_broken_answer_in_order_fails
    an_agent_that_closes_a_broken_stream_in_order_fails
}

async fn an_agent_in_this_process_conforms<R: Runtime>(runtime: R) {
    let options = Options::default();
    let subject = agent::Subject::here(runtime);
    let report = agent::run(&subject, &options).await.unwrap();
    assert!(report.passed(), "{report}");
    let vectors = vectors::selected(Role::Agent, &options).unwrap();
    let all = report.total();
    let expected = (vectors.len() + SCENARIOS, 0);
    assert_eq!((all.pass, all.not_applicable), expected, "{report}");
}

/// Places of the checks that fail with that flaw, what the first one saw, and the report.
async fn failing<R: Runtime>(inner: R, flaw: Flaw) -> (Vec<String>, String, Report) {
    let options = Options {
        patience: Duration::from_secs(5),
        ..Options::default()
    };
    let subject = agent::Subject::here(Flawed { inner, flaw });
    let report = agent::run(&subject, &options).await.unwrap();
    assert!(!report.passed());
    let failed = report
        .checks
        .iter()
        .filter_map(|check| match &check.outcome {
            Outcome::Fail(why) => Some((check.place.clone(), why.clone())),
            _ => None,
        });
    let (places, reasons): (Vec<_>, Vec<_>) = failed.unzip();
    (places, reasons.concat(), report)
}

async fn an_agent_that_changes_the_order_fails<R: Runtime>(runtime: R) {
    let (places, why, report) = failing(runtime, Flaw::Swaps).await;
    assert_eq!(places, ["streamed-responses.jsonl:1"], "{report}");
    assert_eq!(report.failing(), ["P-042", "P-043", "P-094"]);
    assert!(why.contains(r#""type":"proxy_response_chunk"}"#), "{why}");
}

async fn an_agent_that_drops_a_piece_fails<R: Runtime>(runtime: R) {
    let (places, why, report) = failing(runtime, Flaw::Drops).await;
    assert_eq!(places, ["streamed-responses.jsonl:2"], "{report}");
    assert_eq!(report.failing(), ["P-042"]);
    assert!(why.contains("nothing was said within 5 s"), "{why}");
}

async fn an_agent_that_repeats_a_piece_fails<R: Runtime>(runtime: R) {
    let (places, why, report) = failing(runtime, Flaw::Repeats).await;
    assert_eq!(places, ["streamed-responses.jsonl:2"], "{report}");
    assert_eq!(report.failing(), ["P-042"]);
    assert!(
        why.contains(r#"expected "dHdvCg==", saw "b25lCg==""#),
        "{why}"
    );
}

async fn an_agent_that_ends_a_broken_answer_in_order_fails<R: Runtime>(runtime: R) {
    let (places, why, report) = failing(runtime, Flaw::FalseEnd).await;
    assert_eq!(places, ["streamed-responses.jsonl:4"], "{report}");
    assert_eq!(report.failing(), ["P-042", "P-043"]);
    assert!(why.contains("proxy_response_end"), "{why}");
}

async fn an_agent_that_closes_a_broken_stream_in_order_fails<R: Runtime>(runtime: R) {
    let (places, why, report) = failing(runtime, Flaw::FalseClose).await;
    assert_eq!(places, ["websocket-close.jsonl:9"], "{report}");
    assert_eq!(report.failing(), ["P-041", "P-047", "P-107"]);
    assert!(why.contains("proxy_websocket_close"), "{why}");
}
