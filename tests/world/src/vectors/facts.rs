//! What an agent tells of itself, as a vector's `info` has it.

use std::collections::BTreeMap;

use controlplane_core::{AgentInfo, HeartbeatStatus, Monitoring, MonitoringService, ServerSpecs};
use serde_json::Value;

use super::Config;

/// What `register` and the heartbeats of an agent of this `config` say; `info` has its id and name.
///
/// # Errors
///
/// The vector names something that no agent tells.
pub fn told(config: &Config, mut info: AgentInfo) -> Result<(AgentInfo, HeartbeatStatus), String> {
    let mut status = HeartbeatStatus::default();
    for (key, value) in &config.info {
        tell(&mut info, &mut status, key, value).ok_or_else(|| format!("info: {key}"))?;
    }
    Ok((info, status))
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
