//! Kubeconfigs of every kind, and that no error quotes one.

use super::*;
use crate::testing::Folder;

/// A kubeconfig with these fields of the cluster and of the user, in flow style.
fn text(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\npreferences: {{}}\ncurrent-context: main\n\
         contexts:\n- name: other\n  context: {{cluster: nowhere, user: u}}\n\
         - name: main\n  context: {{cluster: k, user: u, namespace: default}}\n\
         - name: lost\n  context: {{cluster: k, user: nobody}}\n\
         - name: anonymous\n  context: {{cluster: k}}\n\
         - name: empty\n  context: {{user: u}}\n\
         clusters:\n- name: k\n  cluster: {{{cluster}}}\n\
         users:\n- name: u\n  user: {{{user}}}\n"
    )
}

const SERVER: &str = "server: 'https://10.0.0.1:6443'";

struct Read {
    folder: Folder,
    outcome: Result<KubernetesConfig, KubeconfigError>,
}

fn read_text(text: &str, context: Option<&str>) -> Read {
    let folder = Folder::new();
    let path = folder.file("config", text);
    let outcome = read(&path, context);
    Read { folder, outcome }
}

fn read_fields(cluster: &str, user: &str) -> Read {
    read_text(&text(&format!("{SERVER}, {cluster}"), user), None)
}

impl Read {
    /// The error without the file's name, and sure to quote nothing.
    fn problem(self) -> String {
        let error = self.outcome.unwrap_err();
        let text = error.to_string();
        assert!(!format!("{text} {error:?}").contains("s3cret"), "{text}");
        let start = format!(
            "the kubeconfig {} ",
            self.folder.path().join("config").display()
        );
        text.strip_prefix(&start).unwrap().to_owned()
    }
}

#[test]
fn a_token_and_an_authority_as_data() {
    let config = read_fields("certificate-authority-data: cGVt", "token: s3cret")
        .outcome
        .unwrap();
    assert_eq!(config.url, "https://10.0.0.1:6443");
    assert_eq!(config.tls.ca_pem, b"pem");
    assert_eq!(config.tls.roots, Roots::Only);
    assert_eq!(config.token.unwrap().read().unwrap().as_str(), "s3cret");
}

#[test]
fn files_are_relative_to_the_kubeconfig() {
    let read = read_fields(
        "certificate-authority: ca.crt",
        "client-certificate: sub/c.crt, client-key: /abs/c.key, tokenFile: token",
    );
    let folder = read.folder.path();
    let config = read.outcome.unwrap();
    assert_eq!(config.tls.ca_file, Some(folder.join("ca.crt")));
    assert_eq!(config.tls.cert_file, Some(folder.join("sub/c.crt")));
    assert_eq!(config.tls.key_file, Some("/abs/c.key".into()));
    assert!(matches!(config.token, Some(TokenSource::File(path)) if path == folder.join("token")));
}

#[test]
fn data_wins_over_files_and_the_token_file_over_the_token() {
    let read = read_fields(
        "certificate-authority: ca.crt, certificate-authority-data: cGVt",
        "client-certificate: c, client-certificate-data: Y2VydA==, client-key: k, \
         client-key-data: 'a2V5\n ', token: s3cret, tokenFile: token",
    );
    let config = read.outcome.unwrap();
    let tls = &config.tls;
    assert_eq!(
        (&tls.ca_file, &tls.cert_file, &tls.key_file),
        (&None, &None, &None)
    );
    assert_eq!((&*tls.cert_pem, &*tls.key_pem), (&b"cert"[..], &b"key"[..]));
    assert!(matches!(config.token, Some(TokenSource::File(_))));
}

#[test]
fn without_an_authority_the_systems_are_trusted() {
    let config = read_fields("insecure-skip-tls-verify: false", "token: x")
        .outcome
        .unwrap();
    assert_eq!(config.tls.roots, Roots::System);
}

#[test]
fn the_context_can_be_chosen() {
    let whole = text(SERVER, "token: s3cret");
    let anonymous = read_text(&whole, Some("anonymous")).outcome.unwrap();
    assert!(anonymous.token.is_none());
    let texts = [
        (
            "gone",
            "has no context \"gone\": see `kubectl config get-contexts`",
        ),
        ("empty", "lacks context.cluster, which the agent needs"),
        (
            "other",
            "has a context.cluster that names no cluster of the file: correct it, or give \
             another --context",
        ),
        (
            "lost",
            "has a context.user that names no user of the file: correct it, or give another \
             --context",
        ),
    ];
    for (context, expected) in texts {
        assert_eq!(read_text(&whole, Some(context)).problem(), expected);
    }
}

#[test]
fn no_current_context_and_one_that_is_not_there() {
    let none = text(SERVER, "token: s3cret").replace("current-context: main\n", "");
    assert_eq!(
        read_text(&none, None).problem(),
        "has no current-context: give --context"
    );
    let empty = none.replace("kind: Config", "kind: Config\ncurrent-context: ''");
    assert_eq!(
        read_text(&empty, None).problem(),
        "has no current-context: give --context"
    );
    let gone = text(SERVER, "token: x").replace("current-context: main", "current-context: s3cret");
    assert_eq!(
        read_text(&gone, None).problem(),
        "has a current-context that names no context of the file: correct it, or give another \
         --context"
    );
    // What `kubectl config view` prints where there is nothing.
    let nothing = "clusters: null\ncontexts: null\nusers: null\ncurrent-context: ''\n";
    assert_eq!(
        read_text(nothing, None).problem(),
        "has no current-context: give --context"
    );
}

