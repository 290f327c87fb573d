//! After whatever happened, nothing is left, and the metrics say how it ended; in both modes, and
//! with the agent on both runtimes.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use controlplane_e2e::{
    metrics::{Metrics, until},
    world::{RuntimeName, Settings, World, mode},
};
use futures_util::{SinkExt, StreamExt};
use pipeops_controller::Mode;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;

use crate::bench::{PATIENCE, block_on_within, on_both_names};

on_both_names! {
    PATIENCE;
    answers_are_counted_by_class
    a_cancelled_watch_leaves_nothing
    an_exec_leaves_nothing_be_it_ended_or_left
    a_cut_connection_leaves_nothing_and_is_counted
    certificates_and_round_trips_are_told
}

const WATCH: &str = "/api/v1/namespaces/default/pods?watch=true";
const CLOSED: &str = "streams_closed_total";

/// Runs a test in each mode.
async fn in_both_modes<F: Future<Output = Result<()>>>(
    runtime: RuntimeName,
    test: impl Fn(World) -> F,
) -> Result<()> {
    for mode in [Mode::Fast, Mode::Json] {
        let settings = Settings {
            runtime,
            mode,
            hasty: true,
            ..Settings::default()
        };
        let world = World::start(settings, |_| {}).await?;
        let tested = test(world).await;
        tested.with_context(|| format!("in the mode {mode:?}"))?;
    }
    Ok(())
}

/// What both ends count of `name` with this label.
fn both(pages: &(Metrics, Metrics), name: &str, label: &str, value: &str) -> Result<[f64; 2]> {
    let (controller, agent) = pages;
    let of_controller = format!("controlplane_controller_{name}");
    let of_agent = format!("controlplane_agent_{name}");
    Ok([
        controller.with(&of_controller, label, value)?,
        agent.with(&of_agent, label, value)?,
    ])
}

async fn answers_are_counted_by_class(runtime: RuntimeName) -> Result<()> {
    in_both_modes(runtime, |world| async move {
        let client = world.client()?;
        for (path, status) in [
            ("/version", 200),
            ("/api/v1/namespaces/default/pods/nosuch", 404),
            ("/api/v1/bytes?n=1000000", 200),
        ] {
            let answer = client.get(path).await?;
            ensure!(answer.status() == status, "{path}: {}", answer.status());
            answer.bytes().await?;
        }
        // It never gets as far as the tunnel.
        let refused = client.with_token("wrong").get("/version").await?;
        ensure!(refused.status() == 401);
        world.tables_become_empty().await?;
        let pages = world.metrics().await?;
        ensure!(both(&pages, "requests_total", "code", "2xx")? == [2.0, 2.0]);
        ensure!(both(&pages, "requests_total", "code", "4xx")? == [1.0, 1.0]);
        ensure!(both(&pages, "requests_total", "code", "none")? == [0.0, 0.0]);
        let (controller, _) = &pages;
        let answered = controller.with("controlplane_controller_responses_total", "code", "4xx")?;
        ensure!(answered == 2.0, "{answered}");
        let [came, left] = [
            controller.with(
                "controlplane_controller_payload_bytes_total",
                "direction",
                "in",
            )?,
            pages
                .1
                .with("controlplane_agent_payload_bytes_total", "direction", "out")?,
        ];
        ensure!(came == left && came >= 1e6, "{left} bytes became {came}");
        Ok(())
    })
    .await
}

async fn a_cancelled_watch_leaves_nothing(runtime: RuntimeName) -> Result<()> {
    in_both_modes(runtime, |world| async move {
        let mut watch = world.client()?.get(WATCH).await?;
        ensure!(watch.next().await?.is_some());
        let (controller, agent) = world.metrics().await?;
        ensure!(controller.sum("controlplane_controller_streams_open")? >= 1.0);
        ensure!(agent.sum("controlplane_agent_streams_open")? >= 1.0);
        drop(watch);
        world.tables_become_empty().await?;
        let pages = world.metrics().await?;
        ensure!(both(&pages, CLOSED, "reason", "cancelled")? == [1.0, 1.0]);
        Ok(())
    })
    .await
}

async fn an_exec_leaves_nothing_be_it_ended_or_left(runtime: RuntimeName) -> Result<()> {
    in_both_modes(runtime, |world| async move {
        let client = world.client()?;
        let exec = "/api/v1/namespaces/default/pods/web-0/exec?stdin=true&stdout=true&command=";
        // To its very end, the close of the WebSocket.
        let path = format!("{exec}true");
        let mut socket = client.websocket(&path, "v5.channel.k8s.io").await?;
        while socket.next().await.transpose()?.is_some() {}
        socket.into_inner().shutdown().await?;
        world.tables_become_empty().await?;
        let pages = world.metrics().await?;
        let ended = both(&pages, CLOSED, "reason", "complete")?;
        ensure!(ended == [1.0, 1.0], "{ended:?}");
        // Its client goes away without a word.
        let path = format!("{exec}cat");
        let mut socket = client.websocket(&path, "v5.channel.k8s.io").await?;
        socket.send(Message::binary(b"\0more".to_vec())).await?;
        while let Some(message) = socket.next().await {
            if message?.into_data().ends_with(b"more") {
                break;
            }
        }
        drop(socket);
        world.tables_become_empty().await?;
        let pages = world.metrics().await?;
        let left = both(&pages, CLOSED, "reason", "cancelled")?;
        ensure!(left == [1.0, 1.0], "{left:?}");
        let switched = both(&pages, "requests_total", "code", "1xx")?;
        ensure!(switched == [2.0, 2.0], "{switched:?}");
        Ok(())
    })
    .await
}

