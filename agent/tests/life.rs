//! The built programs against a control plane of a few lines: registered, refused, drained and
//! stopped, with health checks that tell the truth and logs without secrets.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    process::Command,
};

use common::{FakeApi, Folder, KUBE_TOKEN, Program, Running, TOKEN, get, programs, read_head};
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket, protocol::frame::coding::CloseCode};

/// An agent toward `control_plane`, and where it answers health checks.
fn start(program: Program, folder: &Folder, control_plane: &TcpListener, api: &FakeApi) -> Running {
    let url = format!("http://{}/ignored?x=y", control_plane.local_addr().unwrap());
    Running::start(command(program, folder, &url, &api.url))
}

fn command(program: Program, folder: &Folder, url: &str, api: &str) -> Command {
    let kubeconfig = folder.kubeconfig(api);
    let id = folder.path().join("agent-id").display().to_string();
    let mut command = program.command(&[
        "--allow-plaintext",
        "--api-url",
        url,
        "--kubeconfig",
        &kubeconfig,
        "--agent-id-file",
        &id,
        "--label",
        "env=test",
        "--health-listen",
        "127.0.0.1:0",
        "--drain-timeout",
        "600",
        "--log-level",
        "trace",
    ]);
    command.envs([("PIPEOPS_TOKEN", TOKEN), ("PIPEOPS_CLUSTER_NAME", "prod")]);
    command
}

/// The next message that is text, as JSON.
fn text(socket: &mut WebSocket<TcpStream>) -> Value {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return serde_json::from_str(text.as_str()).unwrap();
        }
    }
}

/// Accepts an agent and answers its registration, which it returns.
fn register(control_plane: &TcpListener) -> (WebSocket<TcpStream>, Value) {
    register_on(control_plane.accept().unwrap().0)
}

fn register_on(stream: TcpStream) -> (WebSocket<TcpStream>, Value) {
    let mut socket = tungstenite::accept(stream).unwrap();
    let register = text(&mut socket);
    assert_eq!(register["type"], "register");
    let answer = json!({
        "type": "register_success",
        "request_id": register["request_id"],
        "payload": {"cluster_id": "6f1c", "name": "prod"},
    });
    socket.send(Message::text(answer.to_string())).unwrap();
    (socket, register["payload"].clone())
}

/// Reads to the end; returns the code and the reason of the close frame.
fn closed(socket: &mut WebSocket<TcpStream>) -> (CloseCode, String) {
    loop {
        if let Message::Close(Some(frame)) = socket.read().unwrap() {
            return (frame.code, frame.reason.as_str().into());
        }
    }
}

fn no_secret(log: &str) {
    assert!(!log.contains(TOKEN), "{log}");
    assert!(!log.contains(KUBE_TOKEN), "{log}");
}

