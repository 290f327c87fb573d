//! Starts an agent with given settings: everything is checked first, so that what is wrong is
//! told at once instead of retried for ever.

use std::time::Duration;

use controlplane_driver::{Agent, IdentityPolicy, Kubernetes, Runtime, sleep, timeout};

use crate::{VERSION, config::Config, error::Error, escape::escape, facts, url};

/// For the Kubernetes API to tell its version.
const VERSION_LIMIT: Duration = Duration::from_secs(5);
/// Attempts to learn it, and the pause between two of them.
const VERSION_ATTEMPTS: u32 = 3;
const VERSION_PAUSE: Duration = Duration::from_millis(500);

/// Starts an agent; call it inside the runtime.
///
/// The agent then connects, registers and reconnects by itself, until its last handle is dropped
/// or it is shut down. Of `config`, the fields for health checks and for draining are left to
/// [`crate::run()`].
///
/// # Errors
///
/// A setting is not usable, or a file that it names. That the control plane or the Kubernetes API
/// cannot be reached is no error.
pub async fn start<R: Runtime>(runtime: R, config: Config) -> Result<Agent<R>, Error> {
    let control_plane = url::check(&config.api_url, config.allow_plaintext)?;
    config.token.read()?;
    config.tls.client_config()?;
    let agent_id = config.agent_id.resolve()?;
    let kubernetes = Kubernetes::new(runtime.clone(), config.kubernetes.clone())?;
    tracing::info!(
        version = VERSION,
        runtime = runtime.name(),
        agent_id,
        cluster = escape(&config.cluster_name),
        control_plane,
        proxy = config.proxies.proxy_of(&config.api_url),
        identity = config.identity.as_str(),
        "starting"
    );
    if config.allow_plaintext {
        tracing::warn!(
            "--allow-plaintext: the token may travel unencrypted; use it for tests only"
        );
    }
    let ignored = config.proxies.ignored();
    if !ignored.is_empty() {
        tracing::warn!(
            entries = ignored.join(","),
            "of NO_PROXY, what is neither a host nor a network is ignored"
        );
    }
    if !config.tunnels.is_empty() {
        let targets: Vec<String> = config.tunnels.iter().map(ToString::to_string).collect();
        tracing::info!(targets = targets.join(","), "tunnels are permitted");
    }
    if !config.gateways.is_empty() {
        tracing::info!(hosts = config.gateways.join(","), "gateways are permitted");
    }
    let upstream = &config.kubernetes;
    let certificate = upstream.tls.cert_file.is_some() || !upstream.tls.cert_pem.is_empty();
    if upstream.token.is_none() && !certificate && config.identity != IdentityPolicy::Caller {
        tracing::warn!(
            "there are no credentials for the Kubernetes API, which will see requests as \
             anonymous; give the kubeconfig's user a token or a client certificate"
        );
    }
    let k8s_version = version(&runtime, &kubernetes).await;
    let info = facts::info(&config, agent_id, k8s_version);
    let agent = Agent::<R>::builder(config.api_url, config.token, info)
        .runtime(runtime)
        .tls(config.tls)
        .proxies(config.proxies)
        .allow_plaintext(config.allow_plaintext)
        .identity(config.identity)
        .terminal_translation(config.terminal_translation)
        .binary_answers(config.binary_answers)
        .tunnels(config.tunnels)
        .gateways(config.gateways)
        .handler(kubernetes)
        .periods(config.periods)
        .backoff(config.backoff)
        .limits(config.limits)
        .start()?;
    Ok(agent)
}

/// Version of Kubernetes, empty where it cannot be learnt in time.
///
/// The original then claims `v1.28.0+k3s1` (P-032). We do not: a control plane can tell an empty
/// text from a version, but not an invented version from a real one.
async fn version<R: Runtime>(runtime: &R, kubernetes: &Kubernetes<R>) -> String {
    let learn = async {
        let mut attempt = 1;
        loop {
            match kubernetes.version().await {
                Ok(version) => return Ok(version),
                Err(error) if attempt == VERSION_ATTEMPTS => return Err(error.to_string()),
                Err(_) => attempt += 1,
            }
            sleep(runtime, VERSION_PAUSE).await;
        }
    };
    let problem = match timeout(runtime, VERSION_LIMIT, learn).await {
        Some(Ok(version)) => return version,
        Some(Err(problem)) => escape(&problem),
        None => format!("no answer within {} s", VERSION_LIMIT.as_secs()),
    };
    tracing::warn!(
        problem,
        "the Kubernetes API does not tell its version, so none is registered until the agent is \
         restarted; check that it can be reached and that the agent may use it"
    );
    String::new()
}
