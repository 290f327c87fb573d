//! What the tunnel costs, as ratios to the same requests sent to the stand-in directly in the same
//! run, and what one stream whose reader stopped costs the others, as a ratio to the same without
//! it: `cargo bench -p controlplane-e2e`. Only the latter, in half a minute:
//! `cargo bench -p controlplane-e2e -- stalled`. The mode is that of `E2E_MODE`, but that the latter
//! is measured in both.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use controlplane_e2e::{
    client::Client,
    world::{RuntimeName, Settings, World, mode},
};
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use pipeops_controller::Mode;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Bytes of one download.
const BULK: u64 = 64 << 20;
/// Requests or keystrokes, one after the other.
const SMALL: usize = 200;
/// Requests at once: within what the controller lets one address have in handshakes.
const BURST: usize = 50;
/// Bytes that a command writes.
const OUTPUT: usize = 32 << 20;
const ROUNDS: usize = 5;
/// Streams through one tunnel of which one has a reader that stopped.
const STREAMS: usize = 100;
/// Requests on each of the others in a turn; there are as many turns without the stalled one as
/// with it.
const ECHOES: usize = 20;
const TURNS: usize = 4;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let runtimes = [RuntimeName::Tokio, RuntimeName::AsyncStd];
    if !std::env::args().any(|arg| arg == "stalled") {
        println!(
            "ratios of medians, tunnel to direct, {:?}; {ROUNDS} rounds, each in turn",
            mode()
        );
        for name in runtimes {
            runtime.block_on(compare(name))?;
        }
    }
    println!(
        "p99 of {} streams beside one whose reader stopped, to that without it",
        STREAMS - 1
    );
    for name in runtimes {
        for mode in [Mode::Fast, Mode::Json] {
            runtime.block_on(beside_a_stalled_one(name, mode))?;
        }
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
        key(&mut socket).await?;
    }
    Ok(socket.close(None).await?)
}

/// Types one key and waits until it comes back.
async fn key<S>(socket: &mut S) -> Result<()>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
    socket.send(Message::binary(&b"\0x"[..])).await?;
    loop {
        let message = socket.next().await.context("the stream ended")??;
        if message.into_data() == b"\x01x"[..] {
            return Ok(());
        }
    }
}

/// Small requests on all streams but one, in turn, without and with something that fills the one.
/// Each waits for the one before: what is measured is the way through the tunnel.
async fn beside_a_stalled_one(runtime: RuntimeName, mode: Mode) -> Result<()> {
    let settings = Settings {
        runtime,
        mode,
        ..Settings::default()
    };
    let world = World::start(settings, |_| {}).await?;
    let client = world.client()?;
    let path = "/api/v1/namespaces/default/pods/web-0/exec?command=cat&stdin=true&stdout=true";
    let mut sockets = Vec::new();
    for _ in 1..STREAMS {
        sockets.push(client.websocket(path, "v5.channel.k8s.io").await?);
    }
    let flood =
        "/api/v1/namespaces/default/pods/web-1/exec?command=cat&command=/dev/zero&stdout=true";
    let mut spans = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (stalled, spans) in [false, true].into_iter().zip(&mut spans) {
            let unread = match stalled {
                true => Some(client.websocket(flood, "v5.channel.k8s.io").await?),
                false => None,
            };
            // The first time around, what is on the way to the stopped reader fills up.
            for round in 0..=ECHOES {
                for socket in &mut sockets {
                    let start = Instant::now();
                    key(socket).await?;
                    if round > 0 {
                        spans.push(start.elapsed());
                    }
                }
            }
            drop(unread);
            world.standin.streams_become(STREAMS - 1).await;
        }
    }
    let [idle, stalled] = spans.map(p99);
    println!(
        "{:<10} {:<24} {:>6.2}   ({} µs idle, {} µs beside the stalled one)",
        runtime.as_str(),
        format!("{mode:?}"),
        stalled.as_secs_f64() / idle.as_secs_f64(),
        idle.as_micros(),
        stalled.as_micros(),
    );
    drop(sockets);
    world.shutdown().await;
    Ok(())
}

fn p99(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans[spans.len() * 99 / 100]
}

fn median(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans[spans.len() / 2]
}
