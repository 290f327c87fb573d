//! The conformance suite's half for controllers, played against this project's: in this process and
//! in one of its own, in both modes.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::Result;
use controlplane_driver::{Roots, TlsOptions, Token};
use controlplane_e2e::{
    conformance::{
        Options,
        controller::{Access, Subject, run},
        report::{Outcome, Report},
    },
    world::{Settings, parts::serve},
};
use pipeops_controller::{
    Mode, Running,
    self_signed::{CLUSTER, SelfSigned},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::bench::block_on_within;

/// For all of the vectors, one after the other.
const LONG: Duration = Duration::from_secs(300);

const NO_TUNNELS: &str = "no message and no request makes a controller open a tunnel";
const NO_TIME: &str = "it lets more time pass than was granted";
const NO_FAST: &str = "it offers no fast mode";
const NO_CLIENT: &str = "nothing is known of a client's access to its cluster";

/// A folder of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("controlplane-conformance-{}-{count}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Which cannot be played, by the reason.
fn excused(report: &Report) -> BTreeMap<&str, Vec<&str>> {
    let mut excused: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for check in &report.checks {
        if let Outcome::NotApplicable(why) = &check.outcome {
            excused.entry(why).or_default().push(&check.title);
        }
    }
    excused
}

/// The controller at `address`, whose files are in `folder`.
fn subject(address: SocketAddr, folder: &Path, cluster: &str) -> Result<Subject> {
    let files = SelfSigned::at(folder);
    let token = |path| Ok::<_, anyhow::Error>(Token::new(fs::read_to_string(path)?.trim())?);
    Ok(Subject {
        name: "pipeops-controller".into(),
        url: format!("https://{address}"),
        token: token(files.agent_token())?,
        tls: TlsOptions {
            ca_pem: fs::read(files.ca())?,
            roots: Roots::Only,
            ..TlsOptions::default()
        },
        client: Some(Access {
            url: format!("https://{address}/clusters/{cluster}"),
            token: token(files.user_token())?,
        }),
    })
}

/// A controller in this process, of a cluster as the vectors have it.
async fn here(folder: &Folder, mode: Mode) -> Result<(Running, Subject)> {
    let files = SelfSigned::create(&folder.0, &[])?;
    let text = fs::read_to_string(files.credentials())?;
    let mut credentials: serde_json::Value = serde_json::from_str(&text)?;
    credentials["agents"][0]["name"] = "prod".into();
    credentials["agents"][0]["workspace_id"] = 123.into();
    fs::write(files.credentials(), credentials.to_string())?;
    let settings = Settings {
        mode,
        ..Settings::default()
    };
    let running = serve(&files, SocketAddr::from(([127, 0, 0, 1], 0)), &settings).await?;
    let subject = subject(running.addr(), &folder.0, "prod")?;
    Ok((running, subject))
}

const TUNNELS: [&str; 6] = [
    "a controller opens a TCP tunnel",
    "a tunnel that fails, as the example has it",
    "a tunnel that its service closes",
    "failures without a text",
    "a controller's UDP client",
    "no tunnel is asked of an agent that does not offer them",
];
const FAST: [&str; 3] = [
    "a controller greets an agent that offers yamux",
    "an agent that declines stays with JSON",
    "streams of the agent are reset",
];
const TIME: [&str; 1] = ["a controller never sends a ping as JSON"];

#[test]
fn the_controller_in_this_process_passes_all_that_can_be_asked_of_it() {
    block_on_within(LONG, async {
        let folder = Folder::new();
        let (_running, subject) = here(&folder, Mode::Fast).await.unwrap();
        let report = run(&subject, &Options::default()).await.unwrap();
        assert!(report.passed(), "{report}");
        let expected = BTreeMap::from([(NO_TUNNELS, TUNNELS.to_vec()), (NO_TIME, TIME.to_vec())]);
        assert_eq!(excused(&report), expected);
    });
}

#[test]
fn the_controller_without_the_fast_mode_passes_the_rest() {
    block_on_within(LONG, async {
        let folder = Folder::new();
        let (_running, subject) = here(&folder, Mode::Json).await.unwrap();
        let report = run(&subject, &Options::default()).await.unwrap();
        assert!(report.passed(), "{report}");
        let expected = BTreeMap::from([
            (NO_TUNNELS, TUNNELS.to_vec()),
            (NO_TIME, TIME.to_vec()),
            (NO_FAST, FAST.to_vec()),
        ]);
        assert_eq!(excused(&report), expected);
    });
}

/// The program as its users start it; here the cluster has another name, and no workspace.
#[test]
fn the_controllers_program_passes() {
    block_on_within(LONG, async {
        let folder = Folder::new();
        let mut program = Command::new(env!("CARGO_BIN_EXE_controller-program"))
            .args(["serve", "--listen", "127.0.0.1:0", "--self-signed"])
            .arg(&folder.0)
            .stdout(Stdio::piped())
            // Its lines of audit; the report says what was wrong.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(program.stdout.take().unwrap()).lines();
        let first = said.next_line().await.unwrap().unwrap();
        let url = first.strip_prefix("The controller listens on https://");
        let address = url.and_then(|rest| rest.strip_suffix('.')).expect(&first);
        let subject = subject(address.parse().unwrap(), &folder.0, CLUSTER).unwrap();
        let report = run(&subject, &Options::default()).await.unwrap();
        assert!(report.passed(), "{report}");
        let expected = BTreeMap::from([(NO_TUNNELS, TUNNELS.to_vec()), (NO_TIME, TIME.to_vec())]);
        assert_eq!(excused(&report), expected);
    });
}

#[test]
fn without_a_client_the_rest_is_played() {
    block_on_within(LONG, async {
        let folder = Folder::new();
        let (_running, mut subject) = here(&folder, Mode::Fast).await.unwrap();
        subject.client = None;
        let report = run(&subject, &Options::default()).await.unwrap();
        assert!(report.passed(), "{report}");
        let excused = excused(&report);
        assert_eq!(excused[NO_TUNNELS], TUNNELS);
        assert_eq!(excused[NO_TIME], TIME);
        // What is left is what an agent alone can see.
        assert_eq!((excused[NO_CLIENT].len(), report.total().pass), (62, 24));
    });
}

/// A client whom the controller does not know gets nothing of what the vectors expect.
#[test]
fn a_controller_that_answers_otherwise_fails() {
    block_on_within(LONG, async {
        let folder = Folder::new();
        let (_running, mut subject) = here(&folder, Mode::Fast).await.unwrap();
        subject.client.as_mut().unwrap().token = Token::new("wrong").unwrap();
        let options = Options {
            only: Some("streamed-responses".into()),
            patience: Duration::from_millis(300),
            ..Options::default()
        };
        let report = run(&subject, &options).await.unwrap();
        let total = report.total();
        assert_eq!((total.pass, total.fail), (0, 10), "{report}");
    });
}

#[test]
fn who_cannot_be_tested_is_told_why() {
    block_on_within(LONG, async {
        let folder = Folder::new();
        let (_running, subject) = here(&folder, Mode::Fast).await.unwrap();
        let told = async |subject: Subject, options: Options| {
            let error = run(&subject, &options).await.unwrap_err();
            format!("{error:#}")
        };
        let wrong = Subject {
            token: Token::new("wrong").unwrap(),
            ..subject.clone()
        };
        let text = told(wrong, Options::default()).await;
        assert!(text.contains("401") && !text.contains("wrong"), "{text}");
        let plain = Subject {
            url: subject.url.replace("https", "http"),
            ..subject.clone()
        };
        let text = told(plain, Options::default()).await;
        assert!(text.contains("https://"), "{text}");
        let nothing = Options {
            only: Some("no such thing".into()),
            ..Options::default()
        };
        let text = told(subject, nothing).await;
        assert!(text.contains("no such thing"), "{text}");
    });
}
