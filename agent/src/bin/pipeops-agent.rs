//! The agent on tokio.

use std::process::ExitCode;

use controlplane_tokio::Tokio;

fn main() -> ExitCode {
    pipeops_agent::main(Tokio, env!("CARGO_BIN_NAME"), |program| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let outcome = runtime.block_on(program);
        // A name look-up that hangs in the system must not keep the process.
        runtime.shutdown_background();
        Ok(outcome)
    })
}
