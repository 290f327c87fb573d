//! After thousands of streams, each ended in another way, nothing of them is left: no entry of a
//! table, no byte that is charged, no time limit.

use alloc::format;

use super::*;

/// So few that the third of what leaks ends the test.
const STREAMS: usize = 3;
const ROUNDS: usize = 20;

type Open = fn(&str) -> Value;
type End = fn(&mut Bench, &str, Option<StreamId>);

fn request(id: &str, payload: &Value) -> Value {
    json!({"type": "proxy_request", "request_id": id, "payload": payload})
}

/// Every way in which a stream is asked for.
const OPENS: [Open; 10] = [
    |id| {
        request(
            id,
            &json!({"path": "/api", "supports_response_streaming": true}),
        )
    },
    |id| request(id, &json!({"path": "/api"})),
    |id| {
        let windows = json!({"path": "/api", "method": "POST", "use_streaming": true,
            "request_window": 4096, "response_window": 300, "supports_response_streaming": true});
        request(id, &windows)
    },
    |id| {
        request(
            id,
            &json!({"path": "/api", "method": "POST", "body": "abc", "timeout": 900_000}),
        )
    },
    |id| {
        request(
            id,
            &json!({"path": "/api", "method": "POST", "body_binary": true}),
        )
    },
    |id| {
        request(
            id,
            &json!({"path": "/api", "is_websocket": true, "request_window": 4096}),
        )
    },
    |id| {
        let payload = json!({"path": "/api", "is_websocket": true, "response_window": 300,
            "supports_response_streaming": true});
        request(id, &payload)
    },
    |id| {
        let payload = json!({"stream_id": id, "path": "/api"});
        json!({"type": "proxy_websocket_start", "request_id": id, "payload": payload})
    },
    |id| {
        let payload = json!({"service_name": "pg", "service_namespace": "db", "service_port": 5432,
            "gateway_port": 5432});
        json!({"type": "tcp_tunnel_start", "request_id": id, "payload": payload})
    },
    |id| {
        let payload =
            json!({"tunnel_id": "u", "client_addr": id, "gateway_port": 53, "data": "eA=="});
        json!({"type": "udp_tunnel_data", "payload": payload})
    },
];

/// Every way in which one ends, or is asked to.
const ENDS: [End; 12] = [
    |bench, _, id| bench.over(id, StreamEnd::Clean),
    |bench, _, id| bench.over(id, StreamEnd::Broken("it broke".into())),
    |bench, _, id| {
        bench.answers(id, 200);
        bench.over(id, StreamEnd::Clean);
    },
    |bench, _, id| {
        bench.answers(id, 101);
        bench.over(id, StreamEnd::Clean);
    },
    |bench, name, id| {
        bench.answers(id, 101);
        bench.names("proxy_cancel", name);
        bench.names("proxy_cancel", name);
        bench.names("proxy_websocket_close", name);
        bench.names("proxy_websocket_close", name);
        bench.over(id, StreamEnd::Clean);
        bench.over(id, StreamEnd::Clean);
    },
    |bench, name, id| {
        bench.answers(id, 200);
        bench.parts(name);
        bench.names("tcp_tunnel_close", name);
        bench.names("ws_close", name);
        bench.over(id, StreamEnd::Broken("late".into()));
    },
    // Malformed parts.
    |bench, name, id| {
        for kind in [
            "proxy_request_chunk",
            "proxy_websocket_data",
            "tcp_tunnel_data",
        ] {
            bench.frame(json!({"type": kind, "request_id": name, "payload": {"data": "?"}}));
        }
        bench.over(id, StreamEnd::Clean);
    },
    // More than it takes.
    |bench, name, id| {
        for _ in 0..6 {
            bench.parts(name);
        }
        bench.over(id, StreamEnd::Clean);
    },
    // All that was delivered is consumed, some of it twice.
    |bench, name, id| {
        bench.answers(id, 101);
        bench.parts(name);
        for id in id.into_iter().chain(id) {
            bench.input(Input::Consumed(id, 301));
            bench.input(Input::Consumed(id, 301));
        }
        bench.over(id, StreamEnd::Clean);
    },
    // Time limits.
    |bench, _, _| bench.pass_alive(secs(1000)),
    // A socket that takes nothing, so that the queues are full.
    |bench, name, id| {
        bench.blocked(|bench| {
            bench.answers(id, 101);
            for _ in 0..20 {
                bench.answers(id, 101);
            }
            bench.names("proxy_websocket_close", name);
            bench.over(id, StreamEnd::Clean);
        });
        bench.grants(name);
    },
    |bench, _, id| {
        bench.blocked(|bench| bench.answers(id, 200));
        bench.cut();
        bench.over(id, StreamEnd::Clean);
        bench.pass_alive(secs(70));
        bench.connect();
        bench.register();
    },
];

