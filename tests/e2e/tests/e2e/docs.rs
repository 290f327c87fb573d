//! The documentation says what is so: its sample output, its links, its code.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Result;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// The first block of README.md in that language whose first line begins with `start`.
fn block(language: &str, start: &str) -> String {
    let readme = read("README.md");
    let opening = format!("```{language}\n{start}");
    let at = readme
        .find(&opening)
        .unwrap_or_else(|| panic!("no block {opening:?}"));
    let text = &readme[at + language.len() + 4..];
    text[..text.find("```").unwrap()].to_string()
}

/// Ports, temporary folders and ids differ from run to run.
fn normal(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_inclusive([' ', '\n', '/', '=']) {
        let bare = word.trim_end_matches([' ', '\n', '/', '=']);
        let end = &word[bare.len()..];
        if bare.starts_with("127.0.0.1:") {
            out.push_str("127.0.0.1:PORT");
        } else if bare.starts_with("controlplane-demo-") {
            out.push_str("FOLDER");
        } else if bare.starts_with('(') && bare.len() == 38 {
            out.push_str("(ID)");
        } else {
            out.push_str(bare);
        }
        out.push_str(end);
    }
    out
}

#[test]
fn the_readmes_sample_is_what_the_demo_prints_until_ctrl_c() {
    let expected = normal(&block("text", "demo: "));
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut printed = String::new();
    let mut lines = BufReader::new(demo.stdout.take().unwrap());
    while !printed.ends_with("Ctrl-C stops the demo.\n") {
        assert!(
            lines.read_line(&mut printed).unwrap() > 0,
            "it ended early: {printed}"
        );
    }
    let stopped = Command::new("kill")
        .args(["-INT", &demo.id().to_string()])
        .status();
    assert!(stopped.unwrap().success());
    let status = demo.wait().unwrap();
    let temporary = std::env::temp_dir().display().to_string();
    let printed = printed.replace(&temporary, "/tmp");
    assert_eq!(normal(&printed), expected);
    assert!(status.success(), "{status}");
    let folder = printed.lines().next().unwrap().rsplit('/').next().unwrap();
    assert!(
        !std::env::temp_dir().join(folder).exists(),
        "the demo left its folder behind"
    );
}

#[test]
fn the_readmes_report_is_what_the_conformance_suite_prints() {
    let sample = block("text", "$ conformance agent");
    let (line, expected) = sample.split_once('\n').unwrap();
    let args = line.split(' ').skip(2);
    let mut suite = Command::new(env!("CARGO_BIN_EXE_conformance"));
    let output = suite.args(args).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert!(output.status.success());
}

#[test]
fn links_and_files_named_in_the_documentation_exist() {
    for file in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ] {
        let text = read(file);
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            let local = !target.contains("://") && !target.starts_with('#');
            assert!(!local || root().join(target).exists(), "{file}: {target}");
        }
        for code in text.split('`').skip(1).step_by(2) {
            let path = code.ends_with(".rs") || (code.ends_with('/') && !code.contains(' '));
            assert!(!path || root().join(code).exists(), "{file}: {code}");
        }
    }
}

/// The README's example, compiled.
#[expect(dead_code, clippy::print_stdout, reason = "it is there to be compiled")]
#[rustfmt::skip]
async fn example(token: &str) -> Result<()> {
// example begins
use controlplane_tokio::{Agent, AgentInfo, Request, Responder, ResponseHead, Token};

let info = AgentInfo { agent_id: "agent-1f2e".into(), name: "prod".into(), ..AgentInfo::default() };
let agent = Agent::builder("https://controller.example.com", Token::new(token)?, info)
    // Without a handler, requests go to the Kubernetes API of the pod.
    .handler(|request: Request, responder: Responder| async move {
        let mut body = responder.respond(ResponseHead { status: 200, headers: vec![] });
        let text = format!("you asked for {}\n", request.head.path);
        if body.write(text.into()).await.is_ok() {
            body.finish();
        }
    })
    .start()?;
println!("registered as {}", agent.registered().await?.cluster_id);
agent.shutdown(std::time::Duration::from_secs(25)).await;
// example ends
    Ok(())
}

#[test]
fn the_readmes_example_is_the_one_that_compiles() {
    let source = include_str!("docs.rs");
    let example = source.split("// example begins\n").nth(1).unwrap();
    let example = example.split("// example ends").next().unwrap();
    assert_eq!(example, block("rust", "use controlplane_tokio"));
}

#[test]
fn the_gate_runs_the_readmes_test_command() {
    assert_eq!(block("console", "cargo test"), "cargo test --workspace\n");
    let gate = read(".ci/run");
    assert!(gate.contains("cargo test --workspace.*") && gate.contains("README.md"));
}
