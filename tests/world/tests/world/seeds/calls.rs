//! Lists of calls, for `agent_calls` and `controller_calls`.

use super::Seed;

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

    /// The client of a controller asks for something.
    fn opens(mut self, which: u8) -> Self {
        self.bytes.extend([0, which]);
        self
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

    fn until_due(self) -> Self {
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

pub(super) fn agent_calls() -> Vec<Seed> {
    use kind::*;
    let a = Calls::agent;
    let register = |gateway| {
        a().call(1, 0, &[6, 1])
            .until_due()
            .call(2, 0, &[5])
            .call(2, 0, &[14, 3])
            .call(2, 0, &[23, gateway])
    };
    vec![
        (
            "fast_http",
            a().call(1, 0, &[24, 0, 0])
                .call(1, 0, &[25, 0, 2, 0, 3, 1])
                .send(0, 300, 0)
                .call(1, 0, &[25, 0, 2, 0, 0, 4, 0, 9])
                .consumed(0, 3)
                .ended(0)
                .call(1, 0, &[25, 0, 2, 0, 5, 0])
                .poll(5)
                .bytes,
        ),
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
                .until_due()
                .until_due()
                .until_due()
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
                .until_due()
                .until_due()
                .until_due()
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
                .until_due()
                .call(4, 0, &[5])
                .bytes,
        ),
        (
            "gateway_away",
            register(1)
                .call(3, 0, &[6, 1])
                .until_due()
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
                .until_due()
                .poll(3)
                .bytes,
        ),
    ]
}

pub(super) fn controller_calls() -> Vec<Seed> {
    use kind::*;
    let c = Calls::controller;
    vec![
        (
            "fast_http",
            c().call(1, 0, &[24, 0, 0])
                .opens(6)
                .send(6, 300, 0)
                .call(1, 0, &[25, 0, 2, 0, 0, 4, 0, 9])
                .ended(6)
                .call(1, 0, &[25, 0, 2, 0, 5, 0])
                .poll(5)
                .bytes,
        ),
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
                .until_due()
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
                .until_due()
                .bytes,
        ),
        (
            "clock_set",
            c().clock(0)
                .frame(1, PING, 1, 0, &[])
                .poll(2)
                .clock(255)
                .until_due()
                .bytes,
        ),
    ]
}
