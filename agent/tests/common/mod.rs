//! Runs the built programs, and plays their Kubernetes API.
#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

/// What a test waits at most; it never waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// The agent's token in all tests.
pub(crate) const TOKEN: &str = "s3cret-t0ken";
/// The token toward the Kubernetes API.
pub(crate) const KUBE_TOKEN: &str = "kube-s3cret";

/// A built program and the name of its runtime.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    pub(crate) path: &'static str,
    pub(crate) name: &'static str,
    pub(crate) runtime: &'static str,
}

/// The programs that were built with the features of this test.
pub(crate) fn programs() -> Vec<Program> {
    vec![
        #[cfg(feature = "tokio")]
        Program {
            path: env!("CARGO_BIN_EXE_pipeops-agent"),
            name: "pipeops-agent",
            runtime: "tokio",
        },
        #[cfg(feature = "async-std")]
        Program {
            path: env!("CARGO_BIN_EXE_pipeops-agent-async-std"),
            name: "pipeops-agent-async-std",
            runtime: "async-std",
        },
    ]
}

impl Program {
    /// It, with nothing of the test's own environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.path);
        command.args(args).env_clear().stdin(Stdio::null());
        command
    }

    pub(crate) fn output(&self, args: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = self.command(args);
        command.envs(variables.iter().copied()).output().unwrap()
    }
}

/// A folder of one test, removed at its end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pipeops-agent-it-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    pub(crate) fn kubeconfig(&self, server: &str) -> String {
        let text = format!(
            "current-context: c\n\
             contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: '{server}'}}}}]\n\
             users: [{{name: u, user: {{token: {KUBE_TOKEN}}}}}]\n"
        );
        self.file("config", &text)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program that runs, and its log.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let seen = String::new();
        Self { child, lines, seen }
    }

    /// The next line of the log that contains `text`.
    pub(crate) fn line(&mut self, text: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no line with {text:?} in\n{}", self.seen);
            };
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Where it answers health checks.
    pub(crate) fn health(&mut self) -> SocketAddr {
        let line = self.line("answering health checks");
        line.split("address=")
            .nth(1)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Its exit code and its whole log, once it has ended by itself.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        // Its end of the log closes when it ends.
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        let status = self.child.try_wait().unwrap();
        let status = status.or_else(|| {
            // The log closes a moment before the process is gone.
            self.child.wait().ok()
        });
        (
            status.and_then(|s| s.code()),
            std::mem::take(&mut self.seen),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status line and the body of an answer.
pub(crate) fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().into(), body.into())
}

/// A Kubernetes API that tells its version and leaves all else unanswered.
pub(crate) struct FakeApi {
    pub(crate) url: String,
    /// The heads of the requests that were left unanswered.
    pub(crate) held: Receiver<String>,
}

impl FakeApi {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, held) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, sender) = (stream.unwrap(), sender.clone());
                thread::spawn(move || serve(stream, &sender));
            }
        });
        Self { url, held }
    }

    pub(crate) fn next_held(&self) -> String {
        self.held.recv_timeout(PATIENCE).unwrap()
    }
}

fn serve(mut stream: TcpStream, held: &Sender<String>) {
    while let Some(head) = read_head(&mut stream) {
        if head.starts_with("GET /version ") {
            let body = r#"{"gitVersion":"v1.36.0"}"#;
            let length = body.len();
            let kind = "Content-Type: application/json";
            let answer =
                format!("HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).unwrap();
        } else if held.send(head).is_err() {
            return;
        }
    }
}

/// Everything up to an empty line; `None` at the end.
pub(crate) fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}
