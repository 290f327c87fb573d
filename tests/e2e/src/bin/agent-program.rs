//! The agent's program as its package builds it, on the runtime that `AGENT_RUNTIME` names: tests of
//! this package start it without a build of the other.

use std::process::ExitCode;

use controlplane_async_std::AsyncStd;
use controlplane_tokio::Tokio;

const NAME: &str = env!("CARGO_BIN_NAME");

fn main() -> ExitCode {
    if std::env::var("AGENT_RUNTIME").is_ok_and(|name| name == "async-std") {
        return pipeops_agent::main(AsyncStd, NAME, |program| {
            Ok(async_std::task::block_on(program))
        });
    }
    pipeops_agent::main(Tokio, NAME, |program| {
        let runtime = tokio::runtime::Runtime::new()?;
        Ok(runtime.block_on(program))
    })
}
