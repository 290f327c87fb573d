//! Reads a message in one pass, borrowing from the frame, and tolerates what the original
//! tolerates (P-025): a field of an unexpected type counts as absent, the last of equal keys wins,
//! unknown fields and `timestamp` (P-160) are skipped.

mod fields;
mod mend;
mod part;
mod shape;

use alloc::{borrow::Cow, string::String, vec::Vec};

use serde::de::{Deserialize as _, IgnoredAny, MapAccess, SeqAccess};

use self::shape::{Headers, Of, Shape, drain_map, drain_seq, next};
pub(crate) use self::{
    fields::{Body, Fields, YamuxConfig},
    part::{Part, part},
};
use crate::{error::PeerFault, notices::clip};

/// One message.
#[derive(Debug, Default)]
pub(crate) struct Envelope<'a> {
    pub(crate) kind: Cow<'a, str>,
    /// `None` where absent, `null` or empty.
    pub(crate) id: Option<Cow<'a, str>>,
    pub(crate) payload: Option<Fields<'a>>,
    /// The message costs itself, but what it names was read.
    pub(crate) fault: Option<PeerFault>,
}

/// Reads a message. What is no Unicode is first mended in `spare`, and of what cannot be read even
/// then the type and the id are told, as far as they can be.
///
/// # Errors
///
/// [`PeerFault::Malformed`]: not a JSON object, so that not even an id can be told.
pub(crate) fn decode<'a>(
    frame: &'a [u8],
    spare: &'a mut Vec<u8>,
) -> Result<Envelope<'a>, PeerFault> {
    let fault = match read(frame) {
        Ok(envelope) => return Ok(envelope),
        Err(fault) => fault,
    };
    let Some(mended) = mend::mend(frame) else {
        return mend::names(frame).ok_or(fault);
    };
    *spare = mended;
    read(spare).or_else(|fault| mend::names(spare).ok_or(fault))
}

/// Reads a message in one pass.
pub(super) fn read(frame: &[u8]) -> Result<Envelope<'_>, PeerFault> {
    let mut input = serde_json::Deserializer::from_slice(frame);
    let Of(Outer(envelope)) = Of::deserialize(&mut input).map_err(|_| PeerFault::Malformed)?;
    let mut envelope = envelope.ok_or(PeerFault::Malformed)?;
    if input.end().is_err() {
        envelope.fault = Some(PeerFault::Malformed);
    }
    Ok(envelope)
}

#[derive(Default)]
struct Outer<'a>(Option<Envelope<'a>>);

impl<'de> Shape<'de> for Outer<'de> {
    fn map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut envelope = Envelope::default();
        fill(&mut envelope, &mut map, true)?;
        Ok(Self(Some(envelope)))
    }
}

/// Reads the fields of a message one by one, its payload only where that is wanted: after an error
/// those before it are there.
fn fill<'de, A: MapAccess<'de>>(
    envelope: &mut Envelope<'de>,
    map: &mut A,
    with_payload: bool,
) -> Result<(), A::Error> {
    let mut id_fault = None;
    let mut payload_fault = None;
    while let Some(Of(key)) = map.next_key::<Of<Option<Cow<'de, str>>>>()? {
        let key: Cow<'de, str> = key.unwrap_or_default();
        if key.eq_ignore_ascii_case("type") {
            envelope.kind = next::<Option<Cow<'de, str>>, A>(map)?.unwrap_or_default();
        } else if key.eq_ignore_ascii_case("request_id") {
            let id: Id<'de> = next(map)?;
            id_fault = id.wrong.then_some(PeerFault::Malformed);
            envelope.id = id.text.filter(|id| !id.is_empty());
        } else if with_payload && key.eq_ignore_ascii_case("payload") {
            let payload: Payload<'de> = next(map)?;
            payload_fault = payload.fault;
            envelope.payload = payload.fields;
        } else {
            map.next_value::<IgnoredAny>()?;
        }
    }
    envelope.fault = id_fault.or(payload_fault);
    Ok(())
}

/// A string or `null`; anything else is wrong.
#[derive(Default)]
struct Id<'a> {
    text: Option<Cow<'a, str>>,
    wrong: bool,
}

impl<'de> Id<'de> {
    const WRONG: Self = Self {
        text: None,
        wrong: true,
    };
}

impl<'de> Shape<'de> for Id<'de> {
    fn text(text: Cow<'de, str>) -> Self {
        Self {
            text: Some(text),
            wrong: false,
        }
    }

    fn number(_: f64) -> Self {
        Self::WRONG
    }

    fn boolean(_: bool) -> Self {
        Self::WRONG
    }

    fn seq<A: SeqAccess<'de>>(seq: A) -> Result<Self, A::Error> {
        drain_seq(seq).map(|()| Self::WRONG)
    }

    fn map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        drain_map(map).map(|()| Self::WRONG)
    }
}

/// An object or `null`; anything else is wrong.
#[derive(Default)]
struct Payload<'a> {
    fields: Option<Fields<'a>>,
    fault: Option<PeerFault>,
}

impl Payload<'_> {
    const WRONG: Self = Self {
        fields: None,
        fault: Some(PeerFault::Malformed),
    };
}

impl<'de> Shape<'de> for Payload<'de> {
    fn text(_: Cow<'de, str>) -> Self {
        Self::WRONG
    }

    fn number(_: f64) -> Self {
        Self::WRONG
    }

    fn boolean(_: bool) -> Self {
        Self::WRONG
    }

    fn seq<A: SeqAccess<'de>>(seq: A) -> Result<Self, A::Error> {
        drain_seq(seq).map(|()| Self::WRONG)
    }

    fn map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        let fields = Fields::read(map)?;
        Ok(Self {
            fault: fields.too_many_headers.then_some(PeerFault::HeadTooLong),
            fields: Some(fields),
        })
    }
}

/// Headers that stand alone (P-039): an object, or `null` for none.
pub(crate) fn headers(json: &[u8]) -> Option<Vec<(String, String)>> {
    let mut input = serde_json::Deserializer::from_slice(json);
    let Of(headers) = Of::<Headers>::deserialize(&mut input).ok()?;
    input.end().ok()?;
    let pairs = headers.pairs;
    pairs.or((json.trim_ascii() == b"null").then(Vec::new))
}

/// `message` of a JSON document such as a `Status`, at most 256 bytes of it.
pub(crate) fn message(document: &[u8]) -> Option<String> {
    let mut input = serde_json::Deserializer::from_slice(document);
    let Of(MessageOf(text)) = Of::deserialize(&mut input).ok()?;
    text.filter(|text| !text.is_empty()).map(|text| clip(&text))
}

#[derive(Default)]
struct MessageOf<'a>(Option<Cow<'a, str>>);

impl<'de> Shape<'de> for MessageOf<'de> {
    fn map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut found = None;
        while let Some(Of(key)) = map.next_key::<Of<Option<Cow<'de, str>>>>()? {
            if key.as_deref() == Some("message") {
                found = next(&mut map)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Self(found))
    }
}

/// A string that is `text` as JSON.
fn unquote(text: &str) -> Option<Cow<'_, str>> {
    let mut input = serde_json::Deserializer::from_str(text);
    let Of(text) = Of::<Option<Cow<'_, str>>>::deserialize(&mut input).ok()?;
    text
}

/// Owned text of a field, empty where absent.
fn owned(text: Option<Cow<'_, str>>) -> String {
    text.unwrap_or_default().into_owned()
}
