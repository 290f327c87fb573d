//! The agent on async-std.

use std::process::ExitCode;

use controlplane_async_std::AsyncStd;

fn main() -> ExitCode {
    pipeops_agent::main(AsyncStd, env!("CARGO_BIN_NAME"), |program| {
        Ok(async_std::task::block_on(program))
    })
}
