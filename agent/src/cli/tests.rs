//! The command line: what it becomes, and the exact texts of what is wrong.

use clap::error::ErrorKind;

use super::*;
use crate::testing::Folder;

const SECRET: &str = "s3cret-t0ken";

const KUBECONFIG: &str = "
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: 'https://127.0.0.1:6443'}}]
users: [{name: u, user: {token: kube-t0ken}}]
";

fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
    let all = ["pipeops-agent"].iter().chain(args).copied();
    Cli::parse_from_args("pipeops-agent", "tokio", all)
}

/// A command line that is complete, with `extra` flags, in a folder with a kubeconfig.
fn complete(folder: &Folder, extra: &[&str]) -> Result<Config, Error> {
    let kubeconfig = folder.file("config", KUBECONFIG).display().to_string();
    let mut args = vec!["--kubeconfig", &kubeconfig];
    let defaults = [
        ("--api-url", "https://api.example.com"),
        ("--token", SECRET),
        ("--cluster-name", "prod"),
    ];
    for (flag, value) in defaults {
        if !extra.contains(&flag) {
            args.extend([flag, value]);
        }
    }
    args.extend(extra);
    parse(&args).unwrap().into_config()
}

fn refused(extra: &[&str]) -> String {
    let folder = Folder::new();
    let error = complete(&folder, extra).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    assert!(!format!("{error} {error:?}").contains(SECRET));
    error.to_string()
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn the_defaults() {
    let folder = Folder::new();
    let config = complete(&folder, &[]).unwrap();
    assert_eq!(config.api_url, "https://api.example.com");
    assert_eq!(config.cluster_name, "prod");
    assert_eq!(config.identity, IdentityPolicy::ServiceAccount);
    assert_eq!(config.agent_id, AgentId::File(agent_id::default_file()));
    assert_eq!(config.drain_timeout, Duration::from_secs(25));
    assert_eq!(config.health_listen, None);
    assert_eq!(config.kubernetes.url, "https://127.0.0.1:6443");
    assert_eq!(config.kubernetes.limits.connections, 256);
    assert!(!config.allow_plaintext && !config.terminal_translation && !config.binary_answers);
    assert!(config.tunnels.is_empty() && config.gateways.is_empty());
    assert_eq!(parse(&[]).unwrap().log(), logging::Options::default());
}

#[test]
fn every_flag_arrives() {
    let folder = Folder::new();
    let config = complete(
        &folder,
        &[
            "--agent-id=agent-1f2e",
            "--ca-file=ca",
            "--cert-file=cert",
            "--key-file=key",
            "--identity=impersonate",
            "--terminal-translation",
            "--binary-answers",
            "--allow-tunnel=pg.db:5432,localhost:53",
            "--allow-tunnel=redis.cache:6379",
            "--allow-gateway=gw.example.com",
            "--allow-gateway=.gw.example.net, ::1",
            "--region=DE",
            "--cloud-provider=hetzner",
            "--label=env=prod",
            "--label=note=a=b",
            "--health-listen=127.0.0.1:8081",
            "--drain-timeout=3",
            "--upstream-connections=9",
        ],
    )
    .unwrap();
    assert_eq!(config.agent_id, AgentId::Given("agent-1f2e".into()));
    let tls = &config.tls;
    let files = [&tls.ca_file, &tls.cert_file, &tls.key_file];
    assert_eq!(
        files.map(|f| f.clone().unwrap()),
        ["ca", "cert", "key"].map(PathBuf::from)
    );
    assert_eq!(config.identity, IdentityPolicy::Impersonate);
    assert!(config.terminal_translation && config.binary_answers);
    let tunnels: Vec<String> = config.tunnels.iter().map(ToString::to_string).collect();
    assert_eq!(tunnels, ["pg.db:5432", "localhost:53", "redis.cache:6379"]);
    assert_eq!(
        config.gateways,
        ["gw.example.com", ".gw.example.net", "::1"]
    );
    assert_eq!(
        (&*config.region, &*config.cloud_provider),
        ("DE", "hetzner")
    );
    assert_eq!(config.labels["env"], "prod");
    assert_eq!(config.labels["note"], "a=b");
    assert_eq!(
        config.health_listen,
        Some("127.0.0.1:8081".parse().unwrap())
    );
    assert_eq!(config.drain_timeout, Duration::from_secs(3));
    assert_eq!(config.kubernetes.limits.connections, 9);
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(
        refused(&["--api-url", ""]),
        "the control plane's URL is missing: set PIPEOPS_API_URL or give --api-url"
    );
    assert_eq!(
        refused(&["--token", ""]),
        "the agent's token is missing or empty: set PIPEOPS_TOKEN or give --token-file"
    );
    assert_eq!(
        refused(&["--cluster-name", " "]),
        "the cluster's name is missing: set PIPEOPS_CLUSTER_NAME or give --cluster-name"
    );
}

#[test]
fn a_wrong_scheme_is_named() {
    assert_eq!(
        refused(&["--api-url", "http://api.example.com"]),
        "the control plane's URL begins with http://, which would send the token unencrypted: \
         use https:// or wss://, or for a test give --allow-plaintext"
    );
    assert_eq!(
        refused(&["--api-url", "ftp://api.example.com"]),
        "the control plane's URL has the scheme \"ftp\": use https:// or wss://"
    );
    let folder = Folder::new();
    let args = ["--api-url", "ws://h", "--allow-plaintext"];
    assert!(complete(&folder, &args).unwrap().allow_plaintext);
}

#[test]
fn a_wrong_id_or_token_is_named() {
    assert_eq!(
        refused(&["--agent-id", "a b"]),
        "PIPEOPS_AGENT_ID or --agent-id: this is no agent id: use 1 to 128 letters, digits, \
         \"-\", \".\" or \"_\", such as agent-0123456789abcdef"
    );
    let text = refused(&["--token", "s3cret-t0ken with spaces"]);
    assert!(
        text.starts_with("PIPEOPS_TOKEN or --token: the token holds characters"),
        "{text}"
    );
}

#[test]
fn a_token_file_is_taken_and_two_tokens_are_not() {
    let folder = Folder::new();
    let args = ["--token", "", "--token-file", "/run/token"];
    let config = complete(&folder, &args).unwrap();
    assert!(matches!(config.token, TokenSource::File(path) if path == Path::new("/run/token")));
    assert_eq!(
        refused(&["--token-file", "/run/token"]),
        "both a token (PIPEOPS_TOKEN or --token) and --token-file are given: keep one of them"
    );
}

#[test]
fn flags_that_belong_together_are_asked_for_together() {
    for lonely in [
        ["--cert-file", "c"],
        ["--key-file", "k"],
        ["--context", "c"],
    ] {
        let error = parse(&lonely).unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::MissingRequiredArgument,
            "{lonely:?}"
        );
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn values_that_are_not_what_they_should_be_are_refused() {
    for wrong in [
        ["--identity", "root"],
        ["--log-level", "loud"],
        ["--log-format", "xml"],
        ["--label", "novalue"],
        ["--label", "=x"],
        ["--drain-timeout", "-1"],
        ["--drain-timeout", "soon"],
        ["--upstream-connections", "0"],
        ["--health-listen", "8081"],
        ["--allow-tunnel", "example.com:80:80"],
        ["--allow-tunnel", "pg:5432"],
        ["--allow-tunnel", "127.0.0.1:22"],
        ["--allow-tunnel", "localhost"],
        ["--allow-gateway", "wss://gw.example.com/ws"],
        ["--allow-gateway", "gw.example.com:443"],
    ] {
        let error = parse(&[&wrong.join("=")]).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{wrong:?}");
        assert!(error.to_string().contains(wrong[0]), "{error}");
    }
}

#[test]
fn the_levels_of_the_original_are_understood() {
    for (text, level) in [
        ("DEBUG", Level::Debug),
        ("warning", Level::Warn),
        ("", Level::Info),
        ("error", Level::Error),
    ] {
        assert_eq!(parse(&["--log-level", text]).unwrap().log().level, level);
    }
}

#[test]
fn the_token_is_never_shown() {
    let cli = parse(&["--token", SECRET]).unwrap();
    assert!(!format!("{cli:?}").contains(SECRET));
    let folder = Folder::new();
    let config = complete(&folder, &[]).unwrap();
    let shown = format!("{config:?}");
    assert!(
        !shown.contains(SECRET) && !shown.contains("kube-t0ken"),
        "{shown}"
    );
}

#[test]
fn version_names_the_runtime() {
    let answer = parse(&["--version"]).unwrap_err();
    assert_eq!(answer.kind(), ErrorKind::DisplayVersion);
    assert_eq!(answer.exit_code(), 0);
    assert_eq!(
        answer.to_string(),
        format!("pipeops-agent {VERSION} (runtime: tokio)\n")
    );
}