impl Bench {
    fn names(&mut self, kind: &str, id: &str) {
        let payload = json!({"stream_id": id});
        self.frame(json!({"type": kind, "request_id": id, "payload": payload}));
    }

    fn over(&mut self, id: Option<StreamId>, end: StreamEnd) {
        if let Some(id) = id {
            self.input(Input::Ended(id, end));
        }
    }

    fn answers(&mut self, id: Option<StreamId>, status: u16) {
        let Some(id) = id else { return };
        self.input(Input::Head(id, head(status)));
        for _ in 0..4 {
            let _ = self.agent.send(id, Kind::Binary, bytes(300));
        }
    }

    /// Something for a stream of each kind.
    fn parts(&mut self, id: &str) {
        let data = base64(&[2; 301]);
        for kind in [
            "proxy_request_chunk",
            "proxy_websocket_data",
            "tcp_tunnel_data",
        ] {
            let payload = json!({"stream_id": id, "data": data});
            self.frame(json!({"type": kind, "request_id": id, "payload": payload}));
        }
    }

    /// Lets a stream with a window send all that it has.
    fn grants(&mut self, id: &str) {
        let payload = json!({"bytes": 1e9});
        self.frame(json!({"type": "proxy_response_grant", "request_id": id, "payload": payload}));
    }

    /// Does this without the socket taking anything.
    fn blocked(&mut self, act: impl FnOnce(&mut Self)) {
        while self.agent.poll(Socket::Blocked).is_some() {}
        act(self);
        while self.agent.poll(Socket::Blocked).is_some() {}
    }

    /// The first stream that was opened, if one was.
    fn any_opened(&mut self) -> Option<StreamId> {
        self.take().into_iter().find_map(|action| match action {
            Action::Open(id, _) => Some(id),
            _ => None,
        })
    }

    #[track_caller]
    fn holds_nothing(&self, case: &str) {
        let agent = &self.agent;
        assert!(agent.streams.holds_nothing(), "{case}: {:?}", agent.streams);
        let stats = agent.stats();
        assert_eq!((stats.held_in, stats.held_out), (0, 0), "{case}");
        assert_eq!((stats.streams_open, agent.buffered), (0, 0), "{case}");
        assert!(
            agent.flows.is_empty() && agent.limits_due.is_empty(),
            "{case}"
        );
        assert!(!agent.control.has_refusals(), "{case}");
        assert!(agent.actions.is_empty(), "{case}");
    }
}

#[test]
fn thousands_of_streams_leave_nothing_behind() {
    let mut bench = Bench::registered_with(|config| {
        config.limits = Limits {
            streams: STREAMS,
            send_total: 2048,
            ..SMALL
        };
        config.tunnels = ["pg.db:5432", "localhost:53"]
            .map(|text| text.parse().unwrap())
            .into();
    });
    for round in 0..ROUNDS {
        for (o, open) in OPENS.iter().enumerate() {
            for (e, end) in ENDS.iter().enumerate() {
                let name = format!("{round}-{o}-{e}");
                bench.take();
                bench.frame(open(&name));
                let id = bench.any_opened();
                end(&mut bench, &name, id);
                // What is granted, and what ends by silence alone.
                bench.grants(&name);
                bench.run();
                if bench.agent.stats().streams_open > 0 {
                    bench.over(id, StreamEnd::Clean);
                    bench.grants(&name);
                    bench.pass_alive(secs(31));
                }
                bench.run();
                bench.holds_nothing(&format!("open {o}, end {e}, round {round}"));
                assert!(matches!(bench.agent.phase(), Phase::Ready(_)), "{o} {e}");
            }
        }
    }
    let opened = bench.agent.stats().streams_opened;
    assert!(
        opened >= (ROUNDS * OPENS.len() * ENDS.len()) as u64,
        "{opened}"
    );
    assert!(bench.agent.stats().peer_faults > 0);
}
