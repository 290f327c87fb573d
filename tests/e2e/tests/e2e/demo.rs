//! The demo program as its user meets it, and the promise that no log holds a secret.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

fn demo(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_demo_makes_its_tour_on_both_runtimes() {
    for runtime in ["tokio", "async-std"] {
        let output = demo(&["--once", "--runtime", runtime]);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{out}{err}");
        assert!(
            out.contains(&format!("agent on {runtime} registered")),
            "{out}"
        );
        assert!(out.ends_with("demo: all went well\n"), "{out}");
        assert_eq!(err, "");
    }
}

#[test]
fn a_folder_that_cannot_be_had_is_named() {
    let output = demo(&["--once", "--folder", "/proc/nosuch/folder"]);
    assert_eq!(output.status.code(), Some(1));
    let err = text(&output.stderr);
    assert!(
        err.starts_with("demo: ") && err.contains("/proc/nosuch/folder"),
        "{err}"
    );
}

/// P-199.
#[test]
fn p199_no_log_holds_a_secret_at_the_most_verbose_level() {
    for runtime in ["tokio", "async-std"] {
        let folder = Folder::new(runtime);
        let path = folder.0.display().to_string();
        let args = [
            "--once",
            "--log-level",
            "trace",
            "--folder",
            &path,
            "--runtime",
            runtime,
        ];
        let output = demo(&args);
        let log = text(&output.stderr) + &text(&output.stdout);
        assert!(output.status.success(), "{log}");
        // It is verbose indeed, down to the libraries.
        for part in [
            "DEBUG",
            "rustls",
            "tungstenite",
            "controlplane_driver",
            "pipeops_controller",
        ] {
            assert!(log.contains(part), "nothing of {part} in the log");
        }
        let secrets = folder.secrets();
        assert!(secrets.len() >= 5, "{} secrets", secrets.len());
        for secret in secrets {
            assert!(!log.contains(&*secret), "a secret is in the log");
        }
        assert!(!log.contains("PRIVATE KEY"));
    }
}

/// A folder whose files stay until the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("controlplane-secrets-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    /// Every token, and every line of every key.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = Vec::new();
        for name in [
            "agent.token",
            "user.token",
            "service-account.token",
            "key.pem",
        ] {
            let file = fs::read_to_string(self.0.join(name)).unwrap();
            let lines = file
                .lines()
                .filter(|l| !l.is_empty() && !l.starts_with("-----"));
            secrets.extend(lines.map(String::from));
        }
        secrets
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
