//! The whole program, but for the choice of the runtime.

use std::{env, io, pin::Pin, process::ExitCode};

use controlplane_driver::Runtime;

use crate::{cli::Cli, config::Config, error::Error, logging, run::run, signals::Signals};

/// The program as a future, for a runtime to run to its end.
type Program = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// The program called `name`: reads the command line, and runs the agent by `block_on`.
pub fn main<R: Runtime>(
    runtime: R,
    name: &'static str,
    block_on: impl FnOnce(Program) -> io::Result<Result<(), Error>>,
) -> ExitCode {
    let cli = match Cli::parse_from_args(name, runtime.name(), env::args_os()) {
        Ok(cli) => cli,
        Err(answer) => {
            let _ = answer.print();
            return ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(2));
        }
    };
    match execute(runtime, cli, block_on) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error, name);
            ExitCode::from(error.exit_code())
        }
    }
}

fn execute<R: Runtime>(
    runtime: R,
    cli: Cli,
    block_on: impl FnOnce(Program) -> io::Result<Result<(), Error>>,
) -> Result<(), Error> {
    logging::init(cli.log())?;
    let config: Config = cli.into_config()?;
    let signals = Signals::catch()?;
    let program = Box::pin(run(runtime, config, signals));
    block_on(program).map_err(Error::Runtime)?
}

/// Who made an error of usage reads it at a terminal; the rest belongs to the log.
fn tell(error: &Error, name: &str) {
    match error.exit_code() {
        2 => eprintln!("error: {error}\n\nFor more information, try '{name} --help'."),
        _ => tracing::error!("{error}"),
    }
}
