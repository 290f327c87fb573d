//! The program: its command line, its files, its end.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Output, Stdio},
};

use crate::world::Folder;

fn path(folder: &Folder, name: &str) -> String {
    folder.path(name).display().to_string()
}

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipeops-controller"));
    command
        .args(args)
        .env_remove("PIPEOPS_CONTROLLER_CREDENTIALS");
    command
}

fn run(args: &[&str]) -> Output {
    program(args).output().unwrap()
}

fn ok(args: &[&str]) -> String {
    let output = run(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs what must fail with this code, and returns what it says.
fn fails(args: &[&str], code: i32) -> String {
    let output = run(args);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
    assert!(output.stdout.is_empty());
    errors
}

#[test]
fn a_wrong_command_line_is_2_and_a_failure_1() {
    let folder = Folder::new();
    let missing = path(&folder, "missing.json");
    for args in [
        &[][..],
        &["fly"],
        &["serve"],
        &["serve", "--tls-cert", "c"],
        &[
            "serve",
            "--self-signed",
            "d",
            "--tls-cert",
            "c",
            "--tls-key",
            "k",
        ],
        &["token", "agent", "prod"],
        &["token", "user", "jane", "--credentials", "c"],
        &[
            "token",
            "user",
            "jane",
            "--cluster",
            "*",
            "--group",
            "g",
            "--credentials",
            "c",
        ],
        &["kubeconfig", "--server", "https://c", "--cluster", "prod"],
    ] {
        fails(args, 2);
    }
    let text = fails(&["token", "list", "--credentials", &missing], 1);
    assert!(text.contains("token agent NAME --credentials"), "{text}");
    let text = fails(&["token", "agent", "a b", "--credentials", &missing], 1);
    assert!(text.contains("it stands in URLs"), "{text}");
    let text = fails(
        &[
            "serve",
            "--tls-cert",
            &missing,
            "--tls-key",
            &missing,
            "--credentials",
            &missing,
        ],
        1,
    );
    assert!(text.contains("missing.json"), "{text}");
}

#[test]
fn help_and_version_are_no_failures() {
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["token", "--help"],
        &["--version"],
    ] {
        assert!(!ok(args).is_empty());
    }
}

#[test]
fn tokens_are_shown_once_and_listed_without() {
    let folder = Folder::new();
    let file = path(&folder, "credentials.json");
    let credentials = ["--credentials", &file];
    let with = |args: &[&'static str]| [args, &credentials[..]].concat();
    let agent = ok(&with(&["token", "agent", "prod", "--workspace", "7"]));
    assert!(agent.starts_with("cpa_") && agent.lines().count() == 1);
    let user = ok(&with(&[
        "token",
        "user",
        "jane",
        "--cluster",
        "prod",
        "--kubernetes-user",
        "jane",
        "--group",
        "dev",
    ]));
    assert!(user.starts_with("cpu_") && user.lines().count() == 1);
    let stored = std::fs::read_to_string(&file).unwrap();
    assert!(!stored.contains(agent.trim()) && !stored.contains(user.trim()));
    let list = ok(&with(&["token", "list"]));
    assert_eq!(list.lines().count(), 3, "{list}");
    assert!(list.contains("prod as jane"), "{list}");
    let line = list.lines().find(|line| line.contains("agent-")).unwrap();
    let id = line.split_whitespace().next().unwrap();
    let renewed = ok(&["token", "renew", id, "--credentials", &file]);
    assert!(renewed.starts_with("cpa_") && renewed != agent);
    ok(&["token", "revoke", id, "--credentials", &file]);
    fails(&["token", "revoke", id, "--credentials", &file], 1);
    assert_eq!(ok(&with(&["token", "list"])).lines().count(), 2);
}

#[test]
fn a_kubeconfig_is_private_and_not_overwritten() {
    let folder = Folder::new();
    let (out, token) = (path(&folder, "kubeconfig"), path(&folder, "token"));
    std::fs::write(&token, "cpu_secret\n").unwrap();
    let basics = [
        "kubeconfig",
        "--server",
        "https://c.example.com",
        "--cluster",
        "prod",
    ];
    let from_file = [&basics[..], &["--token-file", &token]].concat();
    let shown = ok(&from_file);
    assert!(
        shown.contains("https://c.example.com/clusters/prod"),
        "{shown}"
    );
    let to_file = [&from_file[..], &["--out", &out]].concat();
    assert_eq!(ok(&to_file), "");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), shown);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&out).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let text = fails(&to_file, 1);
    assert!(text.contains("--force"), "{text}");
    ok(&[&to_file[..], &["--force"]].concat());

    let mut piped = program(&[&basics[..], &["--token-stdin"]].concat());
    let mut child = piped
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"cpu_secret")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), shown);
}

#[cfg(unix)]
#[test]
fn it_is_tried_out_by_two_commands_and_stops_on_a_signal() {
    let folder = Folder::new();
    let try_out = path(&folder, "try");
    for signal in ["-TERM", "-INT"] {
        let mut child = program(&[
            "serve",
            "--self-signed",
            &try_out,
            "--listen",
            "127.0.0.1:0",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(
            first.starts_with("The controller listens on https://127.0.0.1:"),
            "{first}"
        );
        let lines: Vec<String> = lines
            .map(Result::unwrap)
            .take_while(|line| !line.starts_with("This certificate"))
            .collect();
        let command = |name: &str| {
            let found = lines
                .iter()
                .find(|line| line.trim_start().starts_with(name));
            found.unwrap().clone()
        };
        assert!(command("pipeops-agent ").contains("agent.token"));
        let words: Vec<String> = command("pipeops-controller ")
            .split_whitespace()
            .skip(1)
            .map(String::from)
            .collect();
        ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(std::path::Path::new(&try_out).join("kubeconfig").exists());
        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
    }
}
