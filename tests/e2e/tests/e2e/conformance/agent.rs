//! The suite against agents in this process, right ones and broken ones, and against the program.

use std::time::Duration;

use controlplane_driver::Runtime;
use controlplane_e2e::conformance::{
    Options, agent,
    report::{Outcome, Report},
};

use super::flawed::{Flaw, Flawed};
use crate::bench::block_on_within;

/// Conversations with an agent of this project, in its own time.
const PLAYED: usize = 276;

async fn play<R: Runtime>(runtime: R) -> Report {
    let subject = agent::Subject::here(runtime);
    agent::run(&subject, &Options::default()).await.unwrap()
}

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
                super::block_on_within(super::PATIENCE, super::$name(controlplane_async_std::AsyncStd));
            })*
        }
    };
}

const PATIENCE: Duration = Duration::from_secs(300);

on_both_slowly! {
    an_agent_in_this_process_conforms
    an_agent_that_changes_the_order_fails
    an_agent_that_drops_a_piece_fails
    an_agent_that_repeats_a_message_fails
    an_agent_that_ends_a_broken_answer_in_order_fails
    an_agent_that_closes_a_failed_stream_in_order_fails
}

async fn an_agent_in_this_process_conforms<R: Runtime>(runtime: R) {
    let report = play(runtime).await;
    assert!(report.passed(), "{report}");
    let all = report.total();
    assert_eq!((all.pass, all.not_applicable), (PLAYED, 0), "{report}");
}

/// Places of the checks that fail, and the statements that they name.
async fn failing<R: Runtime>(inner: R, flaw: Flaw) -> (Vec<String>, Report) {
    let options = Options {
        patience: Duration::from_secs(3),
        ..Options::default()
    };
    let subject = agent::Subject::here(Flawed { inner, flaw });
    let report = agent::run(&subject, &options).await.unwrap();
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Fail(_));
    let checks = report.checks.iter().filter(|c| failed(&c.outcome));
    let places = checks.map(|check| check.place.clone()).collect();
    eprintln!("{flaw:?} {places:?} {:?}\n{report}", report.failing());
    (places, report)
}

async fn an_agent_that_changes_the_order_fails<R: Runtime>(runtime: R) {
    let (places, report) = failing(runtime, Flaw::Swaps).await;
    assert!(report.failing().contains(&"P-042"), "{places:?}");
}

async fn an_agent_that_drops_a_piece_fails<R: Runtime>(runtime: R) {
    let (places, report) = failing(runtime, Flaw::Drops).await;
    assert!(report.failing().contains(&"P-042"), "{places:?}");
}

async fn an_agent_that_repeats_a_message_fails<R: Runtime>(runtime: R) {
    let (places, report) = failing(runtime, Flaw::Repeats).await;
    assert!(report.failing().contains(&"P-045"), "{places:?}");
}

async fn an_agent_that_ends_a_broken_answer_in_order_fails<R: Runtime>(runtime: R) {
    let (places, report) = failing(runtime, Flaw::FalseEnd).await;
    assert!(report.failing().contains(&"P-043"), "{places:?}");
}

async fn an_agent_that_closes_a_failed_stream_in_order_fails<R: Runtime>(runtime: R) {
    let (places, report) = failing(runtime, Flaw::FalseClose).await;
    assert!(report.failing().contains(&"P-107"), "{places:?}");
}
