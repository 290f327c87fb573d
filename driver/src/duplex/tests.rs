use controlplane_core::StreamId;
use futures_util::{AsyncReadExt, AsyncWriteExt, FutureExt};

use super::*;
use crate::ends::Ends;

const ID: StreamId = StreamId(7);

struct Loop {
    ends: Ends,
    stream: ByteStream,
}

impl Loop {
    fn new() -> Self {
        let mut ends = Ends::new();
        let stream = ends.open_duplex(ID);
        Self { ends, stream }
    }

    fn hand(&mut self, data: &'static [u8]) {
        let data = Bytes::from_static(data);
        self.ends.hand(ID, Piece::Data(Kind::Bytes, data));
    }

    /// What the stream has told the event loop since the last time.
    fn events(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok((id, event)) = self.ends.incoming.try_recv() {
            assert_eq!(id, ID);
            told.push(match event {
                Event::Data(kind, data) => format!("{kind:?} {}", data.len()),
                other => format!("{other:?}"),
            });
        }
        told
    }

    /// The machine takes what was offered.
    fn take(&mut self) {
        let taken = &self.ends.by_id[&ID].taken;
        taken.unbounded_send(()).unwrap();
    }

    fn read(&mut self, len: usize) -> Option<io::Result<Vec<u8>>> {
        let mut buffer = vec![0; len];
        let read = self.stream.read(&mut buffer).now_or_never()?;
        Some(read.map(|len| buffer[..len].to_vec()))
    }

    /// Ends the test's hold on the stream.
    fn drop_stream(mut self) -> Vec<String> {
        drop(self.stream);
        let mut told = Vec::new();
        while let Ok((_, event)) = self.ends.incoming.try_recv() {
            told.push(format!("{event:?}"));
        }
        told
    }
}

#[test]
fn a_piece_makes_room_once_it_was_read_in_full() {
    let mut it = Loop::new();
    assert!(it.read(4).is_none());
    it.hand(b"abcdef");
    it.hand(b"gh");
    assert_eq!(it.read(4).unwrap().unwrap(), b"abcd");
    assert!(it.events().is_empty());
    assert_eq!(it.read(4).unwrap().unwrap(), b"ef");
    assert_eq!(it.events(), ["Consumed(6)"]);
    assert_eq!(it.read(4).unwrap().unwrap(), b"gh");
    assert_eq!(it.events(), ["Consumed(2)"]);
}

#[test]
fn what_was_given_back_is_read_next_and_makes_no_room() {
    let mut it = Loop::new();
    it.stream.unread(Bytes::from_static(b"yz"));
    it.hand(b"abc");
    assert_eq!(it.read(1).unwrap().unwrap(), b"y");
    it.stream.unread(Bytes::from_static(b"x"));
    assert_eq!(it.read(9).unwrap().unwrap(), b"xz");
    assert!(it.events().is_empty());
    assert_eq!(it.read(9).unwrap().unwrap(), b"abc");
}

#[test]
fn a_write_hands_over_a_bounded_piece_and_the_next_waits_until_it_was_taken() {
    let mut it = Loop::new();
    let data = vec![1; PIECE + 1];
    let write = |it: &mut Loop, from: usize| it.stream.write(&data[from..]).now_or_never();
    assert_eq!(write(&mut it, 0).unwrap().unwrap(), PIECE);
    assert_eq!(it.events(), [format!("Bytes {PIECE}")]);
    assert!(write(&mut it, PIECE).is_none());
    assert!(it.stream.flush().now_or_never().is_none());
    it.take();
    it.stream.flush().now_or_never().unwrap().unwrap();
    assert_eq!(write(&mut it, PIECE).unwrap().unwrap(), 1);
    assert_eq!(it.events(), ["Bytes 1"]);
    // Its own end comes after what it wrote.
    assert!(it.stream.close().now_or_never().is_none());
    assert!(it.events().is_empty());
    it.take();
    it.stream.close().now_or_never().unwrap().unwrap();
    assert_eq!(it.events(), ["Ended(Clean)"]);
    it.stream.close().now_or_never().unwrap().unwrap();
    assert!(write(&mut it, 0).unwrap().is_err());
    assert!(it.events().is_empty());
}

