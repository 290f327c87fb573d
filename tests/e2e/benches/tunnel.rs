//! What the tunnel costs, as ratios to the same requests sent to the stand-in directly in the same
//! run: `cargo bench -p controlplane-e2e`.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use controlplane_e2e::{
    client::Client,
    world::{RuntimeName, Settings, World},
};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

/// Bytes of one download.
const BULK: u64 = 64 << 20;
/// Requests or keystrokes, one after the other.
const SMALL: usize = 200;
/// Requests at once: within what the controller lets one address have in handshakes.
const BURST: usize = 50;
/// Bytes that a command writes.
const OUTPUT: usize = 32 << 20;
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    println!("ratios of medians, tunnel to direct; {ROUNDS} rounds, each in turn");
    for name in [RuntimeName::Tokio, RuntimeName::AsyncStd] {
        runtime.block_on(compare(name))?;
    }
    Ok(())
}

async fn compare(runtime: RuntimeName) -> Result<()> {
    let settings = Settings {
        runtime,
        ..Settings::default()
    };
    let world = World::start(settings, |_| {}).await?;
    let tunnel = world.client()?;
    let ca = world.standin.ca_pem().as_bytes();
    let mut direct = Client::new(world.standin.addr(), ca, "", world.standin.token())?;
    direct.prefix.clear();
    for (what, measure) in [
        ("64 MiB download", Measure::Download),
        ("200 requests one by one", Measure::Small),
        ("50 requests at once", Measure::Burst),
        ("32 MiB of an exec", Measure::Output),
        ("200 keystrokes", Measure::Keys),
    ] {
        let mut spans = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (client, spans) in [&direct, &tunnel].into_iter().zip(&mut spans) {
                let start = Instant::now();
                let outcome = measure.run(client).await;
                outcome.with_context(|| format!("{what} at {:?}", client.prefix))?;
                spans.push(start.elapsed());
            }
        }
        let [direct, tunnel] = spans.map(median);
        println!(
            "{:<10} {what:<24} {:>6.2}   ({} ms direct, {} ms through the tunnel)",
            runtime.as_str(),
            tunnel.as_secs_f64() / direct.as_secs_f64(),
            direct.as_millis(),
            tunnel.as_millis(),
        );
    }
    world.shutdown().await;
    Ok(())
}

#[derive(Clone, Copy)]
enum Measure {
    Download,
    Small,
    Burst,
    Output,
    Keys,
}

impl Measure {
    async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::Download => {
                let mut answer = client.get(&format!("/api/v1/bytes?n={BULK}")).await?;
                let mut read = 0;
                while let Some(data) = answer.next().await? {
                    read += data.len() as u64;
                }
                anyhow::ensure!(read == BULK, "{read} bytes");
            }
            Self::Small => {
                for _ in 0..SMALL {
                    client.get("/version").await?.bytes().await?;
                }
            }
            Self::Output => {
                let script = format!("head -c {OUTPUT} /dev/zero");
                let executed = client.exec("web-0", &script, "").await?;
                let len = executed.stdout.len();
                anyhow::ensure!(len == OUTPUT, "{len} bytes");
            }
            Self::Keys => keys(client).await?,
            Self::Burst => {
                let requests =
                    (0..BURST).map(|_| async { client.get("/version").await?.bytes().await });
                for outcome in futures_util::future::join_all(requests).await {
                    outcome?;
                }
            }
        }
        Ok(())
    }
}

/// Types into a process that repeats what it reads, each key when the one before has come back.
async fn keys(client: &Client) -> Result<()> {
    let path = "/api/v1/namespaces/default/pods/web-0/exec?command=cat&stdin=true&stdout=true";
    let mut socket = client.websocket(path, "v5.channel.k8s.io").await?;
    for _ in 0..SMALL {
        socket.send(Message::binary(&b"\0x"[..])).await?;
        loop {
            let message = socket.next().await.context("the stream ended")??;
            if message.into_data() == b"\x01x"[..] {
                break;
            }
        }
    }
    Ok(socket.close(None).await?)
}

fn median(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans[spans.len() / 2]
}
