mod recorded;

use alloc::{format, string::String, vec, vec::Vec};

use self::{
    Way::{Down, Up},
    recorded::{CLIENT_CLOSE, EXEC_SPDY, EXEC_V5, FORWARD_SPDY},
};
use super::*;

const EXEC: &str = "/api/v1/namespaces/default/pods/web/exec";
const FORWARD: &str = "/api/v1/namespaces/default/pods/web/portforward";
const V5: &str = "v5.channel.k8s.io";
const CAUSE: &str = "the connection to the cluster's agent was lost";
const STATUS: &[u8] = br#"{"metadata":{},"status":"Failure","message":"the connection to the cluster's agent was lost","reason":"InternalError","code":500}"#;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Down,
    Up,
}

impl Follower {
    fn pass(&mut self, way: Way, data: &[u8]) {
        match way {
            Down => self.down(data),
            Up => self.up(data),
        }
    }

    /// One byte at a time.
    fn trickle(&mut self, frames: &[(Way, &[u8])]) {
        for (way, frame) in frames {
            frame.iter().for_each(|byte| self.pass(*way, &[*byte]));
        }
    }

    fn words(&self) -> Option<Vec<u8>> {
        self.last_words(StreamClose::BROKEN, CAUSE)
    }
}

fn exec(protocol: &str) -> Follower {
    Follower::websocket(EXEC, protocol, false)
}

/// A close frame with 1011 and the cause.
fn close() -> Vec<u8> {
    let mut frame = vec![0x88, 2 + CAUSE.len() as u8, 0x03, 0xf3];
    frame.extend_from_slice(CAUSE.as_bytes());
    frame
}

/// A failure as a message of v4 or v5, and the close.
fn failure() -> Vec<u8> {
    let mut frame = vec![0x82, 126, 0, 1 + STATUS.len() as u8, 3];
    frame.extend_from_slice(STATUS);
    frame.extend(close());
    frame
}

#[test]
fn a_recorded_command_is_followed_to_its_result_and_its_close() {
    // What can be said after each of the frames, and after each but its last byte.
    let mut follower = exec(V5);
    assert_eq!(follower.words(), Some(failure()));
    let (last, rest) = EXEC_V5.split_last().unwrap();
    let (result, output) = rest.split_last().unwrap();
    for (way, frame) in output {
        let (end, begun) = frame.split_last().unwrap();
        follower.pass(*way, begun);
        assert_eq!(follower.words(), None);
        follower.pass(*way, &[*end]);
        assert_eq!(follower.words(), Some(failure()));
    }
    follower.pass(result.0, result.1);
    assert_eq!(follower.words(), Some(close()), "a second result");
    assert!(!follower.is_complete());
    follower.pass(last.0, last.1);
    assert!(follower.is_complete());
    let closed = StreamClose::new(1000, "");
    assert_eq!(follower.closed(), Some(Closed::Cluster(closed)));
    assert_eq!(follower.words(), Some(Vec::new()));

    let mut trickled = exec(V5);
    trickled.trickle(EXEC_V5);
    assert_eq!(trickled.closed(), follower.closed());
    let all: Vec<u8> = EXEC_V5
        .iter()
        .flat_map(|(_, frame)| *frame)
        .copied()
        .collect();
    let mut at_once = exec(V5);
    at_once.down(&all);
    assert_eq!(at_once.closed(), follower.closed());
    assert_eq!(at_once.words(), Some(Vec::new()));
}

#[test]
fn a_recorded_client_closes_first() {
    let mut follower = exec(V5);
    follower.trickle(CLIENT_CLOSE);
    let closed = follower.closed().unwrap();
    assert!(
        matches!(&closed, Closed::Client(close) if close.code == 1000),
        "{closed:?}"
    );
    assert!(follower.is_complete());
}

#[test]
fn a_failure_has_the_form_of_its_subprotocol() {
    let text =
        |follower: Follower| String::from_utf8_lossy(&follower.words().unwrap()).into_owned();
    // Opcode and channel.
    assert!(text(exec("v4.base64.channel.k8s.io")).starts_with("\u{fffd}~\0\u{fffd}3eyJt"));
    let words = exec("channel.k8s.io").words().unwrap();
    assert!(words.starts_with(&[0x82, 1 + CAUSE.len() as u8, 3, b't', b'h']));
    for follower in [
        Follower::websocket(FORWARD, "SPDY/3.1+portforward.k8s.io", false),
        Follower::websocket(EXEC, "other", false),
        // What an extension makes of a message is its own.
        Follower::websocket(EXEC, V5, true),
    ] {
        assert_eq!(follower.words(), Some(close()));
    }
    // A cause that is longer than a close frame is cut there only.
    let long = "x".repeat(200);
    let words = exec(V5).last_words(1008, &long).unwrap();
    assert!(words.ends_with(&[&b"\x88\x7d\x03\xf0"[..], &long.as_bytes()[..123]].concat()));
    assert!(String::from_utf8_lossy(&words).contains(&long));
}

#[test]
fn what_comes_between_fragments_says_nothing_of_the_message() {
    let mut follower = exec(V5);
    follower.down(b"\x02\x01\x03");
    assert_eq!(
        follower.words(),
        Some(close()),
        "in the middle of a message"
    );
    follower.down(b"\x89\x02\x01\x02");
    assert_eq!(follower.words(), Some(close()));
    // The rest of the result.
    follower.down(b"\x80\x02{}\x82\x02\x01x");
    assert_eq!(follower.words(), Some(close()), "a second result");
    // An empty message of the channel is none.
    let mut follower = exec(V5);
    follower.down(b"\x82\x01\x03\x82\x00");
    assert_eq!(follower.words(), Some(failure()));
}