async fn a_cut_connection_leaves_nothing_and_is_counted(runtime: RuntimeName) -> Result<()> {
    in_both_modes(runtime, |world| async move {
        let mut watch = world.client()?.get(WATCH).await?;
        ensure!(watch.next().await?.is_some());
        world.reset_control_connection().await?;
        ensure!(watch.bytes().await.is_err(), "it ends as if it were whole");
        world.tables_become_empty().await?;
        let pages = world.metrics().await?;
        let lost = both(&pages, CLOSED, "reason", "lost")?;
        ensure!(lost == [1.0, 1.0], "{lost:?}");
        let (controller, agent) = pages;
        let cause = "controlplane_controller_disconnects_total";
        ensure!(controller.with(cause, "cause", "network")? == 1.0);
        ensure!(agent.sum("controlplane_agent_reconnects_total")? == 1.0);
        ensure!(agent.with("controlplane_agent_reconnects_total", "cause", "network")? == 1.0);
        ensure!(agent.sum("controlplane_agent_registrations_total")? == 2.0);
        let state = "controlplane_agent_connection_state";
        ensure!(agent.sum(state)? == 1.0 && agent.with(state, "state", "registered")? == 1.0);
        Ok(())
    })
    .await
}

async fn certificates_and_round_trips_are_told(runtime: RuntimeName) -> Result<()> {
    in_both_modes(runtime, |world| async move {
        // The heartbeat that follows a registration at once.
        let took = "controlplane_agent_heartbeat_round_trip_seconds_count";
        until(|| async {
            let (_, agent) = world.metrics().await?;
            ensure!(agent.sum(took)? >= 1.0, "no heartbeat was acknowledged");
            Ok(())
        })
        .await?;
        let (controller, agent) = world.metrics().await?;
        let ends = "certificate_not_after_timestamp_seconds";
        let shown = format!("controlplane_controller_{ends}");
        let shown = controller.with(&shown, "certificate", "server")?;
        let seen = format!("controlplane_agent_{ends}");
        ensure!(agent.with(&seen, "certificate", "controller")? == shown);
        let ca = agent.with(&seen, "certificate", "ca")?;
        let pem = world.ca_pem()?;
        let expected = controlplane_health::not_after_pem(pem.as_bytes());
        ensure!(expected == [ca as i64]);
        let secrets = [world.user_token()?, agent_token(&world)?];
        for token in secrets {
            ensure!(!controller.text.contains(token.as_str()));
            ensure!(!agent.text.contains(token.as_str()));
        }
        Ok(())
    })
    .await
}

fn agent_token(world: &World) -> Result<controlplane_driver::Token> {
    let file = world.folder().join("agent.token");
    Ok(controlplane_driver::TokenSource::File(file).read()?)
}

// ---------------------------------------------------------------- the documentation

/// Labels whose values are names, or that a histogram has.
const OPEN: [&str; 5] = ["cluster", "version", "runtime", "certificate", "le"];

/// A page as the table has it: a row for each family, with the values of its labels.
fn rows(page: &Metrics) -> Vec<String> {
    let facts = |kind: &str| -> BTreeMap<String, String> {
        let lines = page.text.lines().filter_map(|line| line.strip_prefix(kind));
        let pairs = lines.filter_map(|line| line.split_once(' '));
        pairs.map(|(a, b)| (a.into(), b.into())).collect()
    };
    let (helps, kinds) = (facts("# HELP "), facts("# TYPE "));
    let row = |(family, kind): (&String, &String)| {
        let name = match kind.as_str() {
            "counter" => format!("{family}_total"),
            "info" => format!("{family}_info"),
            _ => family.clone(),
        };
        let bucket = format!("{family}_bucket");
        let mut labels: Vec<(String, Vec<String>)> = Vec::new();
        // In the order of the page, which is that of the enums.
        for line in page.text.lines() {
            let Some((sample, rest)) = line.split_once('{') else {
                continue;
            };
            if sample != name && sample != bucket {
                continue;
            }
            for pair in rest.split('}').next().unwrap_or_default().split(',') {
                let (label, value) = pair.split_once('=').unwrap_or_default();
                let value = value.trim_matches('"').to_owned();
                match labels.iter_mut().find(|(known, _)| known == label) {
                    Some((_, values)) if values.contains(&value) => {}
                    Some((_, values)) => values.push(value),
                    None => labels.push((label.into(), vec![value])),
                }
            }
        }
        let shown = labels.iter().filter(|(label, _)| label != "le");
        let shown = shown.map(|(label, values)| match OPEN.contains(&&**label) {
            true => format!("`{label}`"),
            false => format!("`{label}`: {}", values.join(", ")),
        });
        let shown: Vec<String> = shown.collect();
        let help = helps.get(family).map_or("", |help| help);
        format!("| `{name}` | {kind} | {} | {help} |", shown.join("; "))
    };
    kinds.iter().map(row).collect()
}

#[test]
fn the_table_of_metrics_is_what_the_programs_print() {
    for runtime in [RuntimeName::Tokio, RuntimeName::AsyncStd] {
        block_on_within(PATIENCE, async {
            let settings = Settings {
                runtime,
                mode: mode(),
                ..Settings::default()
            };
            let world = World::start(settings, |_| {}).await.unwrap();
            let (controller, agent) = world.metrics().await.unwrap();
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../METRICS.md");
            let text = fs::read_to_string(file).unwrap();
            for (who, page) in [("agent", agent), ("controller", controller)] {
                let prefix = format!("| `controlplane_{who}_");
                let written = text.lines().filter(|line| line.starts_with(&prefix));
                let written: Vec<&str> = written.collect();
                let printed = rows(&page);
                assert!(
                    written == printed,
                    "METRICS.md is stale; the rows of the {who} have to be\n{}",
                    printed.join("\n")
                );
            }
        });
    }
}
