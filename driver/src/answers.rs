//! How the requests of the fast mode were answered: of those the machines see nothing but bytes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use controlplane_core::{CodeClass, Stats};

/// Counters, one for each [`CodeClass`].
#[derive(Debug, Default)]
pub(crate) struct Answers([AtomicU64; CodeClass::COUNT]);

impl Answers {
    /// For a request that has come, or is sent.
    pub(crate) fn awaited(self: &Arc<Self>) -> Awaited {
        Awaited(Some(self.clone()))
    }

    /// What the machine counted, and this.
    pub(crate) fn add_to(&self, mut stats: Stats) -> Stats {
        for class in CodeClass::ALL {
            let more = self.0.get(class as usize);
            let more = more.map_or(0, |count| count.load(Ordering::Relaxed));
            class.add(&mut stats.answers, more);
        }
        stats
    }
}

/// The answer to a request. Dropped before it came, there was none.
#[derive(Debug)]
pub(crate) struct Awaited(Option<Arc<Answers>>);

impl Awaited {
    /// It came with this status.
    pub(crate) fn came(&mut self, status: u16) {
        self.count(CodeClass::of_status(status));
    }

    fn count(&mut self, class: CodeClass) {
        let answers = self.0.take();
        if let Some(count) = answers.as_ref().and_then(|a| a.0.get(class as usize)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.count(CodeClass::None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_counted_once_answered_or_not() {
        let answers = Arc::new(Answers::default());
        let mut awaited = answers.awaited();
        awaited.came(404);
        awaited.came(200);
        drop(awaited);
        drop(answers.awaited());
        let mut stats = Stats::default();
        CodeClass::ClientError.count(&mut stats.answers);
        assert_eq!(answers.add_to(stats).answers, [0, 0, 0, 2, 0, 1]);
    }
}
