//! What a server did on a connection of SPDY, freed of chance: how data was cut into frames, and in
//! which order several streams went on, or ended in a row.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use controlplane_e2e::standin::spdy::{Decoder, Encoder, Frame};

use super::facts::Progress;
use super::table::TABLE;
use super::transcript::{Event, Side, What};

/// All that was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Session {
    streams: BTreeMap<u32, Stream>,
    /// What is in order.
    course: Vec<Step>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Stream {
    replied: bool,
    data: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// That stream says how others ended.
    Report(u32),
    Fin(u32),
    Reset(u32, u32),
    GoAway(u32, u32),
    Other(String),
}

impl Session {
    /// Adds a frame. `errors` are the streams that say how others ended.
    pub(crate) fn add(&mut self, frame: &Frame, errors: &BTreeSet<u32>) {
        match frame {
            Frame::SynReply {
                stream,
                fin: false,
                headers,
            } if headers.is_empty() => self.streams.entry(*stream).or_default().replied = true,
            Frame::Data { stream, fin, data } => {
                let text = &mut self.streams.entry(*stream).or_default().data;
                let begins = text.is_empty() && !data.is_empty();
                text.extend(data);
                if begins && errors.contains(stream) {
                    self.step(Step::Report(*stream));
                }
                if *fin {
                    self.step(Step::Fin(*stream));
                }
            }
            Frame::RstStream { stream, status } => self.step(Step::Reset(*stream, *status)),
            Frame::GoAway {
                last_stream,
                status,
            } => self.step(Step::GoAway(*last_stream, *status)),
            other => self.step(Step::Other(format!("{other:?}"))),
        }
    }

    /// Which of several streams in a row ends first, is chance.
    fn step(&mut self, step: Step) {
        let kind = std::mem::discriminant(&step);
        let alike = |other: &Step| std::mem::discriminant(other) == kind;
        let row = self.course.iter().rev().take_while(|step| alike(step));
        let row = self.course.len() - row.count();
        self.course.push(step);
        self.course[row..].sort();
    }

    /// Replaces what the streams carried.
    pub(crate) fn substitute(&mut self, with: impl Fn(&str) -> String) {
        for stream in self.streams.values_mut() {
            stream.data = with(&String::from_utf8_lossy(&stream.data)).into_bytes();
        }
    }

    /// How far another one has got compared to this.
    pub(crate) fn progress(&self, other: &Self) -> Progress {
        for (number, wanted) in &self.streams {
            let Some(have) = other.streams.get(number) else {
                return Progress::Behind;
            };
            if wanted.replied && !have.replied || have.data.len() < wanted.data.len() {
                return Progress::Behind;
            }
            if !have.data.starts_with(&wanted.data) {
                return Progress::Differs(0);
            }
        }
        match self.course.iter().all(|step| other.course.contains(step)) {
            true => Progress::There,
            false => Progress::Behind,
        }
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SPDY")?;
        for (number, Stream { replied, data }) in &self.streams {
            let taken = if *replied { "taken" } else { "not taken" };
            let text = String::from_utf8_lossy(data);
            write!(f, ", stream {number} {taken} {text:?}")?;
        }
        write!(f, ", then {:?}", self.course)
    }
}

/// The frames that came from one side, as the recorder understood them, and their bytes: those of
/// the connection, or of the messages.
fn frames_and_bytes(events: &[Event], connection: u64, side: Side) -> (Vec<Frame>, Vec<Vec<u8>>) {
    let (mut frames, mut pieces) = (Vec::new(), Vec::new());
    let of_it = |event: &&Event| event.connection == connection && event.side == side;
    for event in events.iter().filter(of_it) {
        match &event.what {
            What::Spdy(frame, bytes) => {
                frames.push(frame.clone());
                pieces.push(bytes.clone());
            }
            What::Carried(frame) => frames.push(frame.clone()),
            What::Frame(frame) if frame.opcode == 2 => pieces.push(frame.payload.clone()),
            _ => {}
        }
    }
    (frames, pieces)
}

/// The frames in bytes, their headers in order of the names.
fn decoded(pieces: &[Vec<u8>]) -> Vec<Frame> {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(mut frame) = decoder.next_frame().unwrap() {
            if let Frame::SynStream { headers, .. } = &mut frame {
                headers.sort();
            }
            frames.push(frame);
        }
    }
    assert_eq!(decoder.pending(), 0, "half a frame is left");
    frames
}

#[test]
fn the_recordings_decode_to_their_frames() {
    let mut checked = BTreeMap::new();
    for recording in TABLE {
        let events = super::events(recording).unwrap();
        let connections: BTreeSet<_> = events.iter().map(|event| event.connection).collect();
        for connection in connections {
            for side in [Side::Client, Side::Server] {
                let (frames, pieces) = frames_and_bytes(&events, connection, side);
                if frames.is_empty() {
                    continue;
                }
                assert_eq!(decoded(&pieces), frames, "{}", recording.name);
                // The same, once it was written by the other half of the code.
                let mut encoder = Encoder::new().unwrap();
                let mut bytes = Vec::new();
                for frame in &frames {
                    encoder.encode(frame, &mut bytes).unwrap();
                }
                assert_eq!(decoded(&[bytes]), frames, "{}", recording.name);
                *checked.entry(recording.name).or_insert(0) += frames.len();
            }
        }
    }
    let expected = [
        ("exec-spdy", 20),
        ("port-forward", 22),
        ("port-forward-closed", 11),
        ("port-forward-idle", 13),
        ("port-forward-spdy", 12),
    ];
    assert_eq!(checked, BTreeMap::from(expected));
}
