//! Plays the client's side of a recording, and compares the server's.

mod acts;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use controlplane_e2e::standin::{Backend, CONTAINER, StandIn};
use tokio::net::TcpStream;

use super::facts::{Asked, BARRIER, Fact, Origin, Progress, facts, progress};
use super::ports::serve;
use super::table::{Act, Recording, Setup};
use super::transcript::{Event, Frame, Side, What};
use super::wire::{Connection, Target};

/// A server that says nothing for so long has failed. Nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where recordings are played.
pub(crate) struct Stage<'a> {
    /// The API server behind the target; `None` where it is gone.
    pub(crate) standin: Option<&'a StandIn>,
    pub(crate) target: &'a Target,
    /// An empty folder.
    pub(crate) folder: &'a Path,
}

/// The play of one recording.
struct Play<'a> {
    recording: &'a Recording,
    events: &'a [Event],
    stage: &'a Stage<'a>,
    open: BTreeMap<u64, Connection>,
    /// What the acts opened.
    others: Vec<Connection>,
    act: Act,
}

/// Plays a recording.
///
/// # Errors
///
/// The first difference.
pub(crate) async fn play(recording: &Recording, events: &[Event], stage: &Stage<'_>) -> Result<()> {
    if recording.setup == Setup::Gone {
        ensure!(events.is_empty(), "there should be nothing to play");
        let refused = TcpStream::connect(stage.target.address).await.is_err();
        ensure!(refused, "somebody listens");
        return Ok(());
    }
    set_up(recording, stage)?;
    let mut play = Play {
        recording,
        events,
        stage,
        open: BTreeMap::new(),
        others: Vec::new(),
        act: recording.act,
    };
    for (index, event) in events.iter().enumerate() {
        play.event(index, event).await?;
    }
    ensure!(play.act == Act::Nothing, "no time came for {:?}", play.act);
    let open = std::mem::take(&mut play.open);
    for (number, connection) in &open {
        play.compare(*number, connection, events.len()).await?;
    }
    Ok(())
}

fn set_up(recording: &Recording, stage: &Stage<'_>) -> Result<()> {
    let Some(standin) = stage.standin else {
        bail!("there is no API server");
    };
    match recording.setup {
        Setup::Nothing | Setup::Gone => {}
        Setup::Forbidden => standin.forbid_exec(true),
        Setup::NoKubelet => standin.set_backend(Backend::NoKubelet),
        Setup::NoRuntime => standin.set_backend(Backend::NoRuntime),
        Setup::Main(pod, argv, tty) => standin.set_main(pod, argv, tty)?,
        Setup::Port(port, server) => standin.set_port("web", port, Some(serve(server)?))?,
    }
    Ok(())
}

