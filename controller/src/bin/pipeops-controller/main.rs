//! The reference control plane as a program. Exit codes: 0 done or asked to stop, 1 failed,
//! 2 wrong command line.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "in a test a panic is the message")
)]

mod kubeconfig;
mod logging;
mod serve;
mod token;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

/// The reference control plane: kubectl reaches clusters behind NAT through the agents that
/// these dial out with.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
To try it out on one machine:

  pipeops-controller serve --self-signed DIR

creates all that is needed in DIR and prints the commands for an agent and for kubectl.

Exit codes: 0 done or asked to stop, 1 failed, 2 wrong command line.";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Token(token::Args),
    Kubeconfig(kubeconfig::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Token(args) => token::run(args),
        Command::Kubeconfig(args) => kubeconfig::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output, which may be a pipe that nobody reads any more.
fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
