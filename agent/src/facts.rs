//! What the agent tells about the machine it runs on. What cannot be found out stays empty.

use std::{collections::BTreeMap, env, fs, thread};

use controlplane_driver::{AgentInfo, ServerSpecs};

use crate::{VERSION, config::Config};

/// What `register` says (P-032).
///
/// `server_ip` is the protocol's text for an unknown address: the agent asks no service in the
/// internet for its own.
pub(crate) fn info(config: &Config, agent_id: String, k8s_version: String) -> AgentInfo {
    let hostname = hostname();
    AgentInfo {
        agent_id,
        name: config.cluster_name.clone(),
        k8s_version,
        region: config.region.clone(),
        labels: labels(&config.labels, &hostname),
        hostname,
        agent_version: VERSION.into(),
        server_ip: "0.0.0.0".into(),
        cloud_provider: config.cloud_provider.clone(),
        server_specs: specs(),
        ..AgentInfo::default()
    }
}

/// The operator's labels win over those that the agent adds.
fn labels(own: &BTreeMap<String, String>, hostname: &str) -> BTreeMap<String, String> {
    let added = [
        ("hostname", hostname),
        ("agent.pipeops.io/version", VERSION),
    ];
    let mut labels = own.clone();
    for (key, value) in added {
        labels.entry(key.into()).or_insert_with(|| value.into());
    }
    labels
}

fn hostname() -> String {
    let file = fs::read_to_string("/etc/hostname").unwrap_or_default();
    match file.trim() {
        "" => env::var("HOSTNAME").unwrap_or_default().trim().into(),
        name => name.into(),
    }
}

fn specs() -> ServerSpecs {
    let cores = thread::available_parallelism().map_or(0, |n| n.get());
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    ServerSpecs {
        cpu_cores: u32::try_from(cores).unwrap_or_default(),
        memory_gb: memory_gb(&memory).unwrap_or_default(),
        disk_gb: 0,
        os: env::consts::OS.into(),
    }
}

/// `MemTotal` in GiB, to the nearest: a machine of 16 GiB reports somewhat less.
fn memory_gb(meminfo: &str) -> Option<u32> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    u32::try_from((kib + (1 << 19)) >> 20).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_rounded_and_may_be_unknown() {
        assert_eq!(
            memory_gb("MemTotal:       16384000 kB\nMemFree: 1 kB\n"),
            Some(16)
        );
        assert_eq!(memory_gb("MemTotal: 524288 kB"), Some(1));
        assert_eq!(memory_gb("MemFree: 1 kB"), None);
        assert_eq!(memory_gb("MemTotal: lots"), None);
    }

    #[test]
    fn the_operators_labels_win() {
        let own = [("env", "prod"), ("hostname", "mine")];
        let own = own.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let all = labels(&own, "n1");
        assert_eq!(all["env"], "prod");
        assert_eq!(all["hostname"], "mine");
        assert_eq!(all["agent.pipeops.io/version"], VERSION);
        assert_eq!(labels(&BTreeMap::new(), "n1")["hostname"], "n1");
    }
}
