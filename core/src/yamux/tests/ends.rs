//! Streams that both ends have finished, and a reset that crosses that or comes after it.

use super::*;

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// Everything is told, except that the client has not taken what the server sent last.
fn finished_by_both(pair: &mut Pair) -> u32 {
    let id = pair.open();
    pair.server.send(id, text("all of it")).unwrap();
    pair.server.finish(id);
    pair.client.finish(id);
    pair.carry();
    id
}

#[test]
fn p119_what_both_ends_have_finished_no_reset_takes_away() {
    let mut pair = Pair::new();
    let id = finished_by_both(&mut pair);
    // As from a peer that waits no longer for its own half to end.
    pair.client.receive(at(0), &frame(1, RST, id, 0, b""));
    let told = [Event::Data(id, text("all of it")), Event::Finished(id)];
    assert_eq!(events(&mut pair.client), told);
    pair.client.consumed(at(0), id, 9);
    assert_eq!(events(&mut pair.client), [Event::Over(id)]);
    assert_eq!((pair.client.streams(), pair.client.held_in()), (0, 0));
    assert_eq!(pair.client.stats().resets, 0);
    assert_eq!(pair.client.stats().stale, 1);
}

#[test]
fn p119_who_gives_up_what_both_have_finished_tells_nobody() {
    let mut pair = Pair::new();
    let id = finished_by_both(&mut pair);
    assert_eq!(
        events(&mut pair.server),
        [Event::Finished(id), Event::Over(id)]
    );
    assert!(pair.client.reset(id));
    assert_eq!(pair.client.transmit(at(0)), None);
    assert_eq!((pair.client.streams(), pair.client.held_in()), (0, 0));
}

#[test]
fn p119_half_of_an_end_protects_from_no_reset() {
    for client in [true, false] {
        let mut pair = Pair::new();
        let id = pair.open();
        let end = if client {
            &mut pair.client
        } else {
            &mut pair.server
        };
        end.finish(id);
        pair.carry();
        pair.server.reset(id);
        pair.carry();
        let reset = Event::Reset(id, ResetBy::Peer);
        assert_eq!(events(&mut pair.client), [reset]);
    }
}
