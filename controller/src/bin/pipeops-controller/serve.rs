//! `serve`: the server itself, until SIGTERM or SIGINT.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use pipeops_controller::{
    Mode, Running, Server, ServerConfig, ServerLimits, ServerTls,
    self_signed::{CLUSTER, SelfSigned},
};

use crate::{
    logging::{self, Format, Level},
    say,
};

const PORT: u16 = 8443;

/// Run the controller
///
/// Agents connect to /api/v1/clusters/agent/ws (and /ws), kubectl to /clusters/CLUSTER/, where
/// CLUSTER is the name or the id of a cluster; /healthz and /readyz answer 200. kubectl 1.31 or
/// newer execs, attaches, copies and forwards ports by WebSocket streams; SPDY, which older ones
/// use, passes in the fast mode and is else answered with a text that says so. Certificate, key and
/// credentials are read anew when their files change. Logs go to standard error, one line per
/// request or stream (target `audit`) among them whatever the level. SIGTERM and SIGINT let open
/// requests and streams end and stop the program with code 0; a second one ends it at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen [default: 0.0.0.0:8443, with --self-signed 127.0.0.1:8443]
    #[arg(long, value_name = "ADDRESS:PORT", env = "PIPEOPS_CONTROLLER_LISTEN")]
    listen: Option<SocketAddr>,

    /// Answer GET /livez, /readyz and /metrics at this address, without TLS: metrics name the
    /// clusters, so let only your monitoring reach it
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "PIPEOPS_CONTROLLER_HEALTH_LISTEN"
    )]
    health_listen: Option<SocketAddr>,

    /// How requests travel to agents: `fast` by HTTP streams with windows of their own, to every
    /// agent that offers it, else as JSON; `json` as JSON to every agent, for comparison
    #[arg(long, value_name = "MODE", default_value = "fast")]
    mode: ModeName,

    /// Certificate in PEM, followed by those between it and the authority's
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        required_unless_present = "self_signed",
        conflicts_with = "self_signed",
        env = "PIPEOPS_CONTROLLER_TLS_CERT"
    )]
    tls_cert: Option<PathBuf>,

    /// Key of the certificate, in PEM
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        env = "PIPEOPS_CONTROLLER_TLS_KEY"
    )]
    tls_key: Option<PathBuf>,

    /// Credentials file, as `token` makes it [default: with --self-signed, the one in DIR]
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "self_signed",
        env = "PIPEOPS_CONTROLLER_CREDENTIALS"
    )]
    credentials: Option<PathBuf>,

    /// Try it out: create a certificate, credentials and tokens in DIR where they are missing,
    /// and print the commands that use them
    #[arg(long, value_name = "DIR")]
    self_signed: Option<PathBuf>,

    /// Further host name or address in a new self-signed certificate; may be repeated
    #[arg(long, value_name = "NAME", requires = "self_signed")]
    tls_name: Vec<String>,

    /// Seconds that open requests and streams have to end after SIGTERM or SIGINT
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    drain_timeout: u64,

    /// Connections at once; beyond it new ones are dropped
    #[arg(long, value_name = "COUNT", default_value_t = ServerLimits::default().connections)]
    max_connections: usize,

    /// Connections of one address that have shown no token yet; beyond it they are answered
    /// with 503
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = ServerLimits::default().pending_per_address
    )]
    max_pending: usize,

    /// Agents that may connect in one second; beyond it they are answered with 503
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = ServerLimits::default().agent_handshakes_per_second
    )]
    max_handshakes: u32,

    /// What to log; libraries are never logged in more detail than debug
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "info",
        ignore_case = true,
        env = "PIPEOPS_LOG_LEVEL"
    )]
    log_level: Level,

    /// How to log
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: Format,
}

/// A [`Mode`] as it is written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ModeName {
    Fast,
    Json,
}

