//! Makes a subject as a vector wants it.

use std::{collections::BTreeMap, fs, time::Duration};

use controlplane_core::{
    Agent, AgentConfig, AgentInfo, Controller, ControllerConfig, HeartbeatStatus, Monitoring,
    MonitoringService, ServerSpecs, Start, Time,
};
use controlplane_world::vectors::{Config, Era};
use serde_json::Value;

/// 2025-11-02T22:00:00Z, since the UNIX epoch.
const MOMENT: Duration = Duration::from_secs(1_762_120_800);

fn start() -> Start {
    Start {
        now: Time::ZERO,
        unix: MOMENT,
        nonce: [7; 16],
    }
}

pub(super) fn agent(config: &Config) -> Result<(Agent, HeartbeatStatus), String> {
    let mut to = AgentConfig::new("agent-1f2e", "prod");
    to.binary_answers = config.binary_answers;
    to.encrypted = config.encrypted;
    to.yamux = !config.no_yamux;
    to.gateways.clone_from(&config.gateways);
    to.terminal_translation = config.terminal_translation;
    if let Some(policy) = &config.identity {
        to.policy = policy.parse().map_err(|e| format!("{e}"))?;
    }
    for target in &config.tunnels {
        to.tunnels.push(target.parse().map_err(|e| format!("{e}"))?);
    }
    let mut status = HeartbeatStatus::default();
    for (key, value) in &config.info {
        tell(&mut to.info, &mut status, key, value).ok_or_else(|| format!("info: {key}"))?;
    }
    let agent = Agent::new(to, start()).map_err(|e| e.to_string())?;
    Ok((agent, status))
}

pub(super) fn controller() -> Result<Controller, String> {
    let mut config = ControllerConfig::new("6f1c", "prod");
    config.workspace_id = Some(123);
    Controller::new(config, start()).map_err(|e| e.to_string())
}

/// One fact of the agent; `None` where there is no such.
fn tell(
    info: &mut AgentInfo,
    status: &mut HeartbeatStatus,
    key: &str,
    value: &Value,
) -> Option<()> {
    let text = || value.as_str().map(String::from);
    let number = |value: &Value| u32::try_from(value.as_u64()?).ok();
    match key {
        "agent_version" => info.agent_version = text()?,
        "cloud_provider" => info.cloud_provider = text()?,
        "cluster_id" => info.cluster_id = Some(text()?),
        "hostname" => info.hostname = text()?,
        "k8s_nodes" => status.k8s_nodes = Some(number(value)?),
        "k8s_pods" => status.k8s_pods = Some(number(value)?),
        "k8s_version" => info.k8s_version = text()?,
        "labels" => info.labels = texts(value)?,
        "metadata" => info.metadata = texts(value)?,
        "monitoring" => {
            let services = value.as_array()?.iter().map(monitoring);
            status.monitoring = services.collect::<Option<_>>()?;
        }
        "region" => info.region = text()?,
        "server_ip" => info.server_ip = text()?,
        "server_specs" => {
            let size = |key: &str| value.get(key).map_or(Some(0), number);
            info.server_specs = ServerSpecs {
                cpu_cores: size("cpu_cores")?,
                memory_gb: size("memory_gb")?,
                disk_gb: size("disk_gb")?,
                os: value.get("os")?.as_str()?.into(),
            };
        }
        _ => return None,
    }
    Some(())
}

fn texts(value: &Value) -> Option<BTreeMap<String, String>> {
    let pairs = value.as_object()?.iter();
    pairs
        .map(|(k, v)| Some((k.clone(), v.as_str()?.into())))
        .collect()
}

fn monitoring(value: &Value) -> Option<Monitoring> {
    let text = |key: &str| value.get(key)?.as_str().map(String::from);
    Some(Monitoring {
        service: match &*text("service")? {
            "grafana" => MonitoringService::Grafana,
            "loki" => MonitoringService::Loki,
            "opencost" => MonitoringService::OpenCost,
            "prometheus" => MonitoringService::Prometheus,
            _ => return None,
        },
        url: text("url")?,
        username: text("username")?,
        password: text("password")?,
        ssl: value.get("ssl")?.as_bool()?,
    })
}

/// What the tester says so that the agent is registered, with `${register}` in it.
pub(super) fn greeting(role: &str, era: Era) -> Result<String, String> {
    let file = super::directory().join("eras.json");
    let text = fs::read_to_string(&file).map_err(|e| format!("eras.json: {e}"))?;
    let eras: Value = serde_json::from_str(&text).map_err(|e| format!("eras.json: {e}"))?;
    let era = match era {
        Era::Seed => "seed",
        Era::Later => "later",
        Era::Ours => "ours",
    };
    let message = &eras[role][era];
    match message.is_object() {
        true => Ok(message.to_string()),
        false => Err(format!("eras.json: nothing for {role} and {era}")),
    }
}
