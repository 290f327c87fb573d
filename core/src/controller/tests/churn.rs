//! Many streams of each kind, ended in each way one after another: nothing of any of them stays.

use alloc::format;

use super::{
    sockets::{EXEC, V5},
    tunnels::{to_dns, to_postgres},
    *,
};

/// So many streams of each kind end in each way, far more than may be open at once.
const TIMES: usize = 100;

/// Opens a stream, and tells its name on the wire.
type Open = fn(&mut Bench) -> (StreamId, String);
/// Ends it; some ends are none of some kinds, and are one when the stream is given up.
type End = fn(&mut Bench, StreamId, &str);

fn named(bench: &Bench) -> String {
    let nonce = "09".repeat(16);
    format!("{nonce}-{}", bench.controller.names)
}

fn request(bench: &mut Bench) -> (StreamId, String) {
    let id = bench.controller.open(bench.now, ask(), false).unwrap();
    bench.run();
    (id, named(bench))
}

fn upload(bench: &mut Bench) -> (StreamId, String) {
    let id = bench.controller.open(bench.now, ask(), true).unwrap();
    // More than an agent with a window grants, and more than the queue takes.
    for _ in 0..6 {
        let _ = bench.controller.send(id, Kind::Bytes, bytes(200));
        bench.run();
    }
    (id, named(bench))
}

/// A request that never left.
fn unasked(bench: &mut Bench) -> (StreamId, String) {
    let id = bench.controller.open(bench.now, ask(), true).unwrap();
    let _ = bench.controller.send(id, Kind::Bytes, bytes(500));
    bench.run_blocked();
    (id, named(bench))
}

fn answering(bench: &mut Bench) -> (StreamId, String) {
    let (id, name) = request(bench);
    bench.answer_head(&name);
    bench.answer_data(&name, &[1; 300]);
    (id, name)
}

/// A complete answer that its client has not taken.
fn untaken(bench: &mut Bench) -> (StreamId, String) {
    let (id, name) = answering(bench);
    bench.answer_end(&name);
    (id, name)
}

fn socket_asked(bench: &mut Bench) -> (StreamId, String) {
    let protocols = Vec::from([V5.into()]);
    let head = RequestHead {
        path: EXEC.into(),
        ..ask()
    };
    let id = bench.controller.open_websocket(bench.now, head, protocols);
    bench.run();
    (id.unwrap(), named(bench))
}

fn socket(bench: &mut Bench) -> (StreamId, String) {
    let (id, name) = socket_asked(bench);
    let headers = json!({"Sec-WebSocket-Protocol": [V5]});
    let payload = json!({"status": 101, "headers": headers});
    bench.says("proxy_response_header", &name, payload);
    bench.says(
        "proxy_websocket_data",
        &name,
        json!({"data": base64(b"\x02\x01out")}),
    );
    for _ in 0..6 {
        let _ = bench.controller.send(id, Kind::Binary, bytes(400));
        bench.run();
    }
    (id, name)
}

fn tcp(bench: &mut Bench) -> (StreamId, String) {
    let id = bench
        .controller
        .open_tunnel(bench.now, to_postgres())
        .unwrap();
    let _ = bench.controller.send(id, Kind::Bytes, bytes(100));
    bench.run();
    let _ = bench.controller.send(id, Kind::Bytes, bytes(100));
    let name = named(bench);
    bench.says("tcp_tunnel_data", &name, json!({"data": base64(b"rows")}));
    (id, name)
}

fn udp(bench: &mut Bench) -> (StreamId, String) {
    let id = bench.controller.open_tunnel(bench.now, to_dns(7)).unwrap();
    let _ = bench.controller.send(id, Kind::Datagram, bytes(100));
    let data = json!({"tunnel_id": "udp-6f1c-gw-53", "client_addr": "203.0.113.9",
        "client_port": 7, "data": base64(b"reply")});
    bench.frame(A, json!({"type": "udp_tunnel_data", "payload": data}));
    (id, named(bench))
}

const KINDS: [(&str, Open); 9] = [
    ("request", request),
    ("upload", upload),
    ("unasked", unasked),
    ("answering", answering),
    ("untaken", untaken),
    ("socket asked", socket_asked),
    ("socket", socket),
    ("tcp", tcp),
    ("udp", udp),
];

