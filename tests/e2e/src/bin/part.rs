//! One part of a world in a process of its own, so that tests can kill it. It says when it is
//! ready, in one line, and runs until then.

#![expect(
    clippy::print_stdout,
    reason = "the test that started it waits for the line"
)]

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use controlplane_e2e::world::{
    RuntimeName, Settings,
    parts::{Api, serve, start_agent},
};
use pipeops_controller::self_signed::SelfSigned;

/// For tests only.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The agent.
    Agent {
        folder: PathBuf,
        controller: SocketAddr,
        api: String,
        #[arg(long, value_enum)]
        runtime: RuntimeName,
    },
    /// The controller.
    Controller { folder: PathBuf },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().part {
        Part::Agent {
            folder,
            controller,
            api,
            runtime,
        } => {
            let settings = Settings {
                runtime,
                hasty: true,
                ..Settings::default()
            };
            let (files, api) = (SelfSigned::at(&folder), Api::at(&folder, api));
            let (agent, health) = start_agent(&files, &api, controller, &settings).await?;
            agent.registered().await?;
            println!("registered {}", health.address());
            std::future::pending().await
        }
        Part::Controller { folder } => {
            let local = SocketAddr::from(([127, 0, 0, 1], 0));
            let running = serve(&SelfSigned::at(&folder), local, &Settings::default()).await?;
            let health = running.health_addr().context("no health")?;
            println!("{} {health}", running.addr());
            std::future::pending().await
        }
    }
}