impl Play<'_> {
    async fn event(&mut self, index: usize, event: &Event) -> Result<()> {
        let number = event.connection;
        if self.is_time_to_act(event) {
            self.wait(number, index).await?;
            self.act(number).await?;
        }
        match (event.side, &event.what) {
            (Side::Client, What::Open) => self.connect(number).await?,
            (Side::Client, What::Head(lines)) => {
                if !self.open.contains_key(&number) {
                    self.connect(number).await?;
                }
                self.wait(number, index).await?;
                let request = self.request(lines);
                self.connection(number)?.send(&request).await;
            }
            (Side::Client, What::Frame(frame)) => {
                self.wait(number, index).await?;
                self.connection(number)?.send_frame(frame).await;
            }
            (Side::Client, What::End) => self.leave(number, index).await?,
            (Side::Client, What::Spdy(_, bytes)) => {
                self.wait(number, index).await?;
                self.connection(number)?.send(bytes).await;
            }
            (Side::Server, What::Silence) => self.barrier(number, index).await?,
            (Side::Server, What::Killed(part)) => {
                self.wait(number, index).await?;
                match part.as_str() {
                    "containerd" => self.standin()?.set_backend(Backend::NoRuntime),
                    "kubelet" => self.standin()?.set_backend(Backend::NoKubelet),
                    "kube-apiserver" => self.standin()?.drop_streams(),
                    other => bail!("do not know how to kill {other}"),
                }
            }
            // The rest of the server's side is waited for when it matters, and compared at the end.
            _ => {}
        }
        Ok(())
    }

    fn standin(&self) -> Result<&StandIn> {
        self.stage.standin.context("there is no API server")
    }

    fn connection(&mut self, number: u64) -> Result<&mut Connection> {
        let found = self.open.get_mut(&number);
        found.with_context(|| format!("connection {number} is not open"))
    }

    async fn connect(&mut self, number: u64) -> Result<()> {
        let connection = Connection::open(self.stage.target).await?;
        self.open.insert(number, connection);
        Ok(())
    }

    /// The request as this target knows its paths, its names and its token.
    fn request(&self, lines: &[String]) -> Vec<u8> {
        let Target {
            address,
            token,
            prefix,
            ..
        } = self.stage.target;
        let mut text = String::new();
        for (index, line) in lines.iter().enumerate() {
            let line = match line.split_once(' ') {
                Some(("Host:", _)) => format!("Host: {address}"),
                Some((method, path)) if index == 0 => format!("{method} {prefix}{path}"),
                _ => line.clone(),
            };
            text += &line;
            text += "\r\n";
        }
        text += "\r\n";
        let container = format!("container={CONTAINER}");
        let bearer = format!("Bearer {token}");
        let in_protocol = format!("k8s.io.{}", URL_SAFE_NO_PAD.encode(token));
        let folder = self.stage.folder.display().to_string().replace('/', "%2F");
        let of_target = [
            // The names of containers are those of the recorded cluster.
            ("container=main", container.as_str()),
            ("container=victim", container.as_str()),
            ("Bearer <redacted>", bearer.as_str()),
            ("k8s.io.<redacted>", in_protocol.as_str()),
            // The files of pods are those of this machine.
            ("%2Ftmp", folder.as_str()),
        ];
        let pairs = self.recording.request.iter().copied().chain(of_target);
        let text = pairs.fold(text, |text, (from, to)| text.replace(from, to));
        text.into_bytes()
    }

    /// The client ends a connection, unless the server has.
    async fn leave(&mut self, number: u64, index: usize) -> Result<()> {
        let recorded = self.recorded(number, index);
        if recorded.last() == Some(&Fact::End) {
            return Ok(());
        }
        let connection = self.open.remove(&number).context("not open")?;
        self.compare(number, &connection, index).await?;
        connection.end().await;
        Ok(())
    }

    /// Where the recorded client waited to see nothing, a ping and its pong show that the server
    /// has taken in what came before.
    async fn barrier(&mut self, number: u64, index: usize) -> Result<()> {
        self.wait(number, index).await?;
        let connection = self.connection(number)?;
        let is_barrier =
            |what: &What| matches!(what, What::Frame(frame) if frame.payload == BARRIER);
        let before = connection
            .seen
            .borrow()
            .iter()
            .filter(|what| is_barrier(what))
            .count();
        let switched = |what: &What| matches!(what, What::Head(head) if head[0].contains(" 101 "));
        if !connection.seen.borrow().iter().any(switched) {
            return Ok(());
        }
        let ping = Frame {
            last: true,
            opcode: 9,
            masked: true,
            payload: BARRIER.to_vec(),
        };
        connection.send_frame(&ping).await;
        let answered = connection.seen.wait_for(|seen| {
            seen.iter().filter(|what| is_barrier(what)).count() > before
                || seen.last() == Some(&What::End)
        });
        drop(
            tokio::time::timeout(PATIENCE, answered)
                .await
                .context("no pong")??,
        );
        Ok(())
    }

    /// What the server had done on a connection before that event.
    fn recorded(&self, number: u64, index: usize) -> Vec<Fact> {
        let events = self.events[..index].iter();
        let events =
            events.filter(|event| event.connection == number && event.side == Side::Server);
        let what = events.map(|event| &event.what);
        facts(self.recording, Origin::Recorded, &self.asked(number), what)
    }

    fn seen(&self, number: u64, events: &[What]) -> Vec<Fact> {
        facts(
            self.recording,
            Origin::Seen,
            &self.asked(number),
            events.iter(),
        )
    }

    fn asked(&self, number: u64) -> Asked {
        let mut asked = Asked::default();
        let events = self.events.iter();
        for event in events.filter(|event| event.connection == number) {
            match &event.what {
                What::Head(lines) if event.side == Side::Client => {
                    asked
                        .paths
                        .extend(lines[0].split(' ').nth(1).map(str::to_owned));
                }
                What::Spdy(frame, _) | What::Carried(frame) => asked.note(frame),
                _ => {}
            }
        }
        asked
    }

    /// Waits until the server has done what it had done before that event.
    async fn wait(&self, number: u64, index: usize) -> Result<()> {
        let recorded = self.recorded(number, index);
        let Some(connection) = self.open.get(&number) else {
            return Ok(());
        };
        self.wait_for(connection, number, &recorded).await
    }

    async fn wait_for(
        &self,
        connection: &Connection,
        number: u64,
        recorded: &[Fact],
    ) -> Result<()> {
        let mut seen = connection.seen.clone();
        let waiting = seen.wait_for(|seen| {
            let facts = self.seen(number, seen);
            let ended = facts.last() == Some(&Fact::End);
            ended || progress(recorded, &facts) != Progress::Behind
        });
        let waited = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        let facts = self.seen(number, &connection.seen.borrow());
        match progress(recorded, &facts) {
            Progress::There => Ok(()),
            Progress::Differs(at) => self.differs(number, at, recorded, &facts),
            Progress::Behind if waited => self.differs(number, facts.len(), recorded, &facts),
            Progress::Behind => {
                let report = self.differs(number, facts.len(), recorded, &facts);
                report.context("nothing more comes")
            }
        }
    }

    /// Waits for all that is recorded before that event, and compares it with what is seen.
    async fn compare(&self, number: u64, connection: &Connection, index: usize) -> Result<()> {
        let recorded = self.recorded(number, index);
        self.wait_for(connection, number, &recorded).await?;
        let seen = self.seen(number, &connection.seen.borrow());
        let pairs = recorded.iter().zip(&seen);
        let same = pairs
            .take_while(|(recorded, seen)| recorded == seen)
            .count();
        match same == recorded.len() && same == seen.len() {
            true => Ok(()),
            false => self.differs(number, same, &recorded, &seen),
        }
    }

    fn differs(&self, number: u64, at: usize, recorded: &[Fact], seen: &[Fact]) -> Result<()> {
        let fact = |facts: &[Fact]| {
            let fact = facts.get(at);
            fact.map_or_else(|| "nothing".to_owned(), ToString::to_string)
        };
        let mut report = format!(
            "{}, connection {number}, event {at} of the server:\n recorded: {}\n     seen: {}\n",
            self.recording.name,
            fact(recorded),
            fact(seen),
        );
        for (side, facts) in [("recorded", recorded), ("seen", seen)] {
            writeln!(report, " all that is {side}:")?;
            for (index, fact) in facts.iter().enumerate() {
                writeln!(report, "  {index:2} {fact}")?;
            }
        }
        bail!(report)
    }
}
