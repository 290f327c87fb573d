//! The built programs with command lines that end at once: help, version and everything that can
//! be wrong, with exit code and exact text.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the message")]

mod common;

use std::process::Output;

use common::{Folder, Program, TOKEN, programs};

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The environment of a program that lacks nothing, the cluster aside.
const WHOLE: [(&str, &str); 3] = [
    ("PIPEOPS_API_URL", "https://127.0.0.1:1"),
    ("PIPEOPS_TOKEN", TOKEN),
    ("PIPEOPS_CLUSTER_NAME", "prod"),
];

/// `WHOLE` with one variable set to something else, or to nothing.
fn with(name: &str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    let change = |(n, v)| (n, if n == name { value } else { v });
    WHOLE.into_iter().map(change).collect()
}

fn refused(program: Program, args: &[&str], variables: &[(&str, &str)], code: i32) -> String {
    let output = program.output(args, variables);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(output.stdout.is_empty());
    assert!(!text.contains(TOKEN), "{text}");
    text
}

/// Checks an error of usage, to the letter.
fn misused(program: Program, args: &[&str], variables: &[(&str, &str)], expected: &str) {
    let name = program.name;
    let expected = format!("error: {expected}\n\nFor more information, try '{name} --help'.\n");
    assert_eq!(refused(program, args, variables, 2), expected);
}

#[test]
fn help_names_every_flag_and_no_value_of_the_environment() {
    for program in programs() {
        let output = program.output(&["--help"], &WHOLE);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains(TOKEN), "{text}");
        for word in [
            "--api-url",
            "--token",
            "--token-file",
            "--cluster-name",
            "--agent-id",
            "--agent-id-file",
            "--ca-file",
            "--cert-file",
            "--key-file",
            "--allow-plaintext",
            "--identity",
            "--terminal-translation",
            "--binary-answers",
            "--allow-tunnel",
            "--allow-gateway",
            "--kubeconfig",
            "--context",
            "--region",
            "--cloud-provider",
            "--label",
            "--health-listen",
            "--log-level",
            "--log-format",
            "--drain-timeout",
            "--upstream-connections",
            "PIPEOPS_API_URL",
            "PIPEOPS_TOKEN",
            "PIPEOPS_CLUSTER_NAME",
            "PIPEOPS_AGENT_ID",
            "PIPEOPS_LOG_LEVEL",
            "PIPEOPS_BINARY_ANSWERS",
            "PIPEOPS_ALLOW_TUNNEL",
            "PIPEOPS_ALLOW_GATEWAY",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "NO_PROXY",
            "$XDG_STATE_HOME",
            "$KUBECONFIG",
        ] {
            assert!(text.contains(word), "{word} is missing in\n{text}");
        }
    }
}

