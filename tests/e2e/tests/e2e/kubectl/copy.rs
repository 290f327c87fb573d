//! `kubectl cp` of much data, with the controller and the agent as processes of their own: what
//! arrives is what was sent, and neither process grows, however slow the pod reads and whatever else
//! passes beside it. `COPY_MIB` says how much; 32 by default, so that it fits a CI run. The JSON mode
//! bounds each stream by megabytes on each side, but does not promise so little for all of it.

use std::{
    env, fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use controlplane_e2e::{
    standin::{Options, StandIn},
    world::{RuntimeName, parts::Parts},
};
use sha2::{Digest as _, Sha256};

use super::Kubectl;
use crate::bench::{on_both_names, skipped_in_json};

/// A gibibyte that is read at 5 MB/s takes four minutes.
const LONG: Duration = Duration::from_secs(900);
/// Most that the controller or the agent may ever have resident, in KiB.
const RESIDENT: u64 = 64 << 10;

on_both_names! {
    LONG;
    a_copy_both_ways
    a_copy_to_a_pod_that_reads_slowly
    a_copy_beside_a_flood
}

/// `tar` as a pod has it that reads 5 MB in a second.
const SLOW_TAR: &str = r#"#!/bin/sh
piece=$(mktemp)
while dd bs=512k count=1 iflag=fullblock of="$piece" 2>/dev/null && [ -s "$piece" ]; do
    cat "$piece"
    sleep 0.1
done | /bin/tar "$@"
status=$?
rm -f "$piece"
exit $status
"#;

struct Copy {
    parts: Parts,
    kubectl: Kubectl,
    here: PathBuf,
    there: PathBuf,
    hash: [u8; 32],
}

fn mebibytes() -> usize {
    let given = env::var("COPY_MIB").ok();
    given.and_then(|mib| mib.parse().ok()).unwrap_or(32)
}

impl Copy {
    /// `None` where there is no kubectl, and in the JSON mode.
    async fn start(runtime: RuntimeName) -> Result<Option<Self>> {
        if skipped_in_json("much more memory is needed toward a slow pod") {
            return Ok(None);
        }
        let standin = StandIn::start(Options::default()).await?;
        let program = Path::new(env!("CARGO_BIN_EXE_part"));
        let mut parts = Parts::start(program, runtime, standin).await?;
        parts.start_agent(parts.address).await?;
        let Some(kubectl) = Kubectl::at(parts.folder()) else {
            return Ok(None);
        };
        // Copying needs a registration that the controller knows of, too.
        kubectl.run(&["version"]).await?;
        let here = parts.folder().join("here");
        let there = parts.folder().join("there");
        fs::create_dir_all(&here)?;
        fs::create_dir_all(&there)?;
        let hash = write(&here.join("data"), mebibytes())?;
        Ok(Some(Self {
            parts,
            kubectl,
            here,
            there,
            hash,
        }))
    }

    fn pod(&self, name: &str) -> String {
        format!("web-0:{}", self.there.join(name).display())
    }

    async fn upload(&self) -> Result<()> {
        let data = self.here.join("data").display().to_string();
        self.kubectl.run(&["cp", &data, &self.pod("data")]).await?;
        ensure!(hash(&self.there.join("data"))? == self.hash, "to the pod");
        Ok(())
    }

    async fn download(&self) -> Result<()> {
        let back = self.here.join("back").display().to_string();
        self.kubectl.run(&["cp", &self.pod("data"), &back]).await?;
        ensure!(hash(Path::new(&back))? == self.hash, "from the pod");
        Ok(())
    }

    /// What the controller and the agent had resident at most, in KiB.
    fn resident(&self) -> Result<Vec<u64>> {
        let pids = self.parts.pids().into_iter();
        pids.map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let words = line.context("no VmHWM")?.split_whitespace();
            Ok(words.take(1).collect::<String>().parse()?)
        })
        .collect()
    }

    fn check(&self, what: &str, start: Instant) -> Result<()> {
        let resident = self.resident()?;
        let seconds = start.elapsed().as_secs_f64();
        let mib = mebibytes();
        eprintln!(
            "{what}: {mib} MiB each way in {seconds:.1} s, resident at most {resident:?} KiB"
        );
        ensure!(resident.len() == 2, "a process is gone");
        ensure!(
            resident.iter().all(|kib| *kib <= RESIDENT),
            "resident at most: {resident:?} KiB"
        );
        Ok(())
    }
}

/// Writes so much that does not repeat, and returns its hash.
fn write(path: &Path, mebibytes: usize) -> Result<[u8; 32]> {
    let mut file = fs::File::create(path)?;
    let mut sha = Sha256::new();
    let mut state = 1_u64;
    for _ in 0..mebibytes {
        let mut block = Vec::with_capacity(1 << 20);
        while block.len() < 1 << 20 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            block.extend(state.to_le_bytes());
        }
        sha.update(&block);
        file.write_all(&block)?;
    }
    Ok(sha.finalize().into())
}

fn hash(path: &Path) -> Result<[u8; 32]> {
    let mut file = fs::File::open(path).with_context(|| path.display().to_string())?;
    let mut sha = Sha256::new();
    std::io::copy(&mut file, &mut Hashing(&mut sha))?;
    Ok(sha.finalize().into())
}

struct Hashing<'a>(&'a mut Sha256);

impl std::io::Write for Hashing<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn a_copy_both_ways(runtime: RuntimeName) -> Result<()> {
    let Some(copy) = Copy::start(runtime).await? else {
        return Ok(());
    };
    let start = Instant::now();
    copy.upload().await?;
    copy.download().await?;
    copy.check("both ways", start)
}

async fn a_copy_to_a_pod_that_reads_slowly(runtime: RuntimeName) -> Result<()> {
    let Some(copy) = Copy::start(runtime).await? else {
        return Ok(());
    };
    let bin = copy.parts.folder().join("bin");
    fs::create_dir_all(&bin)?;
    fs::write(bin.join("tar"), SLOW_TAR)?;
    fs::set_permissions(bin.join("tar"), fs::Permissions::from_mode(0o755))?;
    let rest = env::var("PATH").unwrap_or_default();
    let path = format!("{}:{rest}", bin.display());
    copy.parts.standin.set_path(path);
    let start = Instant::now();
    copy.upload().await?;
    copy.check("to a pod that reads slowly", start)
}

async fn a_copy_beside_a_flood(runtime: RuntimeName) -> Result<()> {
    let Some(copy) = Copy::start(runtime).await? else {
        return Ok(());
    };
    let script = "exec cat /dev/zero";
    let flood = ["exec", "web-1", "--", "sh", "-c", script];
    let mut flood = copy.kubectl.command(&flood);
    let mut flood = flood.stdout(std::process::Stdio::null()).spawn()?;
    let start = Instant::now();
    copy.upload().await?;
    copy.download().await?;
    ensure!(flood.try_wait()?.is_none(), "the flood has ended");
    flood.kill().await?;
    copy.check("beside a flood", start)
}