#[test]
fn what_the_agent_does_not_do_is_refused_by_name() {
    const TOKEN: &str = "use a user with a token (`kubectl create token`) or a client certificate";
    let users = [
        ("exec: {command: s3cret, args: [s3cret]}", "user.exec"),
        ("auth-provider: {name: s3cret}", "user.auth-provider"),
        (
            "username: s3cret, password: s3cret",
            "user.username and user.password",
        ),
        ("password: s3cret", "user.username and user.password"),
    ];
    for (user, field) in users {
        let expected = format!("has {field}, which the agent does not support: {TOKEN}");
        assert_eq!(read_fields("", user).problem(), expected);
    }
    for user in [
        "as: s3cret",
        "as-groups: [s3cret]",
        "token: x, as-user-extra: {k: [s3cret]}",
    ] {
        let expected = "has user.as, which the agent does not support: use a user that has the \
                        wanted rights itself";
        assert_eq!(read_fields("", user).problem(), expected);
    }
    let clusters = [
        (
            "insecure-skip-tls-verify: true",
            "cluster.insecure-skip-tls-verify",
            "give the cluster's authority by certificate-authority or \
             certificate-authority-data",
        ),
        (
            "proxy-url: 'http://s3cret'",
            "cluster.proxy-url",
            "run the agent where it reaches the cluster directly",
        ),
    ];
    for (cluster, field, remedy) in clusters {
        let expected = format!("has {field}, which the agent does not support: {remedy}");
        assert_eq!(read_fields(cluster, "token: s3cret").problem(), expected);
    }
}

#[test]
fn fields_set_to_nothing_are_not_there() {
    let user = "token: x, exec: null, auth-provider: ~, username: null, tokenFile: '', as: null";
    let read = read_fields("certificate-authority: '', proxy-url: ''", user);
    // `as: null` too would be nothing, but a user that is impersonated by accident is worse than
    // one that is refused by accident.
    let text = read.problem();
    assert!(text.starts_with("has user.as, "), "{text}");
    let read = read_fields("certificate-authority: ''", &user.replace(", as: null", ""));
    assert!(read.outcome.unwrap().token.is_some());
}

#[test]
fn half_a_certificate_is_refused() {
    let lacks = |user| read_fields("", user).problem();
    let key = "lacks user.client-key, which the agent needs";
    assert_eq!(lacks("client-certificate: s3cret"), key);
    let cert = "lacks user.client-certificate, which the agent needs";
    assert_eq!(lacks("client-key-data: czNjcmV0"), cert);
    assert_eq!(
        read_text(&text("", "token: x"), None).problem(),
        "lacks cluster.server, which the agent needs"
    );
}

#[test]
fn data_that_is_not_base64_is_named_and_not_shown() {
    assert_eq!(
        read_fields("certificate-authority-data: s3cret!", "").problem(),
        "has a cluster.certificate-authority-data that is not base64"
    );
    assert_eq!(
        read_fields("", "client-key-data: s3cret!").problem(),
        "has a user.client-key-data that is not base64"
    );
    assert_eq!(
        read_fields("", "token: 's3cret with spaces'").problem(),
        "has a user.token with characters that no token has"
    );
}

#[test]
fn what_is_not_a_kubeconfig_is_located_and_not_quoted() {
    let wrong = [
        "users: s3cret\n",
        "users:\n- name: u\n  user: s3cret\n",
        "users:\n- name: u\n  user: {token: [s3cret]}\n",
        "users: [{name: u, user: {token: \"s3cret}}]\n",
        "s3cret",
        "current-context: {a: s3cret}",
        "clusters: [{cluster: {insecure-skip-tls-verify: s3cret}, name: k}]",
        "a: *s3cret",
        "users:\n\t- s3cret",
    ];
    for text in wrong {
        let problem = read_text(text, None).problem();
        let start = "cannot be understood at line ";
        assert!(problem.starts_with(start), "{text:?}: {problem}");
    }
    let problem = read_text(
        "current-context: c\nusers:\n- name: u\n  user: s3cret\n",
        None,
    )
    .problem();
    assert!(
        problem.starts_with("cannot be understood at line 4, column 9: "),
        "{problem}"
    );
}

#[test]
fn the_server_may_have_another_name_but_no_path() {
    let config = read_fields("tls-server-name: kubernetes", "token: x")
        .outcome
        .unwrap();
    assert_eq!(config.server_name.as_deref(), Some("kubernetes"));
    let expected = "has a cluster.server that the agent cannot use: it has to look like \
                    https://10.0.0.1:6443, without path, query or user name";
    for server in [
        "https://h/clusters/s3cret",
        "https://bob:s3cret@h",
        "https://h:x/s3cret",
        "https://h?s3cret",
        "ftp://s3cret",
        "s3cret",
    ] {
        let text = text(&format!("server: '{server}'"), "token: x");
        assert_eq!(read_text(&text, None).problem(), expected, "{server}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let text = read(Path::new("/nonexistent/config"), None)
        .unwrap_err()
        .to_string();
    let start = "the kubeconfig /nonexistent/config cannot be read: ";
    assert!(text.starts_with(start), "{text}");
}
