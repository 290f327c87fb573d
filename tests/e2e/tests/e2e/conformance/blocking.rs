//! The suite against the example of an adapter, which shares nothing with the others but the core.

use std::time::Duration;

use anyhow::Result;
use controlplane_e2e::conformance::{
    Options,
    agent::{self, Command, Setting},
};

use crate::bench::block_on_within;

const PATIENCE: Duration = Duration::from_secs(300);
/// What needs time, a gateway or a service, a link in clear or the fast mode.
const LEFT_OUT: usize = 62;

#[test]
fn the_blocking_adapter_conforms() {
    block_on_within(PATIENCE, async {
        conforms().await.expect("it can be played against");
    });
}

async fn conforms() -> Result<()> {
    let subject = agent::Subject::command(Command {
        line: format!("exec '{}'", env!("CARGO_BIN_EXE_blocking")),
        without: [Setting::FastMode, Setting::NoYamux].into(),
    });
    let options = Options {
        longest: Duration::from_secs(2),
        patience: Duration::from_secs(30),
        ..Options::default()
    };
    let report = agent::run(&subject, &options).await?;
    assert!(report.passed(), "{report}");
    assert_eq!(report.total().not_applicable, LEFT_OUT, "{report}");
    Ok(())
}