#[test]
fn version_names_the_runtime() {
    for program in programs() {
        let output = program.output(&["--version"], &[]);
        assert_eq!(output.status.code(), Some(0));
        let (name, runtime) = (program.name, program.runtime);
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!("{name} {version} (runtime: {runtime})\n");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}

#[test]
fn what_is_missing_is_asked_for() {
    for program in programs() {
        misused(
            program,
            &[],
            &[],
            "the control plane's URL is missing: set PIPEOPS_API_URL or give --api-url",
        );
        for variables in [&with("PIPEOPS_TOKEN", "")[..], &WHOLE[..1]] {
            misused(
                program,
                &[],
                variables,
                "the agent's token is missing or empty: set PIPEOPS_TOKEN or give --token-file",
            );
        }
        misused(
            program,
            &[],
            &with("PIPEOPS_CLUSTER_NAME", ""),
            "the cluster's name is missing: set PIPEOPS_CLUSTER_NAME or give --cluster-name",
        );
        misused(
            program,
            &[],
            &[
                &WHOLE[..],
                &[
                    ("PIPEOPS_LOG_LEVEL", ""),
                    ("PIPEOPS_AGENT_ID", ""),
                    ("PIPEOPS_ALLOW_TUNNEL", ""),
                    ("PIPEOPS_ALLOW_GATEWAY", ","),
                    ("PIPEOPS_BINARY_ANSWERS", ""),
                ],
            ]
            .concat(),
            "there is no Kubernetes API to connect: this is not a pod (KUBERNETES_SERVICE_HOST \
             is not set) and no --kubeconfig is given",
        );
    }
}

#[test]
fn a_wrong_scheme_is_refused() {
    for program in programs() {
        misused(
            program,
            &[],
            &with("PIPEOPS_API_URL", "http://api.example.com"),
            "the control plane's URL begins with http://, which would send the token \
             unencrypted: use https:// or wss://, or for a test give --allow-plaintext",
        );
        misused(
            program,
            &["--allow-plaintext"],
            &with("PIPEOPS_API_URL", "ftp://api.example.com"),
            "the control plane's URL has the scheme \"ftp\": use https:// or wss://",
        );
    }
}

#[test]
fn a_bad_agent_id_is_refused() {
    for program in programs() {
        let mut variables = WHOLE.to_vec();
        variables.push(("PIPEOPS_AGENT_ID", "my agent"));
        misused(
            program,
            &[],
            &variables,
            "PIPEOPS_AGENT_ID or --agent-id: this is no agent id: use 1 to 128 letters, digits, \
             \"-\", \".\" or \"_\", such as agent-0123456789abcdef",
        );
    }
}

#[test]
fn p197_what_cannot_be_allowed_is_refused() {
    for program in programs() {
        for (variable, value, option, why) in [
            (
                "PIPEOPS_ALLOW_TUNNEL",
                "10.0.0.1:22",
                "--allow-tunnel <TARGET>",
                "not the target of a tunnel: use SERVICE.NAMESPACE:PORT or localhost:PORT",
            ),
            (
                "PIPEOPS_ALLOW_GATEWAY",
                "wss://gw.example.com",
                "--allow-gateway <HOST>",
                "not a host: use HOST, or .DOMAIN for all names below it, without scheme and port",
            ),
        ] {
            let variables = [&WHOLE[..], &[(variable, value)]].concat();
            let expected = format!(
                "error: invalid value '{value}' for '{option}': {why}\n\n\
                 For more information, try '--help'.\n"
            );
            assert_eq!(refused(program, &[], &variables, 2), expected);
        }
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_refused() {
    let folder = Folder::new();
    let kubeconfig = folder.kubeconfig("https://127.0.0.1:1");
    for program in programs() {
        for (variable, value, expected) in [
            (
                "HTTPS_PROXY",
                "socks5://user:s3cret-pass@p:1080",
                "HTTPS_PROXY has the scheme \"socks5\": only http:// and https:// proxies are \
                 supported",
            ),
            (
                "http_proxy",
                "http://user:s3cret-pass",
                "HTTP_PROXY is not that of a proxy, which looks like \
                 http://proxy.example.com:3128; in user and password, special characters are \
                 written as %XX",
            ),
        ] {
            let variables = [&WHOLE[..], &[(variable, value)]].concat();
            misused(
                program,
                &["--kubeconfig", &kubeconfig],
                &variables,
                expected,
            );
        }
    }
}

#[test]
fn a_certificate_needs_its_key() {
    for program in programs() {
        let text = refused(program, &["--cert-file", "c"], &WHOLE, 2);
        assert!(text.contains("--key-file <FILE>"), "{text}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = Folder::new();
    let kubeconfig = folder.kubeconfig("https://127.0.0.1:1");
    let id = folder.path().join("id").display().to_string();
    let common = ["--kubeconfig", &kubeconfig, "--agent-id-file", &id];
    let empty = folder.file("empty", "\n");
    let cases = [
        (
            vec!["--ca-file", "/nonexistent/ca.crt"],
            "TLS to the control plane cannot be set up: cannot read /nonexistent/ca.crt: No such \
             file or directory (os error 2)"
                .to_owned(),
        ),
        (
            vec!["--ca-file", &*empty],
            format!(
                "TLS to the control plane cannot be set up: {empty} holds no certificate in PEM \
                 (the text between -----BEGIN and -----END)"
            ),
        ),
        (
            vec!["--token", "", "--token-file", "/nonexistent/token"],
            "cannot read the token file /nonexistent/token: No such file or directory (os error 2)"
                .to_owned(),
        ),
        (
            vec!["--token", "", "--token-file", &*empty],
            format!("the token file {empty} is empty: put the token on its only line"),
        ),
    ];
    for program in programs() {
        for (flags, expected) in &cases {
            let args = [&common[..], flags].concat();
            let text = refused(program, &args, &WHOLE, 1);
            let line = text.lines().last().unwrap();
            assert!(
                line.contains(" ERROR ") && line.ends_with(expected),
                "{text}"
            );
        }
        let args = ["--kubeconfig", "/nonexistent/config"];
        let text = refused(program, &args, &WHOLE, 1);
        let expected = "the kubeconfig /nonexistent/config cannot be read: No such file or \
                        directory (os error 2)\n";
        assert!(text.ends_with(expected), "{text}");
    }
    assert!(
        !std::path::Path::new(&id).exists(),
        "an id was made for an agent that never ran"
    );
}

#[test]
fn errors_are_json_where_the_log_is() {
    for program in programs() {
        let args = [
            "--kubeconfig",
            "/nonexistent/config",
            "--log-format",
            "json",
        ];
        let text = refused(program, &args, &WHOLE, 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "ERROR");
        let message = line["message"].as_str().unwrap();
        assert!(message.starts_with("the kubeconfig /nonexistent/config cannot be read: "));
    }
}

#[test]
fn a_health_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::new();
    let kubeconfig = folder.kubeconfig("https://127.0.0.1:1");
    for program in programs() {
        let args = ["--kubeconfig", &kubeconfig, "--health-listen", &address];
        let text = refused(program, &args, &WHOLE, 1);
        let expected = format!("cannot listen on {address} for health checks: ");
        assert!(text.contains(&expected), "{text}");
        assert!(
            text.ends_with("; choose another --health-listen\n"),
            "{text}"
        );
    }
}

#[test]
fn the_readme_names_only_options_that_exist() {
    let readme = include_str!("../../README.md");
    for program in programs() {
        let help = program.output(&["--help"], &[]);
        let help = String::from_utf8(help.stdout).unwrap();
        let mut lines = 0;
        for line in readme
            .lines()
            .filter(|line| line.starts_with("pipeops-agent "))
        {
            lines += 1;
            for option in line.split(' ').filter(|word| word.starts_with("--")) {
                assert!(help.contains(&format!("{option} ")), "{option} in {line}");
            }
        }
        assert!(lines > 0);
    }
}