const ENDS: [(&str, End); 14] = [
    ("cancel", |bench, id, _| bench.input(Input::Cancel(id))),
    ("clean", |bench, id, _| {
        bench.input(Input::Ended(id, StreamEnd::Clean));
    }),
    ("broken", |bench, id, _| {
        bench.input(Input::Ended(id, StreamEnd::Broken("gone".into())));
    }),
    ("cancel without a socket that takes it", |bench, id, _| {
        bench.input(Input::Cancel(id));
        bench.run_blocked();
        bench.input(Input::Consumed(id, 300));
    }),
    ("whole answer", |bench, _, name| {
        bench.says("proxy_response", name, json!({"status": 200}));
    }),
    ("error", |bench, _, name| {
        bench.says("proxy_error", name, json!({"error": "no route"}));
    }),
    ("error and close", |bench, _, name| {
        bench.says("proxy_error", name, json!({"error": "no route"}));
        bench.says("proxy_websocket_close", name, json!({"stream_id": name}));
    }),
    ("result and close", |bench, _, name| {
        bench.says(
            "proxy_websocket_data",
            name,
            json!({"data": base64(b"\x02\x03{}")}),
        );
        bench.says("proxy_websocket_close", name, json!({"code": 1000}));
    }),
    ("tunnel closed", |bench, _, name| {
        bench.says(
            "tcp_tunnel_close",
            name,
            json!({"reason": "service_closed"}),
        );
    }),
    ("end", |bench, _, name| bench.answer_end(name)),
    ("broken payload", |bench, _, name| {
        bench.says("proxy_response_chunk", name, json!(7));
    }),
    ("dropped", |bench, _, name| {
        bench.says("backpressure", name, json!({}))
    }),
    ("too much for its client", |bench, _, name| {
        bench.says("proxy_response_header", name, json!({"status": 200}));
        bench.answer_data(name, &[1; 3000]);
        let data = base64(&[2; 3000]);
        bench.says("proxy_websocket_data", name, json!({"data": data}));
        bench.says("tcp_tunnel_data", name, json!({"data": data}));
    }),
    ("connection lost", |bench, _, _| bench.lose(A)),
];

const FEATURES: [&str; 3] = [
    r#"{"supports_streaming": true, "supports_response_streaming": true, "upgrade_answer": true,
        "response_window": true, "request_window": 1000, "tunnels": true}"#,
    r#"{"supports_streaming": true, "tunnels": true}"#,
    r#"{"tunnels": true}"#,
];

impl Bench {
    fn return_with(&mut self, features: &str) {
        if self.controller.joined().is_some() {
            return;
        }
        self.accept(A);
        let features: Value = serde_json::from_str(features).unwrap();
        self.frame(
            A,
            json!({"type": "register", "request_id": "reg",
                "payload": {"agent_id": "agent-1f2e", "features": features}}),
        );
        self.run();
    }

    /// Every trace of a stream: tables, queues, charges, timers.
    fn holds_nothing(&self) -> bool {
        let it = &self.controller;
        let (now, stats) = (self.now, it.stats());
        let closed: u64 = stats.streams_closed.iter().sum();
        it.streams.holds_nothing()
            && it.flows.is_empty()
            && it.closing.is_empty()
            && it.actions.is_empty()
            && (it.buffered, stats.held_in, stats.held_out) == (0, 0, 0)
            && stats.streams_opened == closed
            && it.deadline().is_none_or(|at| at > now)
    }
}

#[test]
fn nothing_stays_of_any_stream_however_it_ended() {
    let limits = Limits {
        recv_total: 8192,
        recv_stream: 2048,
        ..SMALL
    };
    for features in FEATURES {
        let mut bench = Bench::with(|c| c.limits = limits);
        for (kind, open) in KINDS {
            for (way, end) in ENDS {
                for _ in 0..TIMES {
                    bench.return_with(features);
                    let (id, name) = open(&mut bench);
                    end(&mut bench, id, &name);
                    bench.run();
                    // What only some kinds end of, and what waits for a grant of an agent that is
                    // busy with something else.
                    bench.input(Input::Cancel(id));
                    bench.run();
                    if bench.streams_open() > 0 {
                        bench.pass(secs(10), &[A]);
                    }
                    assert!(bench.holds_nothing(), "{kind}, {way}, {features}");
                    assert_eq!(bench.streams_open(), 0, "{kind}, {way}, {features}");
                    bench.actions.clear();
                }
            }
        }
        let opened = bench.controller.stats().streams_opened;
        assert_eq!(opened, (KINDS.len() * ENDS.len() * TIMES) as u64);
    }
}
