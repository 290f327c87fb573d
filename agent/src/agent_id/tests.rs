//! The id over restarts, and over everything that can be wrong with its file.

use super::*;
use crate::testing::Folder;

#[test]
fn a_generated_id_has_the_form_of_the_protocol() {
    let (a, b) = (generate().unwrap(), generate().unwrap());
    assert_ne!(a, b);
    let digits = a.strip_prefix("agent-").unwrap();
    assert_eq!(digits.len(), 16);
    assert!(
        digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    );
    check(&a).unwrap();
}

#[test]
fn an_id_is_kept_over_restarts_in_a_private_file() {
    let folder = Folder::new();
    let path = folder.path().join("deep/er/agent-id");
    let id = AgentId::File(path.clone());
    let first = id.resolve().unwrap();
    assert_eq!(id.resolve().unwrap(), first);
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{first}\n"));
    let left = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "a draft was left behind");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn where_no_file_can_be_an_id_is_made_all_the_same() {
    let folder = Folder::new();
    let blocker = folder.path().join("file");
    fs::write(&blocker, "").unwrap();
    let id = AgentId::File(blocker.join("agent-id"));
    let first = id.resolve().unwrap();
    check(&first).unwrap();
    assert_ne!(id.resolve().unwrap(), first);
}

#[test]
fn a_file_with_something_else_is_refused_and_left_alone() {
    let folder = Folder::new();
    let path = folder.path().join("agent-id");
    for text in ["", "two words", "a/b"] {
        fs::write(&path, text).unwrap();
        let error = AgentId::File(path.clone()).resolve().unwrap_err();
        let expected = format!(
            "the agent id file {} does not hold an agent id: delete it to become a new agent, \
             or give --agent-id",
            path.display()
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.exit_code(), 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn a_folder_in_its_place_is_named() {
    let folder = Folder::new();
    let error = AgentId::File(folder.path().into()).resolve().unwrap_err();
    let text = error.to_string();
    let start = format!(
        "cannot read the agent id file {}: ",
        folder.path().display()
    );
    assert!(text.starts_with(&start), "{text}");
    assert!(
        text.ends_with("; make it readable, or give --agent-id"),
        "{text}"
    );
}

#[test]
fn a_given_id_is_checked() {
    assert_eq!(AgentId::from("agent-1f2e").resolve().unwrap(), "agent-1f2e");
    let long = "x".repeat(129);
    for id in ["", " ", "a b", "a\nb", "ä", &long] {
        assert!(AgentId::from(id).resolve().is_err(), "{id:?}");
    }
}

#[test]
fn the_default_file_is_in_the_state_folder() {
    let in_env = |set: &[(&str, &str)]| {
        let found = default_file_in(|name| {
            let value = set.iter().find(|(n, _)| *n == name)?.1;
            Some(value.into())
        });
        found.display().to_string()
    };
    let (xdg, home) = (("XDG_STATE_HOME", "/state"), ("HOME", "/home/x"));
    assert_eq!(in_env(&[xdg, home]), "/state/pipeops-agent/agent-id");
    assert_eq!(
        in_env(&[home]),
        "/home/x/.local/state/pipeops-agent/agent-id"
    );
    // As the XDG specification demands, a relative folder is ignored.
    let relative = ("XDG_STATE_HOME", "state");
    assert_eq!(
        in_env(&[relative, home]),
        "/home/x/.local/state/pipeops-agent/agent-id"
    );
    assert_eq!(in_env(&[]), "/var/lib/pipeops-agent/agent-id");
}
