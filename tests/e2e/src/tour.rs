//! The demo's tour: requests of every kind through the tunnel, each checked.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::{client::Client, standin::StandIn, world::World};

/// Makes the tour; `tell` is told what was seen.
///
/// # Errors
///
/// Something is not as it should be.
pub async fn tour(world: &World, tell: impl Fn(&str)) -> Result<()> {
    let client = world.client()?;
    reads(world, &client, &tell).await?;
    writes(&client, &tell).await?;
    follows(&world.standin, &client, &tell).await?;
    executes(&client, &tell).await?;
    let refused = client.with_token("wrong").get("/version").await?;
    ensure!(
        refused.status() == 401,
        "a wrong token got {}",
        refused.status()
    );
    tell(&format!(
        "a wrong token: 401 {}",
        message(&refused.json().await?)
    ));
    Ok(())
}

async fn reads(world: &World, client: &Client, tell: &impl Fn(&str)) -> Result<()> {
    world.standin.clear_requests();
    let version = client.get("/version").await?.json().await?;
    tell(&format!(
        "GET /version: {}",
        version["gitVersion"].as_str().unwrap_or("?")
    ));
    let seen = world.standin.requests();
    let authorization = seen.iter().find_map(|r| r.header("authorization"));
    let expected = format!("Bearer {}", world.standin.token());
    ensure!(
        seen.len() == 1 && authorization == Some(&expected),
        "the request did not come through the agent"
    );
    tell("  the API saw it once, with the token of the agent's service account");
    let pods = client
        .get("/api/v1/namespaces/default/pods")
        .await?
        .json()
        .await?;
    let names = pods["items"].as_array().into_iter().flatten();
    let names: Vec<&str> = names
        .filter_map(|p| p["metadata"]["name"].as_str())
        .collect();
    ensure!(!names.is_empty(), "no pods");
    tell(&format!("GET pods: {}", names.join(", ")));
    let unknown = client.get("/api/v1/namespaces/default/pods/nosuch").await?;
    ensure!(
        unknown.status() == 404,
        "an unknown pod got {}",
        unknown.status()
    );
    tell(&format!(
        "GET an unknown pod: 404 {}",
        message(&unknown.json().await?)
    ));
    Ok(())
}

async fn writes(client: &Client, tell: &impl Fn(&str)) -> Result<()> {
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "tour"}, "data": {"from": "the other side"}
    });
    let headers = [("Content-Type", "application/json")];
    let created = client
        .send("POST", maps, &headers, map.to_string().into())
        .await?;
    ensure!(created.status() == 201, "create: {}", created.status());
    let one = format!("{maps}/tour");
    let read = client.get(&one).await?.json().await?;
    ensure!(
        read["data"]["from"] == "the other side",
        "read back: {read}"
    );
    let deleted = client.send("DELETE", &one, &[], "".into()).await?;
    ensure!(deleted.status() == 200, "delete: {}", deleted.status());
    tell("POST, GET and DELETE a ConfigMap: 201, as written, 200");
    Ok(())
}

async fn follows(standin: &StandIn, client: &Client, tell: &impl Fn(&str)) -> Result<()> {
    let log = "/api/v1/namespaces/default/pods/web-0/log?follow=true";
    let mut log = client.get(log).await?;
    standin.push_log("web-0", "hello from the pod")?;
    log.until("hello from the pod").await?;
    tell("GET a log with follow: a new line came at once");
    let mut watch = client
        .get("/api/v1/namespaces/default/pods?watch=true")
        .await?;
    watch.until("web-0").await?;
    standin.touch_pod("web-0")?;
    watch.until("MODIFIED").await?;
    tell("GET pods with watch: a change came at once");
    Ok(())
}

async fn executes(client: &Client, tell: &impl Fn(&str)) -> Result<()> {
    let script = "tr a-z A-Z; echo oops >&2; exit 3";
    let executed = client.exec("web-0", script, "hello from here").await?;
    let (out, err) = (&executed.stdout, &executed.stderr);
    ensure!(
        out == b"HELLO FROM HERE" && err == b"oops\n" && executed.exit_code == 3,
        "exec: {executed:?}"
    );
    tell("exec in web-0: input, output and errors passed apart, exit code 3");
    Ok(())
}

fn message(status: &Value) -> &str {
    status["message"].as_str().unwrap_or("(no message)")
}
