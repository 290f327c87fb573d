//! The requests that have come, for tests to look at.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::request::Parts;

/// How many requests are kept.
const LIMIT: usize = 4096;

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedRequest {
    /// `GET` and so on.
    pub method: String,
    /// The path with the query, as sent.
    pub path: String,
    /// The header fields in order, the names in lower case.
    pub headers: Vec<(String, String)>,
    /// How many bytes of the body have been read by now.
    pub body_len: u64,
}

impl RecordedRequest {
    /// The first value of a header field; the name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// The latest requests.
#[derive(Debug, Default)]
pub(super) struct Record(Mutex<VecDeque<(RecordedRequest, Arc<AtomicU64>)>>);

impl Record {
    /// Notes a request. The counter that it returns is to count the bytes of the body.
    pub(super) fn note(&self, head: &Parts) -> Arc<AtomicU64> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = head.headers.iter();
        let request = RecordedRequest {
            method: head.method.to_string(),
            path: head
                .uri
                .path_and_query()
                .map_or_else(String::new, ToString::to_string),
            headers: headers
                .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
                .collect(),
            body_len: 0,
        };
        let counter = Arc::new(AtomicU64::new(0));
        let mut requests = self.lock();
        if requests.len() == LIMIT {
            requests.pop_front();
        }
        requests.push_back((request, Arc::clone(&counter)));
        counter
    }

    /// The requests so far, oldest first.
    pub(super) fn all(&self) -> Vec<RecordedRequest> {
        let requests = self.lock();
        let now = requests.iter().map(|(request, counter)| RecordedRequest {
            body_len: counter.load(Ordering::Relaxed),
            ..request.clone()
        });
        now.collect()
    }

    /// Forgets them.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(RecordedRequest, Arc<AtomicU64>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
