//! Credentials as text, as a file, and as tokens.

use std::fs;

use super::*;
use crate::testing::Folder;

const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"; // "secret"

fn parse(text: &str) -> Result<Credentials, CredentialsError> {
    Credentials::parse(text, Path::new("c.json"))
}

fn agent(id: &str, name: &str) -> String {
    format!(r#"{{"id":"{id}","name":"{name}","token_sha256":"{HASH}"}}"#)
}

fn agents(entries: &[String]) -> String {
    format!("{{\"agents\":[\n{}\n]}}", entries.join(",\n"))
}

fn user(clusters: &str) -> UserCredential {
    let text = format!(
        r#"{{"users":[{{"id":"u","name":"jane","token_sha256":"{HASH}","clusters":{clusters}}}]}}"#
    );
    parse(&text).unwrap().users.remove(0)
}

#[test]
fn a_token_is_found_by_its_hash() {
    let credentials = parse(&agents(&[agent("a", "prod"), agent("b", "test")])).unwrap();
    assert!(credentials.agent_by_token("secret").is_some());
    assert!(credentials.agent_by_token("Secret").is_none());
    assert!(credentials.agent_by_token(HASH).is_none());
    assert!(credentials.agent_by_token("").is_none());
    assert!(credentials.user_by_token("secret").is_none());
}

#[test]
fn names_of_fields_and_the_cluster_id_are_constant() {
    let text = format!(
        r#"{{"agents":[{{"id":"agent-1","name":"prod","workspace_id":42,"token_sha256":"{HASH}"}}],
            "users":[{{"id":"user-1","name":"jane","token_sha256":"{HASH}","clusters":["*"],
                       "kubernetes_user":"jane","groups":["dev"]}}]}}"#
    );
    let credentials = parse(&text).unwrap();
    // Made of the id alone: another value would make every known cluster a new one.
    let id = "dbf4e194-4959-5988-b73c-0e6e8594681b";
    assert_eq!(credentials.agents[0].cluster_id(), id);
    let written = serde_json::to_value(&credentials).unwrap();
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written, read);
}

#[test]
fn a_cluster_is_found_by_id_and_by_name() {
    let credentials = parse(&agents(&[agent("a", "prod"), agent("b", "test")])).unwrap();
    let test = credentials.cluster("test").unwrap();
    assert_eq!(test.id, "b");
    assert_eq!(credentials.cluster(test.cluster_id()).unwrap().id, "b");
    assert!(credentials.cluster("b").is_none());
    assert!(credentials.cluster("Test").is_none());
}

