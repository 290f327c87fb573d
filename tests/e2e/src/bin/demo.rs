//! The demo: a Kubernetes API, a controller and an agent in one process, ready for your kubectl.

#![expect(
    clippy::print_stdout,
    reason = "the demo talks to the person who started it"
)]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser;
use controlplane_e2e::{
    tour::tour,
    world::{RuntimeName, Settings, World},
};
use pipeops_agent::logging::{self, Format, Level};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Starts a stand-in Kubernetes API, a controller and an agent in one process, on free loopback
/// ports with certificates of their own, sends requests through the tunnel, and stays for your
/// kubectl until Ctrl-C.
///
/// The stand-in serves pods, logs, ConfigMaps and Namespaces; `exec` runs commands on this machine,
/// with your rights, for whoever has the token in the folder. Nothing leaves this machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Make the tour, then stop; exit status 0 if all went well.
    #[arg(long)]
    once: bool,
    /// Runtime of the agent.
    #[arg(long, value_enum, default_value_t)]
    runtime: RuntimeName,
    /// Keep certificates, tokens and kubeconfig in this folder [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// How much to log to standard error.
    #[arg(long, value_enum, default_value_t = Level::Error)]
    log_level: Level,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(demo(cli)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo(cli: Cli) -> Result<()> {
    logging::init(logging::Options {
        level: cli.log_level,
        format: Format::Text,
    })?;
    let settings = Settings {
        runtime: cli.runtime,
        folder: cli.folder,
        ..Settings::default()
    };
    let tell = |text: &str| println!("demo: {text}");
    let world = World::start(settings, tell).await?;
    println!("\nThrough the tunnel:");
    tour(&world, |text| println!("  {text}")).await?;
    if !cli.once {
        // Whoever reads the invitation may interrupt at once.
        let stop = signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?;
        invite(&world);
        stay(&world, stop).await;
        println!("\ndemo: stopping");
    }
    world.shutdown().await;
    if cli.once {
        println!("\ndemo: all went well");
    }
    Ok(())
}

fn invite(world: &World) {
    println!(
        "\nYour turn, in another terminal:\n\n\
         export KUBECONFIG={}\n\
         kubectl version\n\
         kubectl get pods -o wide\n\
         kubectl get pods -w\n\
         kubectl logs -f web-0\n\
         kubectl exec web-0 -- sh -c 'echo it runs; exit 3'\n\
         kubectl exec -it web-0 -- sh\n\
         kubectl create configmap mine --from-literal=a=b\n\
         kubectl get configmap mine -o yaml\n\
         kubectl delete configmap mine\n\n\
         Every few seconds a pod changes and logs a line. Ctrl-C stops the demo.",
        world.kubeconfig().display()
    );
}

/// Gives watches and logs something to show until Ctrl-C.
async fn stay(world: &World, mut stop: Signal) {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    for count in 0u64.. {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.recv() => return,
        }
        // The pod may have been deleted by the person who tries this out.
        let _ = world
            .standin
            .push_log("web-0", &format!("request {count} served"));
        let _ = world.standin.touch_pod("web-0");
    }
}
