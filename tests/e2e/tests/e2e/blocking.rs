//! The example of an adapter (`core/examples/blocking`) is an agent: threads and blocking sockets
//! between the real controller and the stand-in Kubernetes API.

use std::{fs, net::SocketAddr, path::Path, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use controlplane_e2e::{
    client::Client,
    standin::{Fault, Options, StandIn, pattern},
    world::{RuntimeName, parts::Parts},
};
use futures_util::{SinkExt, StreamExt};
use pipeops_controller::self_signed::{CLUSTER, SelfSigned};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};
use tokio_tungstenite::tungstenite::Message;

use crate::cable::Cable;

macro_rules! tests {
    ($($name:ident)*) => {
        mod blocking {
            $(#[test] fn $name() {
                crate::bench::block_on(async {
                    let world = super::World::start().await.expect("the world starts");
                    super::$name(world).await.expect("it holds");
                });
            })*
        }
    };
}

tests! {
    requests_are_answered
    bodies_are_streamed_both_ways
    an_answer_may_come_before_the_whole_body
    a_watch_comes_as_it_happens
    an_api_that_is_away_is_told
    exec_has_input_output_errors_and_an_exit_code
    more_input_than_any_window_goes_through
    exec_that_is_refused_says_why
    exec_ends_with_its_client
    exec_ends_with_its_connection
    a_connection_that_is_cut_comes_back
    sigterm_lets_requests_end_and_says_goodbye
}

/// The example, its controller and its API.
struct World {
    parts: Parts,
    cable: Cable,
    agent: Child,
    stderr: Lines<BufReader<ChildStderr>>,
    client: Client,
}

impl World {
    async fn start() -> Result<Self> {
        let standin = StandIn::start(Options::default()).await?;
        let program = Path::new(env!("CARGO_BIN_EXE_part"));
        let parts = Parts::start(program, RuntimeName::default(), standin).await?;
        let cable = Cable::to(parts.address).await?;
        let files = SelfSigned::at(parts.folder());
        let (mut agent, client) = start(&parts, &files, cable.address)?;
        let stderr = agent.stderr.take().context("stderr")?;
        let mut world = Self {
            stderr: BufReader::new(stderr).lines(),
            parts,
            cable,
            agent,
            client,
        };
        world.registered().await?;
        Ok(world)
    }

    /// Waits until the agent says that it is registered.
    async fn registered(&mut self) -> Result<()> {
        self.says("registered as ").await?;
        // The controller knows of it a moment later.
        while self.client.get("/version").await?.status() == 503 {}
        Ok(())
    }

    async fn says(&mut self, start: &str) -> Result<()> {
        while let Some(line) = self.stderr.next_line().await? {
            eprintln!("{line}");
            if line.starts_with(start) {
                return Ok(());
            }
        }
        anyhow::bail!("the agent ended before it said {start:?}")
    }
}

fn start(parts: &Parts, files: &SelfSigned, controller: SocketAddr) -> Result<(Child, Client)> {
    // It trusts one file, for the controller and for the API.
    let ca = fs::read_to_string(files.ca())?;
    let both = parts.folder().join("both.pem");
    fs::write(&both, format!("{ca}\n{}", parts.standin.ca_pem()))?;
    let read = |file| fs::read_to_string(file).map(|text| text.trim().to_string());
    let agent = Command::new(env!("CARGO_BIN_EXE_blocking"))
        .env("CONFORMANCE_URL", format!("https://{controller}"))
        .env("CONFORMANCE_TOKEN", read(files.agent_token())?)
        .env("CONFORMANCE_CA_FILE", both)
        .env("CONFORMANCE_UPSTREAM_URL", parts.standin.url())
        .env("CONFORMANCE_UPSTREAM_TOKEN", parts.standin.token())
        .env("CONFORMANCE_AGENT_ID", "agent-1f2e")
        .env("CONFORMANCE_NAME", CLUSTER)
        .env("CONFORMANCE_IDENTITY", "")
        .env("CONFORMANCE_NO_YAMUX", "1")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let token = read(files.user_token())?;
    let client = Client::new(parts.address, ca.as_bytes(), CLUSTER, &token)?;
    Ok((agent, client))
}