impl From<ModeName> for Mode {
    fn from(name: ModeName) -> Self {
        match name {
            ModeName::Fast => Self::Fast,
            ModeName::Json => Self::Json,
        }
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    logging::init(args.log_level, args.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(serve(args));
    runtime.shutdown_background();
    outcome
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let mut signals = Signals::catch().context("cannot wait for signals")?;
    let drain = Duration::from_secs(args.drain_timeout);
    let (config, folder) = config(args)?;
    let running = Server::start(config).await?;
    let address = running.addr();
    tracing::info!(%address, "listening");
    if let Some((folder, names)) = folder {
        say(&instructions(&folder, address, &names))?;
    }
    let signal = signals.next().await;
    tracing::info!(signal, "stopping: a second signal stops at once");
    tokio::select! {
        () = stop(running, drain) => Ok(()),
        signal = signals.next() => anyhow::bail!("stopped at once by a second signal, {signal}"),
    }
}

async fn stop(running: Running, drain: Duration) {
    running.shutdown(drain).await;
    tracing::info!("stopped");
}

/// A folder to try the controller out with, and the names that were asked for.
type TryOut = (SelfSigned, Vec<String>);

fn config(args: Args) -> anyhow::Result<(ServerConfig, Option<TryOut>)> {
    let host = match args.self_signed {
        Some(_) => Ipv4Addr::LOCALHOST,
        None => Ipv4Addr::UNSPECIFIED,
    };
    let listen = args.listen.unwrap_or_else(|| (host, PORT).into());
    let folder = match &args.self_signed {
        Some(path) => {
            let mut names = args.tls_name.clone();
            if !listen.ip().is_unspecified() {
                names.push(listen.ip().to_string());
            }
            let path = std::path::absolute(path)?;
            Some((SelfSigned::create(path, &names)?, args.tls_name))
        }
        None => None,
    };
    let tls = match (&folder, args.tls_cert, args.tls_key) {
        (Some((folder, _)), ..) => folder.tls(),
        (None, Some(cert), Some(key)) => ServerTls::Files { cert, key },
        _ => anyhow::bail!("--tls-cert and --tls-key, or --self-signed, are needed"),
    };
    let default = || folder.as_ref().map(|(folder, _)| folder.credentials());
    let credentials = args.credentials.or_else(default);
    let credentials = credentials.context("--credentials is needed")?;
    let limits = ServerLimits {
        connections: args.max_connections,
        pending_per_address: args.max_pending,
        agent_handshakes_per_second: args.max_handshakes,
        ..ServerLimits::default()
    };
    let config = ServerConfig {
        health_listen: args.health_listen,
        mode: args.mode.into(),
        limits,
        ..ServerConfig::new(listen, tls, credentials)
    };
    Ok((config, folder))
}

/// Commands to copy.
fn instructions(folder: &SelfSigned, address: SocketAddr, names: &[String]) -> String {
    let host = match (names.first(), address.ip()) {
        (Some(name), _) => name.clone(),
        (None, ip) if ip.is_unspecified() => "localhost".into(),
        (None, IpAddr::V6(ip)) => format!("[{ip}]"),
        (None, ip) => ip.to_string(),
    };
    let url = format!("https://{host}:{}", address.port());
    let ca = quote(&folder.ca());
    let agent_token = quote(&folder.agent_token());
    let user_token = quote(&folder.user_token());
    let kubeconfig = quote(&folder.ca().with_file_name("kubeconfig"));
    format!(
        "\
The controller listens on {url}.

An agent for the cluster {CLUSTER:?} (add `--kubeconfig FILE` outside of the cluster):

  pipeops-agent --api-url {url} --ca-file {ca} --token-file {agent_token} --cluster-name {CLUSTER}

kubectl:

  pipeops-controller kubeconfig --server {url} --cluster {CLUSTER} --ca {ca} \
--token-file {user_token} --out {kubeconfig} --force
  kubectl --kubeconfig {kubeconfig} get pods -A

This certificate is for trying out only. Anyone who reads that folder has these rights.
"
    )
}

/// A path as a shell reads it.
fn quote(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn catch() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    #[cfg(unix)]
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    #[cfg(not(unix))]
    fn catch() -> std::io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> &'static str {
        let _ = tokio::signal::ctrl_c().await;
        "Ctrl-C"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_copied_whatever_the_folder_is_called() {
        let folder = SelfSigned::at("/x y/it's");
        let text = instructions(&folder, ([127, 0, 0, 1], 8443).into(), &[]);
        assert!(text.contains(r"--ca-file '/x y/it'\''s/ca.pem' "), "{text}");
        assert!(text.contains("--api-url https://127.0.0.1:8443 "), "{text}");
    }

    #[test]
    fn the_url_is_one_that_the_certificate_holds() {
        let folder = SelfSigned::at("d");
        for (address, names, url) in [
            ("0.0.0.0:1", &[][..], "https://localhost:1"),
            ("[::1]:1", &[], "https://[::1]:1"),
            (
                "0.0.0.0:1",
                &["c.example.com".to_owned()],
                "https://c.example.com:1",
            ),
        ] {
            let text = instructions(&folder, address.parse().unwrap(), names);
            assert!(
                text.starts_with(&format!("The controller listens on {url}.\n")),
                "{text}"
            );
        }
    }
}
