//! Reads, writes, watches and logs.

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use controlplane_driver::Token;
use controlplane_e2e::world::World;

use super::{Kubectl, kubectl};
use crate::bench::in_both_worlds;

in_both_worlds! {
    reads
    writes
    applies
    a_watch_shows_an_event_at_once
    followed_logs_come_line_by_line
    everything_still_works_after_the_connection_was_reset
    everything_still_works_after_the_controller_restarted
    a_watch_ends_when_the_connection_is_reset
    followed_logs_end_when_the_connection_is_reset
    a_wrong_token_is_told_our_text
    an_agent_that_is_away_is_told_our_text
}

async fn check_reads(kubectl: &Kubectl) -> Result<()> {
    let version = kubectl.run(&["version"]).await?;
    // Older ones print the same in another form.
    let server = version
        .lines()
        .find(|line| line.starts_with("Server Version: "));
    ensure!(server.is_some_and(|line| line.contains("v1.")), "{version}");
    let table = kubectl.run(&["get", "pods"]).await?;
    let mut lines = table.lines();
    let columns: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    ensure!(
        columns == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"],
        "{table}"
    );
    ensure!(
        lines.next().is_some_and(|line| line.starts_with("web-0 ")),
        "{table}"
    );
    let wide = kubectl.run(&["get", "pods", "-o", "wide"]).await?;
    ensure!(wide.contains("NODE"), "{wide}");
    let json = kubectl.run(&["get", "pods", "-o", "json"]).await?;
    let list: serde_json::Value = serde_json::from_str(&json)?;
    ensure!(list["items"][0]["metadata"]["name"] == "web-0", "{json}");
    let unknown = kubectl.fail(&["get", "pod", "nosuch"]).await?;
    let expected = "Error from server (NotFound): pods \"nosuch\" not found\n";
    ensure!(unknown == expected, "{unknown}");
    Ok(())
}

async fn reads(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    check_reads(&kubectl).await?;
    world.standin.push_log("web-0", "one")?;
    world.standin.push_log("web-0", "two")?;
    let log = kubectl.run(&["logs", "web-0", "--tail=1"]).await?;
    ensure!(log == "two\n", "{log}");
    Ok(())
}

async fn writes(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    let created = kubectl
        .run(&["create", "configmap", "a", "--from-literal=k=v"])
        .await?;
    ensure!(created == "configmap/a created\n", "{created}");
    let twice = kubectl.fail(&["create", "configmap", "a"]).await?;
    ensure!(twice.contains("configmaps \"a\" already exists"), "{twice}");
    let value = kubectl
        .run(&["get", "configmap", "a", "-o", "jsonpath={.data.k}"])
        .await?;
    ensure!(value == "v", "{value}");
    let deleted = kubectl.run(&["delete", "configmap", "a"]).await?;
    ensure!(deleted.contains("configmap \"a\" deleted"), "{deleted}");
    let gone = kubectl.fail(&["get", "configmap", "a"]).await?;
    ensure!(gone.contains("(NotFound)"), "{gone}");
    let created = kubectl.run(&["create", "namespace", "n"]).await?;
    ensure!(created == "namespace/n created\n", "{created}");
    let deleted = kubectl.run(&["delete", "namespace", "n"]).await?;
    ensure!(deleted.contains("namespace \"n\" deleted"), "{deleted}");
    Ok(())
}

async fn applies(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    let manifest = |value: &str| -> Result<String> {
        let file = world.folder().join("manifest.yaml");
        let text =
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata:\n  k: {value}\n");
        fs::write(&file, text)?;
        Ok(path_text(&file))
    };
    for (value, outcome) in [
        ("one", "created"),
        ("one", "unchanged"),
        ("two", "configured"),
    ] {
        let applied = kubectl.run(&["apply", "-f", &manifest(value)?]).await?;
        ensure!(applied == format!("configmap/m {outcome}\n"), "{applied}");
    }
    let file = manifest("three")?;
    let applied = kubectl
        .run(&["apply", "--server-side", "--force-conflicts", "-f", &file])
        .await?;
    ensure!(applied == "configmap/m serverside-applied\n", "{applied}");
    let value = kubectl
        .run(&["get", "configmap", "m", "-o", "jsonpath={.data.k}"])
        .await?;
    ensure!(value == "three", "{value}");
    let deleted = kubectl.run(&["delete", "-f", &file]).await?;
    ensure!(deleted.contains("\"m\" deleted"), "{deleted}");
    Ok(())
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}

