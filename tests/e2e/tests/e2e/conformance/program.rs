//! The suite against the agent's program, as a command; and the suite's own program.

use std::{path::Path, time::Duration};

use anyhow::Result;
use controlplane_e2e::{
    conformance::{
        Options,
        agent::{self, Command, Setting},
    },
    world::RuntimeName,
};
use serde_json::Value;
use tokio::process;

use crate::bench::on_both_names;

const PATIENCE: Duration = Duration::from_secs(300);

on_both_names! { PATIENCE;
    the_agents_program_conforms
    the_suites_program_reports_as_text_and_as_json
}

/// How the agent's program is started, for `sh`.
fn line(runtime: RuntimeName) -> String {
    let program = env!("CARGO_BIN_EXE_agent-program");
    let runtime = runtime.as_str();
    format!(
        r#"export AGENT_RUNTIME={runtime} PIPEOPS_TOKEN="$CONFORMANCE_TOKEN"
        export PIPEOPS_BINARY_ANSWERS="$CONFORMANCE_BINARY_ANSWERS"
        exec '{program}' --api-url "$CONFORMANCE_URL" --ca-file "$CONFORMANCE_CA_FILE" \
            --kubeconfig "$CONFORMANCE_KUBECONFIG" --agent-id "$CONFORMANCE_AGENT_ID" \
            --cluster-name "$CONFORMANCE_NAME" --identity "${{CONFORMANCE_IDENTITY:-service-account}}" \
            ${{CONFORMANCE_TERMINAL_TRANSLATION:+--terminal-translation}}"#
    )
}

async fn the_agents_program_conforms(runtime: RuntimeName) -> Result<()> {
    let subject = agent::Subject::command(Command {
        line: line(runtime),
        without: [Setting::Info, Setting::NoYamux].into(),
    });
    let options = Options {
        longest: Duration::from_secs(2),
        patience: Duration::from_secs(30),
        ..Options::default()
    };
    let report = agent::run(&subject, &options).await?;
    assert!(report.passed(), "{report}");
    // What a program cannot be made to do in real time, with its own names, or at all.
    assert_eq!(report.total().not_applicable, LEFT_OUT, "{report}");
    Ok(())
}

/// Conversations that cannot be had with the agent's program.
const LEFT_OUT: usize = 59;

/// Runs the suite's program; its code, and what it says.
async fn suite(args: &[&str]) -> Result<(Option<i32>, String, String)> {
    let mut command = process::Command::new(env!("CARGO_BIN_EXE_conformance"));
    let output = command.arg("agent").args(args).output().await?;
    let text = |bytes| String::from_utf8(bytes);
    let (stdout, stderr) = (text(output.stdout)?, text(output.stderr)?);
    Ok((output.status.code(), stdout, stderr))
}

async fn the_suites_program_reports_as_text_and_as_json(runtime: RuntimeName) -> Result<()> {
    let line = line(runtime);
    let file = tempfile();
    let path = file.0.to_str().unwrap();
    let only = ["--only", "P-036", "--json", path];
    let (code, text, _) = suite(&[&["--exec", &line], &only[..]].concat()).await?;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("agent export AGENT_RUNTIME="), "{text}");
    assert!(
        text.contains("\nP-036  pass            2 passed\n"),
        "{text}"
    );
    assert!(
        text.ends_with("pass: 2 passed, 0 failed, 0 not applicable\n"),
        "{text}"
    );
    let json: Value = serde_json::from_slice(&std::fs::read(&file.0)?)?;
    assert_eq!(json["passed"], true);
    assert_eq!(json["statements"]["P-036"]["pass"], 2);
    assert_eq!(json["checks"][0]["outcome"], "pass");

    // A command that goes away fails at once, and is shown.
    let gone = [
        "--exec",
        "echo a reason >&2; exit 3",
        "--only",
        "P-036",
        "--json",
        "-",
    ];
    let (code, text, _) = suite(&gone).await?;
    let json: Value = serde_json::from_str(&text)?;
    assert_eq!(code, Some(1), "{text}");
    let why = json["checks"][0]["why"].as_str().unwrap();
    assert_eq!(
        why,
        "the command ended by itself: exit status: 3\nit said last:\na reason"
    );

    let (code, text, error) = suite(&["--exec", &line, "--only", "no such thing"]).await?;
    assert_eq!((code, &*text), (Some(2), ""));
    assert!(error.contains(r#"nothing has "no such thing""#), "{error}");
    let (code, text, _) = suite(&["--help"]).await?;
    assert_eq!(code, Some(0));
    assert!(text.contains("CONFORMANCE_UPSTREAM_CA_FILE"), "{text}");
    Ok(())
}

/// A file that is removed in the end.
struct Temporary(std::path::PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn tempfile() -> Temporary {
    let mut name = [0; 8];
    getrandom::fill(&mut name).unwrap();
    let name = format!("conformance-{:016x}.json", u64::from_be_bytes(name));
    Temporary(std::env::temp_dir().join(Path::new(&name)))
}