#[test]
fn its_steps_name_functions_that_exist() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../core/examples/blocking");
    let files = fs::read_dir(&folder).unwrap();
    let code: String = files
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let text = fs::read_to_string(folder.join("main.rs")).unwrap();
    let text = text.split("#![allow").next().unwrap();
    let code_in_text = text.split('`').skip(1).step_by(2);
    let named: Vec<_> = code_in_text
        .filter_map(|code| code.split_once("::"))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for (owner, name) in named.iter().filter(|(owner, _)| *owner != "std") {
        let of_the_core = matches!(*owner, "Action" | "Input" | "Machine" | "Socket");
        let here = [format!("fn {name}("), format!("struct {name}")];
        let here = here.iter().any(|item| code.contains(item));
        assert!(of_the_core || here, "no {owner}::{name}");
    }
}

async fn requests_are_answered(world: World) -> Result<()> {
    world.parts.standin.clear_requests();
    let version = world.client.get("/version").await?.json().await?;
    ensure!(version["gitVersion"] == "v1.32.4", "{version}");
    let seen = world.parts.standin.requests();
    let token = format!("Bearer {}", world.parts.standin.token());
    let [request] = &seen[..] else {
        anyhow::bail!("{seen:?}")
    };
    ensure!(
        request.header("authorization") == Some(&*token),
        "its own token"
    );
    let unknown = world.client.get("/api/v1/namespaces/default/pods/nosuch");
    let unknown = unknown.await?;
    ensure!(unknown.status() == 404);
    let text = unknown.json().await?;
    ensure!(text["message"] == "pods \"nosuch\" not found", "{text}");
    Ok(())
}

async fn bodies_are_streamed_both_ways(world: World) -> Result<()> {
    let answer = world.client.get("/api/v1/bytes?n=8000000").await?;
    ensure!(answer.bytes().await? == pattern(0, 8_000_000), "8 MB");
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "big"}, "data": {"a": "x".repeat(900_000)}});
    let json = [("content-type", "application/json")];
    let made = world
        .client
        .send("POST", maps, &json, map.to_string().into());
    let made = made.await?;
    ensure!(made.status() == 201, "{}", made.status());
    let big = format!("{maps}/big");
    let kept = world.client.get(&big).await?.json().await?;
    ensure!(kept["data"] == map["data"], "it is another");
    let gone = world.client.send("DELETE", &big, &[], Vec::new().into());
    ensure!(gone.await?.status() == 200);
    Ok(())
}

async fn an_answer_may_come_before_the_whole_body(world: World) -> Result<()> {
    world.parts.standin.set_fault_everywhere(Fault::Status(503));
    let never = futures_util::stream::pending();
    let path = "/api/v1/namespaces/default/configmaps";
    let answer = world.client.stream("POST", path, never).await?;
    ensure!(answer.status() == 503, "{}", answer.status());
    Ok(())
}

async fn a_watch_comes_as_it_happens(world: World) -> Result<()> {
    let path = "/api/v1/namespaces/default/pods?watch=true";
    let mut watch = world.client.get(path).await?;
    watch.until("web-1").await?;
    for _ in 0..3 {
        world.parts.standin.touch_pod("web-0")?;
        watch.until("MODIFIED").await?;
    }
    drop(watch);
    Ok(())
}

async fn an_api_that_is_away_is_told(world: World) -> Result<()> {
    world.parts.standin.set_fault_everywhere(Fault::Reset);
    let answer = world.client.get("/version").await?;
    ensure!(answer.status() == 502, "{}", answer.status());
    world.parts.standin.set_fault_everywhere(Fault::None);
    ensure!(world.client.get("/version").await?.status() == 200);
    Ok(())
}