#[test]
fn it_registers_is_ready_and_stops_on_sigterm() {
    for program in programs() {
        let (folder, api) = (Folder::new(), FakeApi::start());
        let control_plane = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut agent = start(program, &folder, &control_plane, &api);
        let health = agent.health();
        assert_eq!(get(health, "/livez").0, "HTTP/1.1 200 OK");
        assert_eq!(get(health, "/readyz").0, "HTTP/1.1 503 Service Unavailable");
        let (mut socket, info) = register(&control_plane);
        agent.line("registered: requests are served cluster_id=\"6f1c\"");
        assert_eq!(
            get(health, "/readyz"),
            ("HTTP/1.1 200 OK".into(), "ok\n".into())
        );
        assert!(
            get(health, "/metrics")
                .1
                .contains("controlplane_agent_registrations_total 1\n")
        );

        let id = std::fs::read_to_string(folder.path().join("agent-id")).unwrap();
        assert_eq!(info["agent_id"], id.trim());
        assert_eq!(info["name"], "prod");
        assert_eq!(info["k8s_version"], "v1.36.0");
        assert_eq!(info["agent_version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(info["server_ip"], "0.0.0.0");
        assert_eq!(info["labels"]["env"], "test");
        assert_eq!(info["labels"]["hostname"], info["hostname"]);
        assert_eq!(
            info["labels"]["agent.pipeops.io/version"],
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(info["server_specs"]["os"], std::env::consts::OS);

        agent.terminate();
        let goodbye = (CloseCode::Away, "the agent is shutting down".into());
        assert_eq!(closed(&mut socket), goodbye);
        let _ = socket.flush();
        drop(socket);
        let (code, log) = agent.end();
        assert_eq!(code, Some(0), "{log}");
        no_secret(&log);
    }
}

#[test]
fn its_id_is_kept_over_a_restart() {
    for program in programs() {
        let (folder, api) = (Folder::new(), FakeApi::start());
        let control_plane = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ids = Vec::new();
        for _ in 0..2 {
            let mut agent = start(program, &folder, &control_plane, &api);
            let (mut socket, info) = register(&control_plane);
            ids.push(info["agent_id"].clone());
            agent.line("registered");
            agent.terminate();
            closed(&mut socket);
            let _ = socket.flush();
            drop(socket);
            assert_eq!(agent.end().0, Some(0));
        }
        assert_eq!(ids[0], ids[1]);
    }
}

#[test]
fn a_refused_token_is_told_and_asks_for_a_look_at_it() {
    for program in programs() {
        let (folder, api) = (Folder::new(), FakeApi::start());
        let control_plane = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut agent = start(program, &folder, &control_plane, &api);
        let health = agent.health();
        let (mut stream, _) = control_plane.accept().unwrap();
        let head = read_head(&mut stream).unwrap();
        assert!(
            head.starts_with("GET /api/v1/clusters/agent/ws?x=y HTTP/1.1\r\n"),
            "{head}"
        );
        let expected = format!("authorization: bearer {TOKEN}\r\n");
        assert!(head.to_lowercase().contains(&expected), "{head}");
        let answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
        drop(stream);

        let line = agent.line("not connected: ");
        assert!(line.contains("ERROR"), "{line}");
        let why = "the server refused the agent's token (HTTP status 401): check PIPEOPS_TOKEN or \
                   --token-file, and whether the control plane knows this agent";
        assert!(line.contains(why), "{line}");
        let (status, state) = get(health, "/readyz");
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
        assert!(state.starts_with("waiting ") && state.ends_with(&format!("attempt 1: {why}\n")));
        assert_eq!(get(health, "/livez").1, "ok\n");

        agent.terminate();
        let (code, log) = agent.end();
        assert_eq!(code, Some(0), "{log}");
        no_secret(&log);
    }
}

#[test]
fn open_requests_hold_it_until_a_second_sigterm() {
    for program in programs() {
        let (folder, api) = (Folder::new(), FakeApi::start());
        let control_plane = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut agent = start(program, &folder, &control_plane, &api);
        let health = agent.health();
        let (mut socket, _) = register(&control_plane);
        let request = json!({
            "type": "proxy_request",
            "request_id": "r1",
            "payload": {"method": "GET", "path": "/api/v1/pods", "headers": {}},
        });
        socket.send(Message::text(request.to_string())).unwrap();
        assert!(api.next_held().starts_with("GET /api/v1/pods HTTP/1.1\r\n"));

        agent.terminate();
        agent.line("draining");
        let draining = (
            "HTTP/1.1 503 Service Unavailable".into(),
            "draining\n".into(),
        );
        assert_eq!(get(health, "/readyz"), draining);
        agent.terminate();
        assert_eq!(closed(&mut socket).0, CloseCode::Away);
        let _ = socket.flush();
        drop(socket);
        let (code, log) = agent.end();
        assert_eq!(code, Some(0), "{log}");
        no_secret(&log);
    }
}

/// What the variables name as the proxy's, in the clear and as it is sent.
const PROXY_SECRETS: [&str; 2] = ["pr0xy-s3cret", "dXNlcjpwcjB4eS1zM2NyZXQ="];

/// An agent whose environment has a proxy for everything, and a Kubernetes API that no rule
/// excepts from it; and what it asked the proxy for first.
fn start_behind(program: Program, folder: &Folder, proxy: &TcpListener) -> (Running, TcpStream) {
    // An address of this host that is none of loopback.
    let api = FakeApi::start().url.replace("127.0.0.1", "0.0.0.0");
    let mut command = command(program, folder, "http://control.example", &api);
    let address = proxy.local_addr().unwrap();
    let url = format!("http://user:{}@{address}", PROXY_SECRETS[0]);
    command.envs([("HTTP_PROXY", &*url), ("https_proxy", &url)]);
    command.env("NO_PROXY", "other.example, 10.0.0.0/99");
    let mut agent = Running::start(command);
    let line = agent.line("starting");
    assert!(line.contains(&format!("proxy=\"{address}\"")), "{line}");
    let line = agent.line("of NO_PROXY");
    assert!(
        line.ends_with("is ignored entries=\"10.0.0.0/99\""),
        "{line}"
    );
    let (mut stream, _) = proxy.accept().unwrap();
    let head = read_head(&mut stream).unwrap();
    assert!(
        head.starts_with("CONNECT control.example:80 HTTP/1.1\r\n"),
        "{head}"
    );
    let credentials = format!("\r\nProxy-Authorization: Basic {}\r\n", PROXY_SECRETS[1]);
    assert!(head.contains(&credentials), "{head}");
    assert!(!head.contains(TOKEN), "{head}");
    (agent, stream)
}

#[test]
fn it_reaches_the_control_plane_through_the_proxy_and_the_cluster_directly() {
    for program in programs() {
        let folder = Folder::new();
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut agent, mut stream) = start_behind(program, &folder, &proxy);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let (mut socket, info) = register_on(stream);
        agent.line("registered");
        assert_eq!(info["k8s_version"], "v1.36.0");
        agent.terminate();
        closed(&mut socket);
        let _ = socket.flush();
        drop(socket);
        let (code, log) = agent.end();
        assert_eq!(code, Some(0), "{log}");
        no_secret(&log);
        assert!(
            !PROXY_SECRETS.iter().any(|secret| log.contains(secret)),
            "{log}"
        );
        // Nothing else was asked of the proxy: the first who comes now is we.
        let own = TcpStream::connect(proxy.local_addr().unwrap()).unwrap();
        let (_, first) = proxy.accept().unwrap();
        assert_eq!(first, own.local_addr().unwrap());
    }
}

#[test]
fn a_refusal_of_the_proxy_is_not_one_of_the_token() {
    for program in programs() {
        let folder = Folder::new();
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut agent, mut stream) = start_behind(program, &folder, &proxy);
        stream.write_all(b"HTTP/1.1 407 Who?\r\n\r\n").unwrap();
        let line = agent.line("not connected: ");
        let address = proxy.local_addr().unwrap();
        let why = format!(
            "connection lost: proxy {address}, asked to CONNECT control.example:80: it refuses \
             with 407 Who?: check user and password in HTTP_PROXY; next attempt in "
        );
        assert!(line.contains("WARN") && line.contains(&why), "{line}");
        agent.terminate();
        let (code, log) = agent.end();
        assert_eq!(code, Some(0), "{log}");
        no_secret(&log);
        assert!(
            !PROXY_SECRETS.iter().any(|secret| log.contains(secret)),
            "{log}"
        );
    }
}