#[test]
fn long_masked_and_impossible_frames_are_measured() {
    let mut follower = exec(V5);
    follower.down(b"\x82\x7f\0\0\0\0\0\x01\0\0\x01");
    assert_eq!(follower.words(), None);
    follower.down(&[0; 0xffff]);
    assert_eq!(follower.words(), Some(failure()));
    follower.down(b"\x82\xfe\0\x02\x01\x02\x03\x04\x02\x02");
    assert_eq!(follower.words(), Some(close()), "the result, masked");
    follower.down(b"\x82\x7f\xff\0\0\0\0\0\0\0");
    follower.down(&[0; 100]);
    assert_eq!(follower.words(), None);
}

fn spdy(frames: &[(Way, &[u8])], path: &str, protocol: &str) -> Follower {
    let mut follower = Follower::spdy(path, protocol);
    for (way, frame) in frames {
        follower.pass(*way, frame);
    }
    follower
}

fn reset(stream: u8) -> [u8; 16] {
    [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, stream, 0, 0, 0, 6]
}

fn goaway(stream: u8) -> [u8; 16] {
    [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, stream, 0, 0, 0, 2]
}

/// The failure on the error stream.
fn told(document: &[u8]) -> Vec<u8> {
    let head = [0, 0, 0, 1, 1, 0, 0, document.len() as u8];
    [&head, document].concat()
}

#[test]
fn a_recorded_command_by_spdy_is_told_of_a_break_on_its_error_stream() {
    let v4 = "v4.channel.k8s.io";
    let result = EXEC_SPDY.len() - 6;
    for n in 0..EXEC_SPDY.len() {
        let follower = spdy(&EXEC_SPDY[..n], EXEC, v4);
        let words = follower.words().unwrap();
        let opened = EXEC_SPDY[..n].iter().any(|(way, _)| *way == Up);
        assert_eq!(
            words.starts_with(&told(STATUS)),
            opened && n <= result,
            "{n}"
        );
        assert_eq!(follower.is_complete(), !opened || n > result, "{n}");
    }
    let open = [0x01, 0x03, 0x05, 0x07];
    let follower = spdy(&EXEC_SPDY[..8], EXEC, v4);
    let resets = open[1..].iter().flat_map(|id| reset(*id));
    let expected: Vec<u8> = told(STATUS)
        .into_iter()
        .chain(resets)
        .chain(goaway(7))
        .collect();
    assert_eq!(follower.words(), Some(expected));
    // Plain text in older protocols.
    let old = spdy(&EXEC_SPDY[..8], EXEC, "channel.k8s.io")
        .words()
        .unwrap();
    assert!(old.starts_with(&told(CAUSE.as_bytes())));
    // After the farewell there is nothing to say but to whom it leaves.
    let whole = spdy(EXEC_SPDY, EXEC, v4);
    assert_eq!(whole.words(), Some(Vec::new()));
    let mut trickled = Follower::spdy(EXEC, v4);
    trickled.trickle(EXEC_SPDY);
    assert_eq!(trickled.words(), whole.words());
}

#[test]
fn a_piece_of_output_that_was_cut_is_made_up_but_no_other_frame() {
    let v4 = "v4.channel.k8s.io";
    let output = EXEC_SPDY
        .iter()
        .position(|(way, f)| *way == Down && f[0] == 0)
        .unwrap();
    let frame = EXEC_SPDY[output].1;
    for has in 0..frame.len() {
        let mut follower = spdy(&EXEC_SPDY[..output], EXEC, v4);
        follower.down(&frame[..has]);
        let words = follower.words();
        if (1..8).contains(&has) {
            assert_eq!(words, None, "{has}");
            continue;
        }
        let rest = if has == 0 { 0 } else { frame.len() - has };
        let words = words.unwrap();
        assert_eq!(words[..rest], vec![0; rest]);
        assert!(words[rest..].starts_with(&told(STATUS)), "{has}");
    }
    // A reply, and what is no command.
    let mut follower = spdy(&EXEC_SPDY[..1], EXEC, v4);
    follower.down(&EXEC_SPDY[1].1[..10]);
    assert_eq!(follower.words(), None);
    let mut follower = spdy(&FORWARD_SPDY[..6], FORWARD, "portforward.k8s.io");
    follower.down(&frame[..9]);
    assert_eq!(follower.words(), None);
}

#[test]
fn recorded_forwarded_connections_are_reset_while_they_are_open() {
    let after = |n: usize| spdy(&FORWARD_SPDY[..n], FORWARD, "portforward.k8s.io");
    let both = [reset(1), reset(3), goaway(3)].concat();
    assert_eq!(after(6).words(), Some(both));
    assert!(!after(6).is_complete());
    let all = after(FORWARD_SPDY.len());
    assert!(all.is_complete());
    assert_eq!(all.words(), Some(goaway(3).to_vec()));
}

#[test]
fn a_table_of_streams_is_bounded() {
    let mut follower = Follower::spdy(FORWARD, "portforward.k8s.io");
    for id in (1_u32..).step_by(2).take(5000) {
        let [a, b, c, d] = id.to_be_bytes();
        follower.up(&[0x80, 3, 0, 1, 0, 0, 0, 10, a, b, c, d, 0, 0, 0, 0, 0, 0]);
    }
    let words = follower.words().unwrap();
    assert_eq!(words.len(), (4096 + 1) * 16);
    // Those that were reset by the client make room.
    let debug = format!("{follower:?}");
    follower.up(&reset(1));
    assert_ne!(debug, format!("{follower:?}"));
    assert_eq!(follower.words().unwrap().len(), 4096 * 16);
}