async fn exec_has_input_output_errors_and_an_exit_code(world: World) -> Result<()> {
    let input = "0123456789abcdef".repeat(20_000);
    for code in [0, 3] {
        let script = format!("cat; echo err >&2; exit {code}");
        let done = world.client.exec("web-0", &script, &input).await?;
        ensure!(
            done.stdout == input.as_bytes(),
            "{} bytes",
            done.stdout.len()
        );
        ensure!(done.stderr == b"err\n" && done.exit_code == code, "{code}");
    }
    let done = world
        .client
        .exec("web-0", "seq 1 300000; exit 4", "")
        .await?;
    ensure!(done.stdout.ends_with(b"\n300000\n") && done.exit_code == 4);
    Ok(())
}

/// Room is made only by what the API took, and reported.
async fn more_input_than_any_window_goes_through(world: World) -> Result<()> {
    let path = "/api/v1/namespaces/default/pods/web-0/exec\
                ?command=wc&command=-c&stdin=true&stdout=true";
    let mut socket = world.client.websocket(path, "v5.channel.k8s.io").await?;
    for _ in 0..12 {
        socket
            .send(Message::binary(vec![0; 1 + (512 << 10)]))
            .await?;
    }
    socket.send(Message::binary(vec![0xff, 0])).await?;
    while let Some(message) = socket.next().await {
        if let Message::Binary(data) = message?
            && let Some((1, text)) = data.split_first()
            && !text.is_empty()
        {
            ensure!(text == b"6291456\n", "{text:?}");
            return Ok(());
        }
    }
    anyhow::bail!("it counted nothing")
}

async fn exec_that_is_refused_says_why(world: World) -> Result<()> {
    let path = "/api/v1/namespaces/default/pods/nosuch/exec?command=true&stdout=true";
    let refused = world.client.websocket(path, "v5.channel.k8s.io").await;
    let error = refused.err().context("it was opened")?;
    ensure!(error.to_string().contains("404"), "{error}");
    Ok(())
}

async fn exec_ends_with_its_client(world: World) -> Result<()> {
    let path = "/api/v1/namespaces/default/pods/web-0/exec?command=cat&stdin=true&stdout=true";
    let socket = world.client.websocket(path, "v5.channel.k8s.io").await?;
    world.parts.standin.processes_become(1).await;
    drop(socket);
    world.parts.standin.processes_become(0).await;
    Ok(())
}

/// The machine resets the stream, whatever its threads wait for.
async fn exec_ends_with_its_connection(world: World) -> Result<()> {
    let path = "/api/v1/namespaces/default/pods/web-0/exec?command=cat&stdin=true&stdout=true";
    let _socket = world.client.websocket(path, "v5.channel.k8s.io").await?;
    world.parts.standin.processes_become(1).await;
    world.cable.cut();
    world.parts.standin.processes_become(0).await;
    Ok(())
}

async fn a_connection_that_is_cut_comes_back(mut world: World) -> Result<()> {
    let path = "/api/v1/namespaces/default/pods?watch=true";
    let mut watch = world.client.get(path).await?;
    watch.until("web-1").await?;
    world.cable.cut();
    let end = loop {
        match watch.next().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    ensure!(
        end.is_err(),
        "a watch that was cut off ended as if complete"
    );
    world.says("no connection ").await?;
    world.cable.mend();
    world.registered().await?;
    ensure!(world.client.get("/version").await?.status() == 200);
    let done = world.client.exec("web-0", "exit 5", "").await?;
    ensure!(done.exit_code == 5, "{done:?}");
    Ok(())
}

async fn sigterm_lets_requests_end_and_says_goodbye(mut world: World) -> Result<()> {
    let path = "/api/v1/namespaces/default/pods/web-0/log?follow=true";
    let mut log = world.client.get(path).await?;
    world.parts.standin.push_log("web-0", "before")?;
    log.until("before").await?;
    let pid = world.agent.id().context("it runs")?.to_string();
    let told = Command::new("kill").args(["-TERM", &pid]).status().await?;
    ensure!(told.success());
    world.parts.standin.push_log("web-0", "after")?;
    log.until("after").await?;
    world.parts.standin.end_log("web-0")?;
    log.bytes().await?;
    let status = world.agent.wait().await?;
    ensure!(status.success(), "{status}");
    Ok(())
}