async fn a_watch_shows_an_event_at_once(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    let mut watch = kubectl.follow(&["get", "pods", "-w", "--output-watch-events"])?;
    watch.until("web-1").await?;
    // kubectl prints the list before it watches, so the watch has to show first.
    let mut line = String::new();
    for _ in 0..2 {
        world.standin.touch_pod("web-0")?;
        line = watch.until("MODIFIED").await?;
    }
    ensure!(line.contains("web-0"), "{line}");
    world.standin.delete_pod("web-1")?;
    let line = watch.until("DELETED").await?;
    ensure!(line.contains("web-1"), "{line}");
    Ok(())
}

async fn followed_logs_come_line_by_line(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    world.standin.push_log("web-0", "before")?;
    let mut log = kubectl.follow(&["logs", "-f", "web-0"])?;
    log.until("before").await?;
    for line in ["one", "two", "three"] {
        world.standin.push_log("web-0", line)?;
        let seen = log.lines.next_line().await?;
        ensure!(seen.as_deref() == Some(line), "{seen:?}");
    }
    world.standin.end_log("web-0")?;
    let (success, error) = log.end().await?;
    ensure!(success, "{error}");
    Ok(())
}

async fn everything_still_works_after_the_connection_was_reset(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    world.reset_control_connection().await?;
    check_reads(&kubectl).await
}

async fn everything_still_works_after_the_controller_restarted(mut world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    world.stop_controller().await;
    world.start_controller().await?;
    check_reads(&kubectl).await
}

async fn a_watch_ends_when_the_connection_is_reset(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    let mut watch = kubectl.follow(&["get", "pods", "-w", "--output-watch-events"])?;
    watch.until("web-1").await?;
    world.standin.touch_pod("web-0")?;
    watch.until("MODIFIED").await?;
    world.cut();
    // An end that the user sees, and not silence; kubectl decides how to call it.
    watch.end().await?;
    world.joined().await?;
    let mut again = kubectl.follow(&["get", "pods", "-w", "--output-watch-events"])?;
    again.until("web-1").await?;
    world.standin.touch_pod("web-0")?;
    again.until("MODIFIED").await?;
    Ok(())
}

async fn followed_logs_end_when_the_connection_is_reset(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    world.standin.push_log("web-0", "one")?;
    let mut log = kubectl.follow(&["logs", "-f", "web-0"])?;
    log.until("one").await?;
    world.cut();
    let (success, error) = log.end().await?;
    ensure!(
        !success && !error.is_empty(),
        "a log that broke off passed for whole: {error}"
    );
    world.joined().await?;
    let log = kubectl.run(&["logs", "web-0"]).await?;
    ensure!(log == "one\n", "{log}");
    Ok(())
}

async fn a_wrong_token_is_told_our_text(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    let right = fs::read_to_string(world.kubeconfig())?;
    let wrong = world.kubeconfig_with(Token::new("S3CRET")?, "demo")?;
    // Before it knows what the API offers, kubectl shows our text as a warning only.
    fs::write(world.kubeconfig(), &wrong)?;
    let error = kubectl.fail(&["get", "pods"]).await?;
    ensure!(
        error.contains("Warning: the token is not known to this controller"),
        "{error}"
    );
    fs::write(world.kubeconfig(), right)?;
    kubectl.run(&["get", "pods"]).await?;
    fs::write(world.kubeconfig(), wrong)?;
    let error = kubectl.fail(&["get", "pods"]).await?;
    let start =
        "error: You must be logged in to the server (the token is not known to this controller";
    ensure!(error.contains(start), "{error}");
    ensure!(!error.contains("S3CRET"), "the token was shown: {error}");
    Ok(())
}

async fn an_agent_that_is_away_is_told_our_text(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    kubectl.run(&["get", "pods"]).await?;
    world.agent.shutdown(std::time::Duration::ZERO).await;
    let error = kubectl.fail(&["get", "pods"]).await?;
    let expected =
        "Error from server (ServiceUnavailable): the agent of cluster \"demo\" is not connected";
    ensure!(error.contains(expected), "{error}");
    Ok(())
}
