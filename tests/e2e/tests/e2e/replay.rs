//! The recordings of real clusters (`tests/recordings`), replayed: the client's side is played to
//! the stand-in, and what it answers is compared with what the real server answered.
//!
//! Times, identities and how output is cut into messages are set aside. All other differences are
//! in [`table`], by recording. The recordings show version 1.36 of API server and kubelet with
//! containerd 1.6; their tokens are left out.

mod facts;
pub(crate) mod play;
mod ports;
mod spdy;
pub(crate) mod table;
pub(crate) mod transcript;
mod tunnel;
pub(crate) mod wire;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use controlplane_e2e::standin::spdy::Frame;
use controlplane_e2e::standin::{Options, StandIn};

use self::play::{Stage, play};
use self::table::{Recording, Setup, TABLE, Verdict};
use self::transcript::{Event, Side, What};
use self::wire::Target;

/// The pods of the recorded clusters, which a stand-in must have.
pub(crate) const PODS: [&str; 8] = [
    "web",
    "att",
    "atty",
    "victim",
    "victim-v4",
    "victim-v5",
    "victimf-v4",
    "victimf-v5",
];

/// Where the recordings are.
fn recordings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings")
}

/// What is in a recording.
pub(crate) fn events(recording: &Recording) -> Result<Vec<Event>> {
    transcript::read(&recordings().join(format!("{}.jsonl", recording.name)))
}

/// Plays a recording to a stand-in of its own.
async fn replay(recording: &Recording, events: &[Event]) -> Result<()> {
    let standin = StandIn::start(Options {
        pods: PODS.map(str::to_owned).into(),
        ..Options::default()
    })
    .await?;
    let target = Target {
        address: standin.addr(),
        ca_pem: standin.ca_pem().to_owned(),
        token: standin.token().to_owned(),
        prefix: String::new(),
    };
    let folder = empty_folder(recording.name)?;
    let mut standin = Some(standin);
    if recording.setup == Setup::Gone
        && let Some(standin) = standin.take()
    {
        standin.shutdown().await;
    }
    let stage = Stage {
        standin: standin.as_ref(),
        target: &target,
        folder: &folder,
    };
    let played = play(recording, events, &stage).await;
    std::fs::remove_dir_all(&folder)?;
    played.with_context(|| format!("replaying {}", recording.name))
}

/// An empty folder of nobody else's, with that in its name.
fn empty_folder(name: &str) -> Result<PathBuf> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = format!("controlplane-replay-{}-{number}-{name}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Whether it came out as the table says.
pub(crate) fn judge(recording: &Recording, played: Result<()>) -> Result<()> {
    match (recording.verdict, played) {
        (Verdict::Reproduced, played) => played,
        (Verdict::Differs(instead, _), Err(report)) => {
            let seen = format!("    seen: {instead}");
            let report = format!("{report:#}");
            ensure!(
                report.contains(&seen),
                "should differ by {instead:?}: {report}"
            );
            Ok(())
        }
        (Verdict::Differs(_, why), Ok(())) => {
            bail!("{} does not differ: {why}", recording.name)
        }
    }
}

#[tokio::test]
async fn the_stand_in_answers_as_the_recorded_servers() {
    let mut failed = Vec::new();
    for recording in TABLE {
        let played = replay(recording, &events(recording).unwrap()).await;
        if let Err(report) = judge(recording, played) {
            failed.push(format!("{report:#}"));
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} differ:\n{}",
        failed.len(),
        TABLE.len(),
        failed.join("\n")
    );
}

#[test]
fn every_recording_is_in_the_table() {
    let files = std::fs::read_dir(recordings()).unwrap();
    let files: BTreeSet<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let table: BTreeSet<_> = TABLE
        .iter()
        .map(|recording| format!("{}.jsonl", recording.name))
        .collect();
    assert_eq!(table.len(), TABLE.len(), "one is there twice");
    assert_eq!(files, table);
}

/// The recording of that name.
fn named(name: &str) -> &'static Recording {
    let mut named = TABLE.iter().filter(|recording| recording.name == name);
    named.next().unwrap()
}

/// A replay that cannot fail would say nothing: each change to what was recorded is found.
#[tokio::test]
async fn a_difference_is_told() {
    let recording = named("raw-v5-exit3");
    let whole = events(recording).unwrap();
    for index in 0..whole.len() {
        let mut changed = whole.clone();
        let expected = match &mut changed[index].what {
            What::Head(lines) if index == 1 => {
                lines[3].push('x');
                "sec-websocket-accept"
            }
            What::Frame(frame) => {
                frame.payload.push(b'x');
                "recorded: "
            }
            What::End => {
                changed.insert(index, whole[index - 1].clone());
                "seen: end of TCP"
            }
            _ => continue,
        };
        let report = format!("{:#}", replay(recording, &changed).await.unwrap_err());
        assert!(report.contains("raw-v5-exit3"), "{report}");
        assert!(report.contains(expected), "{index}: {report}");
    }
}

/// The same for SPDY, frame by frame.
#[tokio::test]
async fn a_difference_in_a_frame_of_spdy_is_told() {
    let recording = named("exec-spdy");
    let whole = events(recording).unwrap();
    let mut changes = 0;
    for index in 0..whole.len() {
        let mut changed = whole.clone();
        let event = &mut changed[index];
        let What::Spdy(frame, _) = &mut event.what else {
            continue;
        };
        match frame {
            _ if event.side == Side::Client => continue,
            // One that is not recorded at all.
            Frame::SynReply { .. } => event.what = What::Aside,
            Frame::RstStream { stream, .. } => *stream += 2,
            Frame::Data { data, .. } if !data.is_empty() => data[0] ^= 1,
            Frame::Data { fin, .. } => *fin = false,
            Frame::GoAway { last_stream, .. } => *last_stream = 5,
            other => panic!("{other:?} was not recorded"),
        }
        let report = format!("{:#}", replay(recording, &changed).await.unwrap_err());
        assert!(
            report.contains("exec-spdy, connection 2, event "),
            "{report}"
        );
        changes += 1;
    }
    assert_eq!(changes, 12);
}
