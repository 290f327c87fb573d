//! The conformance suite as a program: tests an agent or a controller in any language.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use controlplane_async_std::AsyncStd;
use controlplane_e2e::{
    conformance::{Options, agent, report::Report},
    world::RuntimeName,
};
use controlplane_tokio::Tokio;

/// Plays the protocol's vectors against an agent or a controller, over TLS, and reports for each
/// statement whether it holds.
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit codes: 0 all that was checked holds, 1 something does not, \
                        2 nothing could be checked."
)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Tests an agent
    Agent {
        /// This project's own agent in this process, with its time made to pass quickly
        #[arg(long, value_enum, value_name = "RUNTIME")]
        own: RuntimeName,
        #[command(flatten)]
        play: Play,
    },
}

#[derive(Debug, Args)]
struct Play {
    /// Where the report goes as JSON; `-`: instead of the text
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only what has this in its title or its file's name, or is about this statement
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Longest time that a conversation may take by what it says; what needs more is left out
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    longest: u64,
    /// How long is waited for what is expected next
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    patience: u64,
    /// Conversations at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    jobs: usize,
}

impl Play {
    fn options(&self) -> Options {
        Options {
            only: self.only.clone(),
            longest: Duration::from_secs(self.longest),
            patience: Duration::from_secs(self.patience),
            jobs: self.jobs,
        }
    }

    /// Shows the report, as text unless JSON is wanted in its place.
    #[expect(clippy::print_stdout, reason = "it is what the program is for")]
    fn show(&self, report: &Report) -> Result<()> {
        let json = serde_json::to_string_pretty(&report.json())?;
        match self.json.as_deref() {
            Some(path) if path.as_os_str() == "-" => println!("{json}"),
            Some(path) => {
                std::fs::write(path, json + "\n")
                    .with_context(|| format!("cannot write {}", path.display()))?;
                print!("{report}");
            }
            None => print!("{report}"),
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().role).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all that was checked holds.
async fn run(role: Role) -> Result<bool> {
    let (report, play) = match role {
        Role::Agent { own, play } => {
            let subject = match own {
                RuntimeName::Tokio => agent::Subject::here(Tokio),
                RuntimeName::AsyncStd => agent::Subject::here(AsyncStd),
            };
            (agent::run(&subject, &play.options()).await?, play)
        }
    };
    play.show(&report)?;
    Ok(report.passed())
}
