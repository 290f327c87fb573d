//! The log of a pod: a bounded buffer of lines that any number of readers can follow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::body::BodyError;
use super::clock;
use super::failure::Failure;
use super::query::Query;

/// The lines of one pod.
#[derive(Debug)]
pub(super) struct Log {
    lines: Mutex<Lines>,
    /// Counts the pushes, and the end, to wake those who follow.
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<Line>,
    /// How many lines are no longer kept.
    dropped: u64,
    limit: usize,
    ended: bool,
}

#[derive(Debug, Clone)]
struct Line {
    written: Duration,
    /// With the line feed.
    text: Bytes,
}

/// What a reader asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct LogOptions {
    follow: bool,
    timestamps: bool,
    tail: Option<u64>,
    limit: Option<u64>,
}

impl LogOptions {
    /// From the query of the request.
    pub(super) fn parse(query: &Query) -> Result<Self, Failure> {
        Ok(Self {
            follow: query.flag("follow"),
            timestamps: query.flag("timestamps"),
            tail: query.number("tailLines")?,
            limit: query.number("limitBytes")?,
        })
    }

    /// What is added from now on.
    pub(super) fn new_lines() -> Self {
        Self {
            follow: true,
            tail: Some(0),
            ..Self::default()
        }
    }
}

impl Log {
    /// An empty log that keeps up to `limit` lines.
    pub(super) fn new(limit: usize) -> Self {
        let lines = Lines {
            limit: limit.max(1),
            ..Lines::default()
        };
        Self {
            lines: Mutex::new(lines),
            news: watch::Sender::new(0),
        }
    }

    /// Adds a line.
    pub(super) fn push(&self, text: &str) {
        let mut lines = self.lock();
        if lines.kept.len() == lines.limit {
            lines.kept.pop_front();
            lines.dropped += 1;
        }
        let text = Bytes::from(format!("{text}\n"));
        lines.kept.push_back(Line {
            written: clock::now(),
            text,
        });
        drop(lines);
        self.news.send_modify(|count| *count += 1);
    }

    /// Ends it: who follows gets the rest and then the end.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.news.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader of a log.
#[derive(Debug)]
pub(super) struct LogReader {
    log: Arc<Log>,
    news: watch::Receiver<u64>,
    options: LogOptions,
    /// The number of the next line.
    next: u64,
    /// Without following, the number of the line to end before.
    end: Option<u64>,
}

impl LogReader {
    /// Begins to read.
    pub(super) fn new(log: Arc<Log>, options: LogOptions) -> Self {
        let news = log.news.subscribe();
        let lines = log.lock();
        let count = lines.dropped + lines.kept.len() as u64;
        let first = options.tail.map_or(0, |tail| count.saturating_sub(tail));
        let next = first.max(lines.dropped);
        let end = (!options.follow).then_some(count);
        drop(lines);
        Self {
            log,
            news,
            options,
            next,
            end,
        }
    }

    /// The next chunk: one line for a follower, as the real one sends it; all there is otherwise.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        loop {
            if self.options.limit == Some(0) {
                return None;
            }
            match self.ready() {
                Ready::Chunk(chunk) => return Some(Ok(self.cut(chunk))),
                Ready::Lost => return Some(Err(BodyError::LogOverrun)),
                Ready::End => return None,
                Ready::Wait => self.news.changed().await.ok()?,
            }
        }
    }

    fn ready(&mut self) -> Ready {
        self.news.mark_unchanged();
        let lines = self.log.lock();
        let end = self.end.unwrap_or(u64::MAX);
        if self.next >= end {
            return Ready::End;
        }
        let Some(index) = self.next.checked_sub(lines.dropped) else {
            return Ready::Lost;
        };
        let at_once = if self.options.follow { 1 } else { usize::MAX };
        let index = usize::try_from(index)
            .unwrap_or(usize::MAX)
            .min(lines.kept.len());
        let mut chunk = Vec::new();
        for line in lines.kept.range(index..).take(at_once) {
            if self.next == end {
                break;
            }
            if self.options.timestamps {
                chunk.extend_from_slice(clock::rfc3339_nano(line.written).as_bytes());
                chunk.push(b' ');
            }
            chunk.extend_from_slice(&line.text);
            self.next += 1;
        }
        match chunk.is_empty() {
            false => Ready::Chunk(chunk.into()),
            true if lines.ended => Ready::End,
            true => Ready::Wait,
        }
    }

    /// Obeys `limitBytes`.
    fn cut(&mut self, mut chunk: Bytes) -> Bytes {
        if let Some(limit) = &mut self.options.limit {
            chunk.truncate(usize::try_from(*limit).unwrap_or(usize::MAX));
            *limit -= chunk.len() as u64;
        }
        chunk
    }
}

enum Ready {
    Chunk(Bytes),
    /// The next line is no longer kept.
    Lost,
    End,
    Wait,
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn log(lines: &[&str]) -> Arc<Log> {
        let log = Log::new(3);
        lines.iter().for_each(|line| log.push(line));
        Arc::new(log)
    }

    fn read(log: &Arc<Log>, query: &str) -> LogReader {
        LogReader::new(
            Arc::clone(log),
            LogOptions::parse(&Query::parse(query)).unwrap(),
        )
    }

    fn text(reader: &mut LogReader) -> Option<String> {
        let chunk = reader.next().now_or_never().expect("a chunk or the end")?;
        Some(String::from_utf8(chunk.unwrap().to_vec()).unwrap())
    }

    #[test]
    fn reads_what_is_there() {
        let log = log(&["a", "b", "c", "d"]);
        let mut all = read(&log, "");
        assert_eq!(text(&mut all).as_deref(), Some("b\nc\nd\n"));
        assert_eq!(text(&mut all), None);
        assert_eq!(text(&mut read(&log, "tailLines=1")).as_deref(), Some("d\n"));
        assert_eq!(text(&mut read(&log, "tailLines=0")), None);
        assert_eq!(
            text(&mut read(&log, "limitBytes=3")).as_deref(),
            Some("b\nc")
        );
        assert!(
            text(&mut read(&log, "timestamps=true"))
                .unwrap()
                .contains("Z b\n")
        );
    }

    #[test]
    fn follows_line_by_line() {
        let log = log(&["a", "b"]);
        let mut reader = read(&log, "follow=true&limitBytes=7");
        assert_eq!(text(&mut reader).as_deref(), Some("a\n"));
        assert_eq!(text(&mut reader).as_deref(), Some("b\n"));
        assert!(reader.next().now_or_never().is_none());
        log.push("c");
        assert_eq!(text(&mut reader).as_deref(), Some("c\n"));
        log.push("dd");
        assert_eq!(text(&mut reader).as_deref(), Some("d"));
        assert_eq!(text(&mut reader), None);

        let mut reader = read(&log, "follow=true&tailLines=0");
        assert!(reader.next().now_or_never().is_none());
        log.push("last");
        log.end();
        assert_eq!(text(&mut reader).as_deref(), Some("last\n"));
        assert_eq!(text(&mut reader), None);
    }

    #[test]
    fn tells_a_reader_that_fell_behind() {
        let log = log(&["a"]);
        let mut reader = read(&log, "follow=true");
        ["b", "c", "d"].iter().for_each(|line| log.push(line));
        assert!(matches!(
            reader.next().now_or_never(),
            Some(Some(Err(BodyError::LogOverrun)))
        ));
    }
}
