//! With what the fuzzers begin, as readable code. `WORLD_SEEDS=write` writes it into the corpus, next
//! to what fuzzing found; the test sees to it that what is committed is what stands here.

use std::{env, fs, path::Path};

use controlplane_world::{message::base64, rng::Rng};

type Seed = (&'static str, Vec<u8>);

/// Places of messages in the table of `fuzz/calls/frames.rs`.
mod kind {
    pub(super) const PING: u8 = 2;
    pub(super) const WHOLE: u8 = 9;
    pub(super) const CHUNK: u8 = 10;
    pub(super) const END: u8 = 11;
    pub(super) const HEAD: u8 = 12;
    pub(super) const REGISTER: u8 = 13;
    pub(super) const DATA: u8 = 17;
    pub(super) const CLOSE: u8 = 19;
    pub(super) const GRANT: u8 = 22;
    pub(super) const TCP_START: u8 = 26;
    pub(super) const TCP_DATA: u8 = 27;
    pub(super) const TCP_CLOSE: u8 = 28;
    pub(super) const UDP: u8 = 29;
    pub(super) const HELLO: u8 = 30;
    pub(super) const BACKPRESSURE: u8 = 32;
    pub(super) const ABORT: u8 = 33;
    pub(super) const FRAMED: u8 = 35;
    pub(super) const PACKED: u8 = 36;
}

/// A list of calls, as `fuzz/calls.rs` reads them.
#[derive(Default)]
struct Calls {
    bytes: Vec<u8>,
    /// Calls of the controller say first that they open nothing.
    of_controller: bool,
}

impl Calls {
    fn agent() -> Self {
        Self::default()
    }

    fn controller() -> Self {
        Self {
            of_controller: true,
            ..Self::default()
        }
    }

    fn call(mut self, conn: u8, stream: u8, rest: &[u8]) -> Self {
        if self.of_controller {
            self.bytes.push(1);
        }
        self.bytes.extend([conn, stream]);
        self.bytes.extend_from_slice(rest);
        self
    }

    /// A message about request `name` with `words` times three bytes; `more` is what its kind reads.
    fn frame(self, conn: u8, kind: u8, name: u8, words: u16, more: &[u8]) -> Self {
        let [high, low] = words.to_be_bytes();
        let head = [0, 1, kind, name - 1, 1, 1, 0, high, low];
        self.call(conn, 0, &[&head, more].concat())
    }

    /// A binary frame: of this shape, with this status and so much of a body.
    fn binary(self, name: u8, shape: u8, status: u16, len: u16) -> Self {
        let mut rest = vec![22, name - 1, 0, shape];
        if shape > 0 {
            rest.extend((status - 90).to_be_bytes());
        }
        rest.extend(len.to_be_bytes());
        self.call(1, 0, &rest)
    }

    fn poll(self, times: u8) -> Self {
        self.call(1, 0, &[14, times])
    }

    fn head(self, stream: u8, status: u16) -> Self {
        let [low, high] = status.to_le_bytes();
        self.call(1, stream, &[7, low, high])
    }

    fn consumed(self, stream: u8, len: u16) -> Self {
        let [high, low] = len.to_be_bytes();
        self.call(1, stream, &[9, high, low])
    }

    fn send(self, stream: u8, len: u16, kind: u8) -> Self {
        let [high, low] = len.to_be_bytes();
        self.call(1, stream, &[10, high, low, kind])
    }

    fn ended(self, stream: u8) -> Self {
        self.call(1, stream, &[8, 1])
    }

    fn to_deadline(self) -> Self {
        self.call(1, 0, &[12, 1])
    }

    fn clock(self, seconds: u8) -> Self {
        self.call(1, 0, &[21, 1, seconds])
    }

    /// The controller opens a tunnel, TCP (2) or UDP (4).
    fn tunnel(mut self, which: u8) -> Self {
        self.bytes.extend([0, which, 0]);
        self
    }
}

fn agent_calls() -> Vec<Seed> {
    use kind::*;
    let a = Calls::agent;
    let register = |gateway| {
        a().call(1, 0, &[6, 1])
            .to_deadline()
            .call(2, 0, &[5])
            .call(2, 0, &[14, 3])
            .call(2, 0, &[23, gateway])
    };
    vec![
        (
            "tunnel_tcp",
            a().frame(1, TCP_START, 1, 0, &[0])
                .head(0, 200)
                .frame(1, TCP_DATA, 1, 50, &[0])
                .consumed(0, 150)
                .send(0, 300, 0)
                .poll(3)
                .frame(1, TCP_CLOSE, 1, 0, &[0])
                .ended(0)
                .poll(2)
                .bytes,
        ),
        (
            "tunnel_tcp_breaks",
            a().frame(1, TCP_START, 1, 0, &[0])
                .head(0, 200)
                .send(0, 900, 0)
                .call(1, 0, &[8, 0])
                .poll(4)
                .bytes,
        ),
        (
            "tunnel_silent",
            a().frame(1, TCP_START, 1, 0, &[1])
                .head(0, 200)
                .to_deadline()
                .to_deadline()
                .to_deadline()
                .poll(9)
                .bytes,
        ),
        (
            "tunnel_not_permitted",
            a().frame(1, TCP_START, 1, 0, &[2]).poll(3).bytes,
        ),
        (
            "tunnel_udp",
            a().frame(1, UDP, 1, 4, &[0])
                .frame(1, UDP, 1, 0, &[1])
                .head(0, 200)
                .send(0, 100, 3)
                .send(1, 0, 3)
                .poll(4)
                .ended(0)
                .poll(2)
                .bytes,
        ),
        (
            "tunnel_overrun",
            a().frame(1, TCP_START, 1, 0, &[0])
                .frame(1, TCP_DATA, 1, 1400, &[0])
                .frame(1, TCP_DATA, 1, 1400, &[0])
                .poll(4)
                .bytes,
        ),
        (
            "body_in_frame",
            a().frame(1, FRAMED, 1, 0, &[])
                .binary(1, 0, 0, 300)
                .head(0, 200)
                .ended(0)
                .poll(4)
                .bytes,
        ),
        (
            "body_in_another_frame",
            a().frame(1, FRAMED, 1, 0, &[])
                .binary(2, 0, 0, 9)
                .poll(4)
                .bytes,
        ),
        (
            "body_frame_missing",
            a().frame(1, FRAMED, 1, 0, &[])
                .to_deadline()
                .to_deadline()
                .to_deadline()
                .poll(4)
                .bytes,
        ),
        (
            "gateway",
            register(1)
                .call(3, 0, &[5])
                .call(3, 0, &[14, 3])
                .frame(3, HELLO, 1, 0, &[])
                .call(3, 0, &[14, 5])
                .call(3, 0, &[6, 1])
                .to_deadline()
                .call(4, 0, &[5])
                .bytes,
        ),
        (
            "gateway_away",
            register(1)
                .call(3, 0, &[6, 1])
                .to_deadline()
                .call(4, 0, &[6, 1])
                .bytes,
        ),
        (
            "gateway_not_permitted",
            register(2).call(2, 0, &[14, 9]).bytes,
        ),
        (
            "clock_set",
            a().clock(0)
                .frame(1, PING, 1, 0, &[])
                .poll(3)
                .clock(200)
                .to_deadline()
                .poll(3)
                .bytes,
        ),
    ]
}

fn controller_calls() -> Vec<Seed> {
    use kind::*;
    let c = Calls::controller;
    vec![
        (
            "answer_streamed",
            c().frame(1, HEAD, 1, 0, &[])
                .frame(1, CHUNK, 1, 40, &[])
                .consumed(0, 120)
                .frame(1, END, 1, 0, &[])
                .bytes,
        ),
        (
            "answer_whole",
            c().frame(1, WHOLE, 1, 40, &[]).consumed(0, 120).bytes,
        ),
        (
            "answer_compressed",
            c().frame(1, PACKED, 1, 0, &[]).consumed(0, 18).bytes,
        ),
        (
            "answer_binary",
            c().binary(1, 1, 200, 500).consumed(0, 500).bytes,
        ),
        (
            "answer_binary_bad_gzip",
            c().binary(1, 2, 200, 500).consumed(0, 504).bytes,
        ),
        (
            "answer_binary_bad_status",
            c().binary(1, 1, 100, 5).binary(2, 1, 600, 5).bytes,
        ),
        (
            "answer_abort",
            c().frame(1, CHUNK, 3, 40, &[])
                .frame(1, ABORT, 3, 0, &[])
                .bytes,
        ),
        (
            "answer_overrun",
            c().frame(1, CHUNK, 3, 1300, &[])
                .frame(1, CHUNK, 3, 1300, &[])
                .poll(3)
                .bytes,
        ),
        (
            "answer_late",
            c().call(1, 0, &[16])
                .poll(3)
                .frame(1, CHUNK, 1, 4, &[])
                .poll(3)
                .bytes,
        ),
        (
            "body",
            c().send(1, 3000, 0)
                .poll(9)
                .ended(1)
                .frame(1, GRANT, 2, 0, &[1, 0, 0, 0])
                .poll(9)
                .bytes,
        ),
        (
            "stream_result",
            c().frame(1, DATA, 4, 4, &[0, 0, 2])
                .consumed(3, 14)
                .frame(1, CLOSE, 4, 0, &[232, 3])
                .bytes,
        ),
        (
            "stream_without_result",
            c().frame(1, CLOSE, 4, 0, &[232, 3]).bytes,
        ),
        (
            "stream_dropped",
            c().send(3, 20, 1)
                .frame(1, BACKPRESSURE, 4, 0, &[])
                .poll(5)
                .bytes,
        ),
        (
            "stream_left",
            c().send(3, 20, 1)
                .call(1, 3, &[18, 232, 3])
                .poll(5)
                .to_deadline()
                .bytes,
        ),
        (
            "tunnel_tcp",
            c().tunnel(2)
                .poll(2)
                .send(5, 2000, 0)
                .poll(4)
                .frame(1, TCP_DATA, 6, 50, &[0])
                .consumed(5, 150)
                .frame(1, TCP_CLOSE, 6, 0, &[0])
                .bytes,
        ),
        (
            "tunnel_udp",
            c().tunnel(4)
                .send(5, 100, 3)
                .send(5, 0, 3)
                .poll(3)
                .frame(1, UDP, 6, 9, &[2])
                .consumed(5, 27)
                .ended(5)
                .poll(2)
                .bytes,
        ),
        (
            "tunnel_left",
            c().tunnel(2)
                .send(5, 500, 0)
                .ended(5)
                .poll(4)
                .frame(1, TCP_DATA, 6, 5, &[0])
                .poll(2)
                .bytes,
        ),
        (
            "lost",
            c().call(1, 0, &[6, 1])
                .call(2, 0, &[15])
                .frame(2, REGISTER, 1, 0, &[])
                .bytes,
        ),
        (
            "superseded",
            c().call(2, 0, &[15])
                .frame(2, REGISTER, 1, 0, &[])
                .tunnel(2)
                .call(2, 0, &[14, 4])
                .bytes,
        ),
        (
            "shutdown",
            c().send(1, 100, 0)
                .call(1, 0, &[17, 0, 1, 5])
                .poll(3)
                .to_deadline()
                .bytes,
        ),
        (
            "clock_set",
            c().clock(0)
                .frame(1, PING, 1, 0, &[])
                .poll(2)
                .clock(255)
                .to_deadline()
                .bytes,
        ),
    ]
}

/// Lines of text and of bytes in turn.
fn decode() -> Vec<Seed> {
    let nonce = "00000000000000000000000000000000";
    let tunnels = format!(
        r#"{{"type":"tcp_tunnel_start","request_id":"t1","payload":{{"service_name":"web","service_namespace":"default","service_port":80,"gateway_port":8080,"client_addr":"192.0.2.1:5"}}}}
{{"type":"tcp_tunnel_data","request_id":"t1","payload":{{"data":"QUJD"}}}}
{{"type":"udp_tunnel_data","payload":{{"tunnel_id":"t","data":"QUJD","client_addr":"","client_port":1,"gateway_port":8080}}}}
{{"type":"tcp_tunnel_data","request_id":"{nonce}-6","payload":{{"data":"QUJD","direction":"agent_to_gateway"}}}}
{{"type":"tcp_tunnel_close","request_id":"{nonce}-6","payload":{{"reason":"write_error","error":"reset","bytes_sent":3}}}}
{{"type":"tcp_tunnel_close","request_id":"t1","payload":{{}}}}"#
    );
    let mut frames = br#"{"type":"proxy_request","request_id":"r","payload":{"method":"PUT","path":"/api/x","body_binary":true}}"#.to_vec();
    frames.extend(b"\n\0\x01rthe body\n{}\n\0\x22");
    frames.extend(format!("{nonce}-1").bytes());
    frames.extend(b"\0\0\0\xc8\0\0\0\x1f{\"Content-Type\":[\"text/plain\"]}hello");
    let gzip = [
        0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 2, 3, 0x61, 0, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xc8,
        0x40, 0x90, 0x5c, 0, 0x3b, 0x7c, 0x8a, 0xdf, 0x12, 0, 0, 0,
    ];
    let packed = format!(
        r#"{{"type":"proxy_response","request_id":"{nonce}-1","payload":{{"status":200,"headers":null,"body":"{}","encoding":"gzip"}}}}"#,
        base64(&gzip)
    );
    let gateway = r#"{"type":"gateway_hello","payload":{"use_yamux":true}}
{"type":"gateway_hello_ack","payload":{"use_yamux":false}}
{"type":"error","payload":{"error":"cluster not registered"}}"#;
    vec![
        ("tunnels", tunnels.into_bytes()),
        ("binary_frames", frames),
        ("compressed", packed.into_bytes()),
        ("gateway", gateway.as_bytes().to_vec()),
    ]
}

/// Any bytes are some exchange; what the fuzzer keeps are those that differ.
fn roundtrip() -> Vec<Seed> {
    let names = [
        "any_0", "any_1", "any_2", "any_3", "any_4", "any_5", "any_6", "any_7", "any_8", "any_9",
        "any_10", "any_11", "any_12", "any_13", "any_14", "any_15",
    ];
    let seeds = names.into_iter().enumerate().map(|(n, name)| {
        let mut rng = Rng::new(n as u64);
        let bytes = (0..700).map(|_| match rng.chance(400) {
            true => rng.below(8) as u8,
            false => rng.below(256) as u8,
        });
        (name, bytes.collect())
    });
    seeds.collect()
}

fn differential() -> Vec<Seed> {
    const N: &str = "00000000000000000000000000000000";
    let messages: [(&str, &str); 30] = [
        ("not_json", "]"),
        ("not_object", "[1]"),
        ("empty_object", "{}"),
        ("trailing", r#"{"type":"ping","request_id":"1"} {}"#),
        (
            "ping",
            r#"{"type":"ping","request_id":"1","timestamp":"","payload":null}"#,
        ),
        (
            "both_cases",
            r#"{"type":"ping","TYPE":"pong","Request_ID":"1","Payload":{}}"#,
        ),
        (
            "id_number",
            r#"{"type":"proxy_request","request_id":1,"payload":{"path":"/api"}}"#,
        ),
        (
            "payload_list",
            r#"{"type":"proxy_request","request_id":"r","payload":[]}"#,
        ),
        ("no_payload", r#"{"type":"proxy_request","request_id":"r"}"#),
        (
            "unknown",
            r#"{"type":"neu\u00df","request_id":"r","payload":{"deep":[[[{}]]]}}"#,
        ),
        (
            "error",
            r#"{"type":"error","payload":{"error":"cluster is new"}}"#,
        ),
        (
            "request",
            r#"{"type":"proxy_request","request_id":"r","payload":{"method":"post","path":"api/v1/pods","query":"a=b","headers":{"Accept":["a","b",1],"X":"y","Cookie":"c"},"body":"QUJD","body_encoding":"BASE64","supports_response_streaming":true}}"#,
        ),
        (
            "request_json",
            r#"{"type":"proxy_request","request_id":"r","payload":{"method":"PUT","path":"/apis/x","headers":null,"body":{"a":[1,2.5,null]}}}"#,
        ),
        (
            "request_text",
            r#"{"type":"proxy_request","request_id":"r","payload":{"path":"/api","body":"\u00e4"}}"#,
        ),
        (
            "request_chunks",
            r#"{"type":"proxy_request","request_id":"r","payload":{"path":"/api","streaming":true,"use_streaming":false,"body":"x"}}"#,
        ),
        (
            "request_frame",
            r#"{"type":"proxy_request","request_id":"r","payload":{"path":"/api","body_binary":true}}"#,
        ),
        (
            "request_bad_path",
            r#"{"type":"proxy_request","request_id":"r","payload":{"path":"/api/../x"}}"#,
        ),
        (
            "request_service",
            r#"{"type":"proxy_request","request_id":"r","payload":{"path":"/api","service_name":"web"}}"#,
        ),
        (
            "request_again",
            r#"{"type":"proxy_request","request_id":"q1","payload":{"path":"/api"}}"#,
        ),
        (
            "upgrade",
            r#"{"type":"proxy_request","request_id":"r","payload":{"path":"/api/exec","protocol":"a, b,a","headers":{"Sec-WebSocket-Protocol":["c"],"Upgrade":["websocket"]}}}"#,
        ),
        (
            "start",
            r#"{"type":"ws_start","request_id":"r","payload":{"stream_id":"s","path":"/api/attach"}}"#,
        ),
        (
            "start_unnamed",
            r#"{"type":"proxy_websocket_start","request_id":"r","payload":{"path":"/api"}}"#,
        ),
        (
            "chunk",
            r#"{"type":"proxy_request_chunk","request_id":"q1","payload":{"data":null,"chunk":"QU\r\nJD"}}"#,
        ),
        (
            "chunk_bad",
            r#"{"type":"proxy_request_chunk","request_id":"q1","payload":{"data":"QUJ="}}"#,
        ),
        (
            "chunk_end",
            r#"{"type":"proxy_request_stream_end","request_id":"q1"}"#,
        ),
        (
            "data",
            r#"{"type":"proxy_websocket_data","payload":{"stream_id":"w1","data":"AUFC","message_type":1}}"#,
        ),
        (
            "data_bad",
            r#"{"type":"ws_data","request_id":"w1","payload":{"data":"Af8="}}"#,
        ),
        (
            "close",
            r#"{"type":"proxy_websocket_close","request_id":"w1","payload":{"code":4000}}"#,
        ),
        (
            "cancel",
            r#"{"type":"proxy_cancel","request_id":"q1","payload":{}}"#,
        ),
        (
            "big_number",
            r#"{"type":"ping","request_id":"1","payload":{"x":1e999}}"#,
        ),
    ];
    let answers = [
        (
            "answer_head",
            "header",
            1,
            r#"{"status":404.9,"headers":{"A":["b"],"Te":"x"}}"#,
        ),
        ("answer_head_text", "header", 1, r#"{"status":"200"}"#),
        ("answer_chunk", "chunk", 2, r#"{"data":"QUJD"}"#),
        ("answer_end", "end", 2, "null"),
        ("answer_abort", "abort", 1, r#"{"error":"gone"}"#),
    ];
    let answers = answers.map(|(name, kind, n, payload)| {
        let text = format!(
            r#"{{"type":"proxy_response_{kind}","request_id":"{N}-{n}","payload":{payload}}}"#
        );
        (name, text.into_bytes())
    });
    let whole = format!(
        r#"{{"type":"proxy_response","payload":{{"request_id":"{N}-1","status":200,"body":"QUJD","encoding":"base64"}}}}"#
    );
    let error = format!(
        r#"{{"type":"proxy_error","request_id":"","payload":{{"stream_id":"{N}-1","error":"e"}}}}"#
    );
    let messages = messages.map(|(name, text)| (name, text.as_bytes().to_vec()));
    let more = [
        ("answer_whole", whole.into_bytes()),
        ("answer_error", error.into_bytes()),
    ];
    messages.into_iter().chain(answers).chain(more).collect()
}

#[test]
fn the_corpus_has_what_stands_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let write = env::var_os("WORLD_SEEDS").is_some();
    for (target, seeds) in [
        ("agent_calls", agent_calls()),
        ("controller_calls", controller_calls()),
        ("decode", decode()),
        ("differential", differential()),
        ("roundtrip", roundtrip()),
    ] {
        fs::create_dir_all(root.join(target)).unwrap();
        for (name, bytes) in seeds {
            let path = root.join(target).join(name);
            if write {
                fs::write(&path, &bytes).unwrap();
            }
            let same = fs::read(&path).is_ok_and(|found| found == bytes);
            assert!(same, "{}: run this with WORLD_SEEDS=write", path.display());
        }
    }
}
