//! The suite against agents in this process.

use controlplane_driver::Runtime;
use controlplane_e2e::conformance::{Options, agent};

use crate::bench::on_both;

on_both! {
    an_agent_in_this_process_conforms
}

async fn an_agent_in_this_process_conforms<R: Runtime>(runtime: R) {
    let options = Options {
        only: std::env::var("CONFORMANCE_ONLY").ok(),
        ..Options::default()
    };
    let subject = agent::Subject::here(runtime);
    let report = agent::run(&subject, &options).await.unwrap();
    assert!(report.passed(), "{report}");
}
