//! What is read, and what of it is tolerated.

use super::*;

#[test]
fn p025_what_is_tolerated() {
    for text in [
        r#"{"type":"ping","request_id":"a","payload":{},"timestamp":""}"#,
        r#"{"type":"ping","request_id":"a","payload":null,"timestamp":7}"#,
        r#"{"TYPE":"ping","Request_ID":"a"}"#,
        r#" {"type":"ping","request_id":"a","extra":{"x":[1,{"y":null}]},"payload":{"z":[[]]}} "#,
        "{\"payload\":{\"error\":1},\"request_id\":\"a\",\"type\":\"ping\"}\n",
        r#"{"type":"x","type":"ping","request_id":5,"request_id":"a"}"#,
    ] {
        let envelope = decode(text.as_bytes()).unwrap();
        assert_eq!(
            (&*envelope.kind, envelope.id.as_deref(), envelope.fault),
            ("ping", Some("a"), None),
            "{text}"
        );
    }
    let null = decode(br#"{"type":"ping","request_id":null}"#).unwrap();
    assert_eq!((null.id, null.fault), (None, None));
    let empty = decode(br#"{"type":"ping","request_id":""}"#).unwrap();
    assert_eq!((empty.id, empty.fault), (None, None));
}

#[test]
fn p159_p190_what_costs_itself_still_tells_its_id() {
    for text in [
        r#"{"type":"proxy_request","request_id":"a","payload":[]}"#,
        r#"{"type":"proxy_request","request_id":"a","payload":"x"}"#,
        r#"{"type":"proxy_request","payload":1,"request_id":"a"}"#,
        r#"{"type":"proxy_request","request_id":"a"} {}"#,
        r#"{"type":"proxy_request","request_id":"a"}x"#,
    ] {
        let envelope = decode(text.as_bytes()).unwrap();
        let told = (&*envelope.kind, envelope.id.as_deref(), envelope.fault);
        assert_eq!(
            told,
            ("proxy_request", Some("a"), Some(PeerFault::Malformed)),
            "{text}"
        );
    }
    let number = decode(br#"{"type":"ping","request_id":7}"#).unwrap();
    assert_eq!(
        (number.id, number.fault),
        (None, Some(PeerFault::Malformed))
    );
}

#[test]
fn what_is_no_envelope_at_all() {
    let deep = "[".repeat(100_000);
    let bad: [&[u8]; 8] = [
        b"",
        b"null",
        b"[]",
        b"\"x\"",
        b"{\"type\":",
        b"{\"type\":\"\xff\"}",
        b"\x00\x01r",
        deep.as_bytes(),
    ];
    for frame in bad {
        assert_eq!(decode(frame).unwrap_err(), PeerFault::Malformed);
    }
}

#[test]
fn nesting_is_no_way_to_overflow_the_stack() {
    let deep = "[".repeat(200_000);
    let frame = alloc::format!("{{\"type\":\"a\",\"payload\":{{\"x\":{deep}");
    assert_eq!(decode(frame.as_bytes()).unwrap_err(), PeerFault::Malformed);
    let body = alloc::format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let frame = alloc::format!(
        "{{\"type\":\"a\",\"payload\":{{\"body\":{body},\"labels\":{body},\"data\":{body}}}}}"
    );
    let envelope = decode(frame.as_bytes()).unwrap();
    assert!(
        matches!(envelope.payload.unwrap().body, Some(Body::Json(json)) if json == body.as_bytes())
    );
}

#[test]
fn p028_p058_a_field_of_another_type_is_absent() {
    let frame = r#"{"type":"proxy_request","payload":{
        "method":1,"path":["/api"],"query":{},"timeout":"1s","status":"ok","use_streaming":"true",
        "supports_response_streaming":1,"headers":["A"],"body":true,"workspace_id":"5",
        "Path":"/api","is_websocket":null}}"#;
    let fields = decode(frame.as_bytes()).unwrap().payload.unwrap();
    assert!(fields.method.is_none() && fields.path.is_none() && fields.query.is_none());
    assert!(fields.timeout.is_none() && fields.status.is_none() && fields.workspace_id.is_none());
    assert_eq!(fields.timeout_text.as_deref(), Some("1s"));
    assert_eq!(fields.status_text.as_deref(), Some("ok"));
    assert!(!fields.use_streaming && !fields.supports_response_streaming && !fields.is_websocket);
    assert!(fields.headers.is_none() && fields.body.is_none());
}

#[test]
fn p058_headers_are_texts_or_lists_of_texts() {
    let frame =
        r#"{"type":"a","payload":{"headers":{"A":"1","B":["2",3,"4"],"C":5,"A":"6","D":[]}}}"#;
    let fields = decode(frame.as_bytes()).unwrap().payload.unwrap();
    let expected = [("A", "6"), ("B", "2"), ("B", "4")];
    let expected: Vec<_> = expected.map(|(n, v)| (n.to_string(), v.to_string())).into();
    assert_eq!(fields.headers, Some(expected));
}

#[test]
fn t015_a_body_is_a_text_or_json() {
    let body = |json: &str| {
        let frame = alloc::format!("{{\"type\":\"a\",\"payload\":{{\"body\":{json}}}}}");
        match decode(frame.as_bytes()).unwrap().payload.unwrap().body {
            Some(Body::Text(text)) => Some(text.into_owned()),
            Some(Body::Json(json)) => Some(String::from_utf8(json).unwrap()),
            None => None,
        }
    };
    assert_eq!(body(r#""a\nb""#).as_deref(), Some("a\nb"));
    assert_eq!(
        body(r#"{"n":123456789012345678901}"#).as_deref(),
        Some(r#"{"n":123456789012345678901}"#)
    );
    assert_eq!(body("[1]").as_deref(), Some("[1]"));
    assert_eq!((body("1"), body("null"), body("true")), (None, None, None));
}

#[test]
fn t029_t031_variants_of_names() {
    let fields = |payload: &str| {
        let frame = alloc::format!("{{\"type\":\"a\",\"payload\":{payload}}}");
        let envelope = decode(frame.as_bytes()).unwrap();
        let fields = envelope.payload.unwrap();
        (fields.use_streaming, fields.is_websocket, fields.head_data)
    };
    assert_eq!(
        fields(r#"{"streaming":true,"use_streaming":false}"#),
        (true, false, false)
    );
    assert_eq!(
        fields(r#"{"isWebSocket":true,"headData":[1]}"#),
        (false, true, true)
    );
    assert_eq!(
        fields(r#"{"is_websocket":true,"head_data":""}"#),
        (false, true, false)
    );
}

#[test]
fn p199_secrets_are_read_over() {
    let frame = r#"{"type":"register","payload":{"k8s_service_token":"S3CRET","token":"S3CRET",
        "prometheus_password":"S3CRET","worker_join":{"token":"S3CRET"},"name":"n"}}"#;
    let envelope = decode(frame.as_bytes()).unwrap();
    assert!(!alloc::format!("{envelope:?}").contains("S3CRET"));
}
