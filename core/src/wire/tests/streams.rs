//! Messages of WebSocket streams, by statement.

use bytes::Bytes;

use super::*;
use crate::{
    input::{Kind, StreamClose},
    wire::frame::{self, Message},
};

#[test]
fn p044_p047_p064_a_stream_from_start_to_close() {
    let head = RequestHead {
        method: "GET".into(),
        path: "/api/v1/namespaces/n/pods/p/exec".into(),
        query: Some("command=sh".into()),
        headers: Vec::from([("Accept".into(), "*/*".into())]),
    };
    let expected = json!({"type":"proxy_websocket_start","request_id":"s1","payload":{
        "stream_id":"s1","method":"GET","path":head.path,"query":"command=sh",
        "headers":{"Accept":["*/*"]},"protocol":"v4.channel.k8s.io"}});
    let start = encode::websocket_start("s1", &head, Some("v4.channel.k8s.io"));
    assert_eq!(read(&start), expected);
    let protocols = Vec::from(["v5.channel.k8s.io".into(), "v4.channel.k8s.io".into()]);
    let terms = encode::Terms::default();
    let asked = &read(&encode::upgrade_request("s1", &head, &protocols, terms))["payload"];
    assert_eq!(asked["is_websocket"], true);
    assert_eq!(asked["protocol"], "v5.channel.k8s.io, v4.channel.k8s.io");
    let unnamed = &read(&encode::upgrade_request("s1", &head, &[], terms))["payload"];
    assert!(unnamed.get("protocol").is_none());
    assert_eq!(
        read(&encode::websocket_close("s1", &StreamClose::new(1000, ""))),
        json!({"type":"proxy_websocket_close","request_id":"s1","payload":{
            "stream_id":"s1","code":1000}})
    );
    let unnamed = read(&encode::websocket_close("s1", &StreamClose::new(1005, "x")));
    assert_eq!(unnamed["payload"], json!({"stream_id":"s1"}));
    assert_eq!(
        read(&encode::stream_error(Some("s1"), "no")),
        json!({"type":"proxy_error","request_id":"s1","payload":{"request_id":"s1","error":"no"}})
    );
    assert_eq!(
        read(&encode::stream_error(None, "no")),
        json!({"type":"proxy_error","payload":{"request_id":"","error":"no"}})
    );
}

#[test]
fn p045_a_message_is_its_opcode_and_its_bytes() {
    let base64 = Base64::new();
    for len in 0..20_usize {
        let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
        for (kind, opcode) in [(Kind::Text, 1), (Kind::Binary, 2)] {
            let text = encode::websocket_data("s1", kind, &data, &base64);
            let value = read(&text);
            assert_eq!(value["payload"]["stream_id"], "s1");
            let encoded = value["payload"]["data"].as_str().unwrap();
            let framed = base64.decode(encoded).unwrap();
            assert_eq!(framed, [&[opcode], &data[..]].concat(), "{len}");
        }
    }
}

#[test]
fn p155_the_framing_never_depends_on_the_content() {
    let base64 = Base64::new();
    let message = |payload: Value| {
        let text = json!({"type": "ws_data", "payload": payload}).to_string();
        let envelope = decode(text.as_bytes()).unwrap();
        frame::read(envelope.payload.as_ref(), 8, &base64)
    };
    let framed = |data: &[u8]| {
        let mut text = String::new();
        base64.encode_into(data, &mut text);
        message(json!({"data": text}))
    };
    // A tab or a line feed begins no message of another type: the opcode says what it is.
    for first in [b'\t', b'\n', 1, 2, 8, 0] {
        let data = [first, b'x'];
        let text = Message::Data(Kind::Text, Bytes::copy_from_slice(&data));
        assert_eq!(framed(&[1, first, b'x']), Ok(text));
    }
    let bare = |data: &[u8], kind: u8| {
        let mut text = String::new();
        base64.encode_into(data, &mut text);
        message(json!({"data": text, "message_type": kind}))
    };
    assert_eq!(bare(b"\nhello", 1), Err(PeerFault::Opcode));
    assert_eq!(bare(b"\x01hi", 1), framed(b"\x01hi"));
    assert_eq!(framed(b""), Ok(Message::Empty));
    assert_eq!(framed(&[2]), Ok(Message::Data(Kind::Binary, Bytes::new())));
    assert_eq!(framed(&[9, 1]), Ok(Message::Ping));
    assert_eq!(framed(&[10]), Ok(Message::Ping));
    for opcode in [0, 3, 7, 11, 255] {
        assert_eq!(framed(&[opcode, 1]), Err(PeerFault::Opcode), "{opcode}");
    }
    assert_eq!(framed(&[1, 0xff]), Err(PeerFault::Utf8));
    assert_eq!(framed(&[2; 10]), Err(PeerFault::MessageTooLong));
    assert!(framed(&[2; 9]).is_ok());
    assert_eq!(message(json!({})), Err(PeerFault::Missing("data")));
    assert_eq!(message(json!({"data": "!"})), Err(PeerFault::Base64));
    let close = |code, reason| Ok(Message::Close(StreamClose::new(code, reason)));
    assert_eq!(framed(&[8, 3, 0xe8, b'x']), close(1000, "x"));
    assert_eq!(framed(&[8, 3]), close(1005, ""));
    assert_eq!(framed(&[8, 0, 1]), close(1005, ""));
}

#[test]
fn p070_a_greeting_asks_for_no_window_that_an_agent_cannot_have() {
    for (window, told) in [
        (1, 262_144),
        (262_144, 262_144),
        (4 << 20, 4 << 20),
        (usize::MAX, u64::from(u32::MAX)),
    ] {
        let hello = read(&encode::gateway_hello(window, &[16]));
        let config = &hello["payload"]["yamux_config"];
        assert_eq!(config["max_stream_window_size"], told);
    }
}
