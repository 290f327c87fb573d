//! The calm after a hostile schedule: everything must arrive, and nothing may remain.

use std::time::Duration;

use super::Pair;

impl Pair {
    /// From now on everybody does what he should, until nothing is left to do.
    pub fn calm(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "no end");
            let mut busy = false;
            for side in [0, 1] {
                while self.write(side) {
                    busy = true;
                }
                busy |= !self.ends[side].pipe.is_empty();
                self.deliver(side, usize::MAX);
                self.now = self.now + Duration::from_millis(1);
                for side in [0, 1] {
                    busy |= self.attend(side);
                }
                self.check();
            }
            if !busy {
                break;
            }
        }
        for side in [0, 1] {
            let ids: Vec<u32> = self.ends[side].flows.keys().copied().collect();
            for id in ids {
                self.delivered(side, id);
            }
        }
    }

    /// Listens, accepts and consumes.
    fn attend(&mut self, side: usize) -> bool {
        let mut busy = false;
        while self.listen(side) {
            busy = true;
        }
        let ids: Vec<u32> = self.ends[side].flows.keys().copied().collect();
        for id in ids {
            if self.flow(side, id).is_open() {
                self.accept(side, id);
                self.consume(side, id, usize::MAX);
            }
        }
        while self.listen(side) {
            busy = true;
        }
        busy
    }

    fn delivered(&self, side: usize, id: u32) {
        let (ours, theirs) = (
            &self.ends[side].flows[&id],
            self.ends[1 - side].flows.get(&id),
        );
        let Some(theirs) = theirs else {
            assert!(ours.broken, "{id} never reached the other end");
            return;
        };
        // One end may be done with a stream that the other gives up after that.
        let same = ours.broken == theirs.broken || ours.over || theirs.over;
        assert!(same, "{id} broke for one end");
        if !ours.broken && !theirs.broken {
            assert_eq!(
                ours.sent, theirs.received,
                "{id} lost data: {ours:?} {theirs:?}"
            );
            assert_eq!(ours.finished, theirs.peer_finished, "{id} lost its end");
            assert_eq!(ours.refused, None, "{id} waits for ever");
        }
    }

    /// Both ends finish everything; nothing may remain.
    pub fn close(&mut self) {
        for side in [0, 1] {
            let ids: Vec<u32> = self.ends[side].flows.keys().copied().collect();
            for id in ids {
                if self.flow(side, id).is_open() && !self.flow(side, id).finished {
                    self.finish(side, id);
                }
            }
        }
        self.calm();
        for side in [0, 1] {
            let (asked, answered) = (
                &self.ends[side].heard.pings[0],
                &self.ends[1 - side].heard.pings[1],
            );
            assert!(
                !asked.is_empty() && asked == answered,
                "{asked:?} {answered:?}"
            );
        }
        for end in &self.ends {
            assert!(
                end.flows.values().all(|flow| !flow.is_open()),
                "a stream is left"
            );
            let held = (end.session.held_in(), end.session.held_out());
            assert_eq!((end.session.streams(), held), (0, (0, 0)));
            assert!(!end.session.is_over() && !end.session.wants_transmit());
            let refused = end.flows.values().filter(|flow| flow.broken).count() as u64;
            assert!(end.session.stats().resets <= refused + end.session.stats().opened);
        }
    }
}
