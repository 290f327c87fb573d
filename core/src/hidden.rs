//! Data that `Debug` does not show: bodies, messages and frames carry tokens and passwords.

use core::fmt;

/// Shows of data only how long it is.
pub(crate) struct Hidden<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::String, vec::Vec};

    use bytes::Bytes;

    use crate::{
        Action, Agent, AgentConfig, ConnId, Controller, ControllerConfig, Endpoint, Frame, Input,
        Kind, Machine, OutFrame, Registration, RequestHead, ResponseHead, SendError, Socket, Start,
        StreamId, Time,
    };

    const SECRET: &str = "hunter2";
    const START: Start = Start {
        now: Time::ZERO,
        unix: core::time::Duration::ZERO,
        nonce: [3; 16],
    };

    #[test]
    fn p199_no_public_value_shows_what_it_carries() {
        let data = Bytes::from_static(SECRET.as_bytes());
        let frame = || OutFrame::Text(SECRET.into());
        let url = || format!("wss://gw.example/ws?session={SECRET}");
        let registration = Registration {
            cluster_id: "6f1c".into(),
            gateway_ws_url: url(),
            tunnel_url: url(),
            api_server: url(),
            ..Registration::default()
        };
        let head = ResponseHead {
            status: 200,
            headers: Vec::from([(String::from("Set-Cookie"), String::from(SECRET))]),
        };
        for (shown, visible) in [
            (format!("{:?}", frame()), "Text(7 bytes)"),
            (
                format!("{:?}", OutFrame::Binary(data.clone())),
                "Binary(7 bytes)",
            ),
            (
                format!("{:?}", Action::Send(ConnId(1), frame())),
                "Text(7 bytes)",
            ),
            (
                format!(
                    "{:?}",
                    Action::Deliver(StreamId(1), Kind::Text, data.clone())
                ),
                "Deliver(StreamId(1), Text, 7 bytes)",
            ),
            (
                format!("{:?}", Input::Frame(ConnId(1), Frame::Text(SECRET))),
                "Text(7 bytes)",
            ),
            (
                format!("{:?}", Frame::Binary(SECRET.as_bytes())),
                "Binary(7 bytes)",
            ),
            (
                format!("{:?}", SendError::Blocked(data.clone())),
                "Blocked(7 bytes)",
            ),
            (format!("{:?}", SendError::Closed(data)), "Closed(7 bytes)"),
            (
                format!("{:?}", Action::Head(StreamId(1), head)),
                "Set-Cookie",
            ),
            (
                format!("{:?}", Action::Connect(ConnId(1), Endpoint::Gateway(url()))),
                "wss://gw.example/ws\"",
            ),
            (
                format!("{:?}", Action::Registered(registration)),
                "cluster_id: \"6f1c\"",
            ),
        ] {
            assert!(shown.contains(visible), "{shown}");
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }

    #[test]
    fn p199_no_machine_shows_what_it_holds() {
        let conn = ConnId(1);
        let mut controller = Controller::new(ControllerConfig::new("c", "c"), START).unwrap();
        controller.handle(Time::ZERO, Input::Accepted(conn));
        let register =
            r#"{"type":"register","request_id":"r","payload":{"agent_id":"a","features":{}}}"#;
        controller.handle(Time::ZERO, Input::Frame(conn, Frame::Text(register)));
        let head = RequestHead {
            method: "POST".into(),
            path: "/api".into(),
            query: Some(SECRET.into()),
            ..RequestHead::default()
        };
        let id = controller.open(Time::ZERO, head, true).unwrap();
        let secret = Bytes::from_static(SECRET.as_bytes());
        controller.send(id, Kind::Bytes, secret).unwrap();

        let mut agent = Agent::new(AgentConfig::new("a", "a"), START).unwrap();
        let Some(Action::Connect(conn, _)) = agent.poll(Socket::Blocked) else {
            panic!("it does not dial")
        };
        agent.handle(Time::ZERO, Input::Connected(conn));
        let request = format!(
            r#"{{"type":"proxy_request","request_id":"r","payload":{{"method":"POST","path":"/api","body":"{SECRET}"}}}}"#
        );
        agent.handle(Time::ZERO, Input::Frame(conn, Frame::Text(&request)));
        for shown in [format!("{controller:?}"), format!("{agent:?}")] {
            // As a text, and as bytes one by one.
            assert!(!shown.contains(SECRET), "{shown}");
            assert!(!shown.contains("hunter"), "{shown}");
        }
    }
}
