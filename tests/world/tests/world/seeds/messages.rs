//! Messages, for `decode` and `differential`, and the beginnings of `roundtrip`.

use controlplane_world::{message::base64, rng::Rng};

use super::Seed;

/// Lines of text and of bytes in turn.
pub(super) fn decode() -> Vec<Seed> {
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
pub(super) fn roundtrip() -> Vec<Seed> {
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

pub(super) fn differential() -> Vec<Seed> {
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