#[test]
fn a_user_reaches_what_is_listed() {
    let credentials = parse(&agents(&[agent("a", "prod"), agent("b", "test")])).unwrap();
    let [prod, test] = &credentials.agents[..] else {
        panic!()
    };
    let by_id = format!("[{:?}]", test.cluster_id());
    for (clusters, reaches) in [
        ("[]", [false, false]),
        (r#"["*"]"#, [true, true]),
        (r#"["prod"]"#, [true, false]),
        (r#"["p*", "PROD"]"#, [false, false]),
        (&by_id, [false, true]),
    ] {
        let user = user(clusters);
        assert_eq!(
            [prod, test].map(|a| user.may_reach(a)),
            reaches,
            "{clusters}"
        );
    }
}

#[test]
fn errors_name_file_line_and_remedy() {
    let dotted = agents(&[agent("a", "prod"), agent("b", "a/b")]);
    let twice = agents(&[agent("a", "prod"), agent("b", "prod")]);
    let same_id = agents(&[agent("a", "prod"), agent("a", "test")]);
    let uuid = agents(&[agent("a", "2d04aedf-cdda-5166-a2b7-9aa4b74b3c9f")]);
    let groups = format!(
        r#"{{"users":[{{"id":"u","name":"jane","token_sha256":"{HASH}","groups":["a"]}}]}}"#
    );
    for (text, line, part) in [
        ("{\n\"agents\": [\n", 3, "EOF"),
        ("{\n\"agent\": []}", 2, "unknown field `agent`"),
        (
            "{\"agents\":[{\n\"id\":\"a\",\n\"name\":\"b\"}]}",
            3,
            "token_sha256",
        ),
        (
            "{\"users\":[{\n\"token_sha256\":\"abc\"}]}",
            2,
            "64 hexadecimal digits",
        ),
        (&dotted, 3, "stands in URLs"),
        (&twice, 3, "the name of two agents"),
        (&same_id, 3, "the id of two entries"),
        (&uuid, 2, "looks like a cluster id"),
        (&groups, 1, "no kubernetes_user"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        let start = format!("the credentials file c.json, line {line}, is broken: ");
        assert!(error.starts_with(&start), "{error}");
        assert!(error.contains(part), "{error}");
        assert!(error.contains("mend that line"), "{error}");
        assert!(!error.contains(HASH), "{error}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let credentials = parse(&agents(&[agent("a", "prod")])).unwrap();
    assert!(!format!("{credentials:?}").contains(&HASH[..8]));
    let folder = Folder::new();
    let created = CredentialsFile::new(folder.path("c"))
        .add_agent("prod", None)
        .unwrap();
    let shown = format!("{created:?}");
    assert!(!shown.contains(created.token.as_str()), "{shown}");
}

#[test]
fn tokens_are_long_and_each_is_another() {
    let folder = Folder::new();
    let file = CredentialsFile::new(folder.path("c"));
    let tokens: Vec<Created> = ["a", "b"]
        .map(|name| file.add_agent(name, None).unwrap())
        .into();
    assert_ne!(tokens[0].token, tokens[1].token);
    assert_ne!(tokens[0].id, tokens[1].id);
    for created in &tokens {
        let secret = created.token.as_str().strip_prefix("cpa_").unwrap();
        assert_eq!(secret.len(), 43);
    }
    let user = file
        .add_user(NewUser {
            name: "jane".into(),
            clusters: vec!["a".into()],
            ..NewUser::default()
        })
        .unwrap();
    assert!(user.token.as_str().starts_with("cpu_"));
}

#[test]
fn a_credential_is_added_renewed_and_revoked() {
    let folder = Folder::new();
    let file = CredentialsFile::new(folder.path("c.json"));
    let missing = file.load().unwrap_err().to_string();
    assert!(
        missing.contains("token agent NAME --credentials"),
        "{missing}"
    );

    let first = file.add_agent("prod", Some(42)).unwrap();
    let before = file.load().unwrap();
    let found = before.agent_by_token(first.token.as_str()).unwrap();
    assert_eq!(
        (found.name.as_str(), found.workspace_id),
        ("prod", Some(42))
    );
    assert_eq!(Some(found.cluster_id()), first.cluster_id.as_deref());

    let second = file.renew(&first.id).unwrap();
    assert_eq!(second.cluster_id, first.cluster_id);
    let after = file.load().unwrap();
    assert!(after.agent_by_token(first.token.as_str()).is_none());
    assert!(after.agent_by_token(second.token.as_str()).is_some());

    assert_eq!(file.revoke(&first.id).unwrap(), "prod");
    assert!(file.load().unwrap().agents.is_empty());
    assert!(matches!(
        file.revoke(&first.id),
        Err(CredentialsError::Refused(_))
    ));
    assert!(matches!(
        file.renew(&first.id),
        Err(CredentialsError::Refused(_))
    ));
}

#[test]
fn what_would_break_the_file_is_refused_and_leaves_it_as_it_was() {
    let folder = Folder::new();
    let file = CredentialsFile::new(folder.path("c.json"));
    file.add_agent("prod", None).unwrap();
    let before = fs::read(file.path()).unwrap();
    let user = |cluster: &str, group: Option<&str>| NewUser {
        name: "jane".into(),
        clusters: vec![cluster.into()],
        groups: group.into_iter().map(Into::into).collect(),
        ..NewUser::default()
    };
    for refused in [
        file.add_agent("prod", None),
        file.add_agent("a b", None),
        file.add_agent("", None),
        file.add_user(user("nowhere", None)),
        file.add_user(user("prod", Some("dev"))),
    ] {
        assert!(
            matches!(refused, Err(CredentialsError::Refused(_))),
            "{refused:?}"
        );
    }
    assert!(
        fs::read(file.path()).unwrap() == before,
        "the file has changed"
    );
    assert!(!folder.path("c.json.new").exists());
}

#[test]
fn a_change_under_way_keeps_others_out() {
    let folder = Folder::new();
    let file = CredentialsFile::new(folder.path("c.json"));
    fs::write(folder.path("c.json.new"), "another's").unwrap();
    let error = file.add_agent("prod", None).unwrap_err();
    assert!(matches!(error, CredentialsError::Busy { .. }));
    assert!(error.to_string().contains("c.json.new"), "{error}");
    assert_eq!(
        fs::read_to_string(folder.path("c.json.new")).unwrap(),
        "another's"
    );
}

#[test]
fn a_broken_file_is_not_overwritten() {
    let folder = Folder::new();
    let file = CredentialsFile::new(folder.path("c.json"));
    fs::write(file.path(), "{").unwrap();
    assert!(matches!(
        file.add_agent("a", None),
        Err(CredentialsError::Broken { .. })
    ));
    assert_eq!(fs::read_to_string(file.path()).unwrap(), "{");
}

#[cfg(unix)]
#[test]
fn only_the_owner_reads_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let file = CredentialsFile::new(folder.path("c.json"));
    file.add_agent("prod", None).unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
    file.add_agent("test", None).unwrap();
    let mode = fs::metadata(file.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
