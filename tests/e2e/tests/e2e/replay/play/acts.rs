//! What happens in the course of a recording that it does not show.

use anyhow::{Context as _, Result, ensure};

use super::super::table::Act;
use super::super::transcript::{Event, Frame, Side, What};
use super::super::wire::Connection;
use super::{PATIENCE, Play};

impl Play<'_> {
    /// Whether the act, if there is still one to do, comes before that event.
    pub(super) fn is_time_to_act(&self, event: &Event) -> bool {
        let channel = match &event.what {
            What::Frame(frame) if frame.opcode == 8 => Some(3),
            What::Frame(frame) if frame.payload.len() > 1 => frame.payload.first().copied(),
            _ => None,
        };
        match (self.act, event.side) {
            (Act::Nothing, _) => false,
            (Act::KillProcesses | Act::DeletePod(_) | Act::SendUnmasked, Side::Server) => {
                channel == Some(3)
            }
            (Act::Type(..), Side::Server) => channel.is_some(),
            (Act::AwaitClose, Side::Client) => channel.is_some(),
            (Act::CheckFiles, Side::Server) => event.what == What::Aside,
            _ => false,
        }
    }

    /// Does it.
    pub(super) async fn act(&mut self, number: u64) -> Result<()> {
        match std::mem::replace(&mut self.act, Act::Nothing) {
            Act::Nothing => {}
            Act::KillProcesses => self.standin()?.kill_exec_processes(),
            Act::DeletePod(pod) => self.standin()?.delete_pod(pod)?,
            Act::SendUnmasked => {
                let frame = Frame {
                    last: true,
                    opcode: 2,
                    masked: false,
                    payload: b"\0x".to_vec(),
                };
                self.connection(number)?.send_frame(&frame).await;
            }
            Act::Type(pod, text) => {
                let other = self.type_to(pod, text).await?;
                self.others.push(other);
            }
            Act::AwaitClose => {
                let closed = |what: &What| matches!(what, What::Frame(frame) if frame.opcode == 8);
                let seen = &mut self.connection(number)?.seen;
                let wait = seen.wait_for(|seen| seen.iter().any(closed));
                drop(
                    tokio::time::timeout(PATIENCE, wait)
                        .await
                        .context("no close")??,
                );
            }
            Act::CheckFiles => {
                let connection = self.open.remove(&number).context("not open")?;
                connection.end().await;
                let gone = self.standin()?.processes_become(0);
                tokio::time::timeout(PATIENCE, gone)
                    .await
                    .context("the process goes on")?;
                let there = |name: &str| self.stage.folder.join(name).exists();
                ensure!(
                    there("eof"),
                    "the process did not see the end of what is typed"
                );
                ensure!(!there("hup"), "the process got a signal");
            }
        }
        Ok(())
    }

    async fn type_to(&self, pod: &str, text: &str) -> Result<Connection> {
        let path = format!("/api/v1/namespaces/default/pods/{pod}/attach?stdin=true");
        let request = [
            &format!("GET {path} HTTP/1.1"),
            "Host: -",
            "Authorization: Bearer <redacted>",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Protocol: v5.channel.k8s.io",
        ];
        let mut connection = Connection::open(self.stage.target).await?;
        let request = self.request(&request.map(str::to_owned));
        connection.send(&request).await;
        let keys = Frame {
            last: true,
            opcode: 2,
            masked: true,
            payload: [b"\0", text.as_bytes()].concat(),
        };
        connection.send_frame(&keys).await;
        Ok(connection)
    }
}