#[test]
fn either_direction_ends_without_the_other() {
    let mut it = Loop::new();
    it.hand(b"last");
    it.ends.hand(ID, Piece::End);
    assert_eq!(it.read(9).unwrap().unwrap(), b"last");
    assert_eq!(it.read(9).unwrap().unwrap(), b"");
    it.events();
    assert_eq!(it.stream.write(b"x").now_or_never().unwrap().unwrap(), 1);
    assert_eq!(it.drop_stream(), ["Data(Bytes, b\"x\")", "Cancel"]);

    let mut it = Loop::new();
    it.stream.close().now_or_never().unwrap().unwrap();
    it.hand(b"still");
    assert_eq!(it.read(9).unwrap().unwrap(), b"still");
    it.events();
    assert_eq!(it.drop_stream(), ["Cancel"]);
}

#[test]
fn a_stream_that_is_over_is_not_cancelled_and_can_be_read_to_its_end() {
    let mut it = Loop::new();
    it.stream.close().now_or_never().unwrap().unwrap();
    it.hand(b"ab");
    it.ends.hand(ID, Piece::End);
    it.ends.forget(ID);
    it.events();
    assert_eq!(it.read(9).unwrap().unwrap(), b"ab");
    assert_eq!(it.read(9).unwrap().unwrap(), b"");
    assert_eq!(it.stream.failure(), None);
    assert_eq!(it.drop_stream(), ["Consumed(2)"]);
}

#[test]
fn what_a_dropped_stream_did_not_read_makes_room_all_the_same() {
    let mut it = Loop::new();
    it.hand(b"abc");
    it.hand(b"de");
    assert_eq!(it.read(1).unwrap().unwrap(), b"a");
    assert_eq!(it.drop_stream(), ["Cancel", "Consumed(3)", "Consumed(2)"]);
}

#[test]
fn a_failure_is_seen_after_what_came_before_and_has_its_cause() {
    let mut it = Loop::new();
    it.hand(b"ab");
    let failure = Failure::Agent("the API is gone".into());
    it.ends.hand(ID, Piece::Failed(failure.clone()));
    assert_eq!(it.read(9).unwrap().unwrap(), b"ab");
    assert_eq!(it.stream.failure(), None);
    for _ in 0..2 {
        let error = it.read(9).unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the API is gone");
    }
    assert_eq!(it.stream.cause().get(), Some(failure));
    it.events();
    assert_eq!(it.drop_stream(), [""; 0]);
}

#[test]
fn a_write_that_fails_knows_the_cause_although_nobody_reads() {
    let mut it = Loop::new();
    it.hand(b"unread");
    assert!(it.stream.write(b"x").now_or_never().unwrap().is_ok());
    let failure = Failure::Shutdown;
    it.ends.hand(ID, Piece::Failed(failure.clone()));
    it.ends.forget(ID);
    assert!(it.stream.flush().now_or_never().unwrap().is_err());
    assert_eq!(it.stream.failure(), Some(failure));
    assert!(it.stream.write(b"x").now_or_never().unwrap().is_err());
    // The rest can still be read.
    assert_eq!(it.read(9).unwrap().unwrap(), b"unread");
    assert!(it.read(9).unwrap().is_err());
}

#[test]
fn a_stream_that_is_let_go_of_without_a_word_has_not_ended() {
    let mut it = Loop::new();
    it.hand(b"ab");
    it.ends.reset(ID);
    assert_eq!(it.read(9).unwrap().unwrap(), b"ab");
    assert!(it.read(9).unwrap().is_err());
    assert_eq!(it.stream.failure(), Some(Failure::Disconnected));
}

#[test]
fn parts_that_are_written_together_are_one_bounded_piece() {
    let mut it = Loop::new();
    let large = vec![1; PIECE];
    let write = |it: &mut Loop, parts: &[&[u8]]| {
        let parts: Vec<_> = parts.iter().map(|part| io::IoSlice::new(part)).collect();
        let mut stream = Pin::new(&mut it.stream);
        let written =
            std::future::poll_fn(|cx| Write::poll_write_vectored(stream.as_mut(), cx, &parts));
        written.now_or_never().unwrap().unwrap()
    };
    assert_eq!(write(&mut it, &[b"ab", b"", b"c"]), 3);
    let Ok((_, Event::Data(_, data))) = it.ends.incoming.try_recv() else {
        panic!("no piece")
    };
    assert_eq!(data, "abc");
    it.take();
    assert_eq!(write(&mut it, &[b"ab", &large, b"c"]), PIECE);
    assert_eq!(it.events(), [format!("Bytes {PIECE}")]);
    it.take();
    assert_eq!(write(&mut it, &[]), 0);
    assert!(it.events().is_empty());
}
