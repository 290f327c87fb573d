//! What a peer does wrong costs its stream where the frames can still be told apart, and the session
//! where they cannot.

use super::*;

fn server() -> Session {
    Session::new(Role::Server, Config::default(), at(0))
}

#[test]
fn a_frame_that_cannot_be_read_ends_the_session() {
    for (bytes, error) in [
        (vec![1; 12], SessionError::Version(1)),
        (frame(4, 0, 0, 0, b""), SessionError::Type(4)),
        (frame(1, SYN, 2, 0, b""), SessionError::Id),
        (frame(1, SYN, 0, 0, b""), SessionError::Id),
        (
            frame(3, 0, 0, 1, b""),
            SessionError::GoneAway(Code::Protocol),
        ),
    ] {
        let mut end = server();
        let id = end.open(at(0)).unwrap();
        end.receive(at(0), &bytes);
        assert_eq!(events(&mut end), [Event::Ended(error)]);
        assert!(end.is_over() && end.deadline().is_none());
        assert!(matches!(
            end.send(id, Bytes::from_static(b"x")),
            Err(SendError::Closed(_))
        ));
        assert_eq!(end.open(at(0)), Err(OpenError::Closed));
        let last = end.transmit(at(0));
        let told = matches!(error, SessionError::GoneAway(_)).then_some(());
        assert_eq!(last.is_none(), told.is_some());
        assert_eq!(end.transmit(at(0)), None);
    }
}

#[test]
fn p119_more_than_the_window_costs_the_stream_alone() {
    let mut end = server();
    let mut bytes = frame(1, SYN, 1, 0, b"");
    bytes.extend(frame(1, SYN, 3, 0, b""));
    end.receive(at(0), &bytes);
    assert_eq!(events(&mut end), [Event::Opened(1), Event::Opened(3)]);
    let long = vec![0; INITIAL_WINDOW + 1];
    let mut bytes = frame(0, 0, 1, long.len() as u32, &long);
    bytes.extend(frame(0, FIN, 3, 2, b"hi"));
    end.receive(at(0), &bytes);
    assert_eq!(
        events(&mut end),
        [
            Event::Reset(1, ResetBy::Window),
            Event::Data(3, Bytes::from_static(b"hi")),
            Event::Finished(3),
        ]
    );
}
