//! A value of any JSON type read as what is expected of it, or as nothing: serde's visitors, but
//! an unexpected type is no error (P-028, P-058).

use alloc::{borrow::Cow, collections::BTreeMap, string::String, vec::Vec};
use core::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// What becomes of each JSON type; by default nothing.
pub(super) trait Shape<'de>: Default {
    fn text(_: Cow<'de, str>) -> Self {
        Self::default()
    }

    fn number(_: f64) -> Self {
        Self::default()
    }

    fn boolean(_: bool) -> Self {
        Self::default()
    }

    fn seq<A: SeqAccess<'de>>(seq: A) -> Result<Self, A::Error> {
        drain_seq(seq).map(|()| Self::default())
    }

    fn map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        drain_map(map).map(|()| Self::default())
    }
}

pub(super) fn drain_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

pub(super) fn drain_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// The next value of a map.
pub(super) fn next<'de, T, A>(map: &mut A) -> Result<T, A::Error>
where
    T: Shape<'de>,
    A: MapAccess<'de>,
{
    map.next_value::<Of<T>>().map(|Of(value)| value)
}

/// Makes serde read a [`Shape`].
pub(super) struct Of<T>(pub(super) T);

impl<'de, T: Shape<'de>> Deserialize<'de> for Of<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(Reader(PhantomData)).map(Of)
    }
}

struct Reader<T>(PhantomData<T>);

impl<'de, T: Shape<'de>> Visitor<'de> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<T, E> {
        Ok(T::text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok(T::text(Cow::Owned(text.into())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<T, E> {
        Ok(T::number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<T, E> {
        Ok(T::number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<T, E> {
        Ok(T::number(number))
    }

    fn visit_bool<E>(self, value: bool) -> Result<T, E> {
        Ok(T::boolean(value))
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
        T::seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::map(map)
    }
}

impl<'de> Shape<'de> for Option<Cow<'de, str>> {
    fn text(text: Cow<'de, str>) -> Self {
        Some(text)
    }
}

impl<'de> Shape<'de> for Option<f64> {
    fn number(number: f64) -> Self {
        Some(number)
    }
}

impl<'de> Shape<'de> for bool {
    fn boolean(value: bool) -> Self {
        value
    }
}

impl<'de> Shape<'de> for Option<bool> {
    fn boolean(value: bool) -> Self {
        Some(value)
    }
}

/// Labels and facts that are read; nobody has as many, and each takes far more memory than bytes
/// of its message.
const MAX_PAIRS: usize = 1024;

/// A map of strings; other values are skipped, and those beyond [`MAX_PAIRS`].
impl<'de> Shape<'de> for BTreeMap<String, String> {
    fn map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut pairs = Self::new();
        while let Some(name) = map.next_key::<String>()? {
            let text: Option<Cow<'de, str>> = next(&mut map)?;
            if let Some(text) = text.filter(|_| pairs.len() < MAX_PAIRS) {
                pairs.insert(name, text.into_owned());
            }
        }
        Ok(pairs)
    }
}

/// Values of one header: a string, or an array of which the strings count.
#[derive(Default)]
pub(super) struct Values(Vec<String>);

impl<'de> Shape<'de> for Values {
    fn text(text: Cow<'de, str>) -> Self {
        Self(Vec::from([text.into_owned()]))
    }

    fn seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        let mut values = Vec::new();
        while let Some(Of(value)) = seq.next_element::<Of<Option<Cow<'de, str>>>>()? {
            // One too many is enough to tell.
            let value = value.filter(|_| values.len() <= Headers::MAX);
            values.extend(value.map(Cow::into_owned));
        }
        Ok(Self(values))
    }
}

/// Headers: an object; nothing for anything else.
#[derive(Default)]
pub(super) struct Headers {
    pub(super) pairs: Option<Vec<(String, String)>>,
    /// There were more than [`Headers::MAX`], which were not kept.
    pub(super) too_many: bool,
}

impl Headers {
    /// Names and values: counted while they are read, because each takes far more memory than
    /// bytes of its message.
    const MAX: usize = 4096;
}

impl<'de> Shape<'de> for Headers {
    fn map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        // The last of equal keys wins, as everywhere; the order of names has no meaning.
        let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut count = 0;
        while let Some(name) = map.next_key::<String>()? {
            let Values(values) = next(&mut map)?;
            count += values.len().max(1);
            if count > Self::MAX {
                drain_map(map)?;
                return Ok(Self {
                    pairs: None,
                    too_many: true,
                });
            }
            by_name.insert(name, values);
        }
        let pairs = by_name
            .into_iter()
            .flat_map(|(name, values)| values.into_iter().map(move |value| (name.clone(), value)));
        Ok(Self {
            pairs: Some(pairs.collect()),
            too_many: false,
        })
    }
}

/// A number or a text.
#[derive(Default)]
pub(super) struct Either<'a> {
    pub(super) number: Option<f64>,
    pub(super) text: Option<Cow<'a, str>>,
}

impl<'de> Shape<'de> for Either<'de> {
    fn text(text: Cow<'de, str>) -> Self {
        Self {
            text: Some(text),
            number: None,
        }
    }

    fn number(number: f64) -> Self {
        Self {
            number: Some(number),
            text: None,
        }
    }
}

/// Whether there is anything in it: a non-empty string or array.
#[derive(Default)]
pub(super) struct Present(pub(super) bool);

impl<'de> Shape<'de> for Present {
    fn text(text: Cow<'de, str>) -> Self {
        Self(!text.is_empty())
    }

    fn seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        let mut any = false;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            any = true;
        }
        Ok(Self(any))
    }
}

/// The numbers of an array, as many as a greeting may list.
#[derive(Default)]
pub(super) struct Numbers(pub(super) Vec<f64>);

impl Numbers {
    const MAX: usize = 64;
}

impl<'de> Shape<'de> for Numbers {
    fn seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        let mut numbers = Vec::new();
        while let Some(Of(number)) = seq.next_element::<Of<Option<f64>>>()? {
            numbers.extend(number.filter(|_| numbers.len() < Self::MAX));
        }
        Ok(Self(numbers))
    }
}
