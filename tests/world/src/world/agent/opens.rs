//! Whom the agent connects a stream to.

use controlplane_core::{StreamId, Target};

use super::World;
use crate::{exchange::Check, fast::FAST_PORT};

impl World {
    pub(super) fn agent_opens(&mut self, id: StreamId, target: &Target) -> Check {
        let now = self.now.as_duration().as_nanos() as u64;
        if self.agent.last_stream.is_some_and(|last| id <= last) {
            return Err("the agent used a stream's id again".into());
        }
        self.agent.last_stream = Some(id);
        match target {
            Target::Http { head, .. } => {
                self.note(&[now, 6, id.0], head.path.as_bytes());
                self.upstream_open(id, head)
            }
            Target::WebSocket {
                head, protocols, ..
            } => {
                self.note(&[now, 13, id.0], head.path.as_bytes());
                self.upstream_dialed(id, head, protocols)
            }
            Target::Http1(_) => {
                self.note(&[now, 18, id.0], b"");
                self.fast_connected(id)
            }
            Target::Tcp {
                host,
                port,
                half_close,
            } => {
                self.note(&[now, 14, id.0, (*port).into()], b"");
                match half_close {
                    true => self.fast_dialed(id, false, host, *port),
                    false => self.tunnel_dialed(id, false, host, *port),
                }
            }
            Target::Udp { host, port } => {
                self.note(&[now, 15, id.0, (*port).into()], b"");
                match *port >= FAST_PORT {
                    true => self.fast_dialed(id, true, host, *port),
                    false => self.tunnel_dialed(id, true, host, *port),
                }
            }
            other => Err(format!("the agent opened something unknown: {other:?}")),
        }
    }
}
