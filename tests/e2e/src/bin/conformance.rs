//! The conformance suite as a program: tests an agent or a controller in any language.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use controlplane_async_std::AsyncStd;
use controlplane_driver::{TlsOptions, Token};
use controlplane_e2e::{
    conformance::{Options, agent, controller, report::Report},
    world::RuntimeName,
};
use controlplane_tokio::Tokio;

const OF_AGENTS: &str = r#"COMMAND is run by `sh -c` once for each conversation, and killed with all that it started when that
is over. It finds in its environment

  CONFORMANCE_URL                 the controller, https://127.0.0.1:PORT
  CONFORMANCE_TOKEN               the agent's token
  CONFORMANCE_CA_FILE             whom to trust, in PEM
  CONFORMANCE_UPSTREAM_URL        the Kubernetes API
  CONFORMANCE_UPSTREAM_CA_FILE    whom to trust there
  CONFORMANCE_UPSTREAM_TOKEN      the token of the agent's service account,
  CONFORMANCE_UPSTREAM_TOKEN_FILE   and a file with it
  CONFORMANCE_KUBECONFIG          a kubeconfig with these three
  CONFORMANCE_AGENT_ID            agent-1f2e
  CONFORMANCE_NAME                the cluster's name, prod

and, empty unless the conversation is about that

  CONFORMANCE_IDENTITY, CONFORMANCE_INFO (JSON), CONFORMANCE_TUNNELS and CONFORMANCE_GATEWAYS
  (separated by commas), CONFORMANCE_BINARY_ANSWERS, CONFORMANCE_TERMINAL_TRANSLATION and
  CONFORMANCE_NO_YAMUX (1)

Example:

  conformance agent --without info,no-yamux --exec 'PIPEOPS_TOKEN=$CONFORMANCE_TOKEN exec pipeops-agent
    --api-url "$CONFORMANCE_URL" --ca-file "$CONFORMANCE_CA_FILE"
    --kubeconfig "$CONFORMANCE_KUBECONFIG"
    --agent-id "$CONFORMANCE_AGENT_ID" --cluster-name "$CONFORMANCE_NAME"'"#;

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
    #[command(after_help = OF_AGENTS)]
    Agent {
        #[command(flatten)]
        who: Who,
        /// What COMMAND cannot be set up with; conversations that need it are left out
        #[arg(
            long,
            value_name = "SETTINGS",
            value_enum,
            value_delimiter = ',',
            conflicts_with = "own"
        )]
        without: Vec<agent::Setting>,
        #[command(flatten)]
        play: Play,
    },
    /// Tests a controller
    Controller {
        /// Where agents find it, by https:// or wss://
        #[arg(long, value_name = "URL")]
        url: String,
        /// Token of an agent whose cluster has no other agent meanwhile
        #[arg(long, env = "CONFORMANCE_TOKEN", hide_env_values = true)]
        token: String,
        /// Whom to trust besides the system's authorities, in PEM
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
        /// Where clients find the cluster's API; without it nothing is played that needs a client
        #[arg(long, value_name = "URL", requires = "client_token")]
        client_url: Option<String>,
        /// Token of a client
        #[arg(
            long,
            value_name = "TOKEN",
            env = "CONFORMANCE_CLIENT_TOKEN",
            hide_env_values = true
        )]
        client_token: Option<String>,
        #[command(flatten)]
        play: Play,
    },
}

/// Which agent.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Who {
    /// The agent that this command starts
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// This project's own in this process, whose time is made to pass quickly
    #[arg(long, value_enum, value_name = "RUNTIME")]
    own: Option<RuntimeName>,
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
        Role::Agent { who, without, play } => {
            let subject = match (who.own, who.exec) {
                (Some(RuntimeName::Tokio), _) => agent::Subject::here(Tokio),
                (Some(RuntimeName::AsyncStd), _) => agent::Subject::here(AsyncStd),
                (None, line) => agent::Subject::command(agent::Command {
                    line: line.unwrap_or_default(),
                    without: without.into_iter().collect(),
                }),
            };
            (agent::run(&subject, &play.options()).await?, play)
        }
        Role::Controller {
            url,
            token,
            ca_file,
            client_url,
            client_token,
            play,
        } => {
            let client = match (client_url, client_token) {
                (Some(url), Some(token)) => Some(controller::Access {
                    url,
                    token: Token::new(token).context("the client's token")?,
                }),
                _ => None,
            };
            let subject = controller::Subject {
                name: format!("controller {url}"),
                url,
                token: Token::new(token).context("the agent's token")?,
                tls: TlsOptions {
                    ca_file,
                    ..TlsOptions::default()
                },
                client,
            };
            (controller::run(&subject, &play.options()).await?, play)
        }
    };
    play.show(&report)?;
    Ok(report.passed())
}
