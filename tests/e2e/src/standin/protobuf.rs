//! A reader for the protobuf bodies that kubectl posts: the envelope, and in it a ConfigMap, a
//! Namespace or the options of a delete. It gives the JSON form of the same object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use thiserror::Error;

/// What every protobuf body of Kubernetes begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Why a body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum ProtobufError {
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    Magic,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: illegal wire type or number out of range")]
    Malformed,
    #[error("proto: a string is not valid UTF-8")]
    Text,
    #[error("no decoder for that kind of object")]
    Kind,
}

type Result<T> = std::result::Result<T, ProtobufError>;

/// One field: its number and its value.
#[derive(Debug, Clone, Copy)]
struct Field<'a> {
    number: u64,
    value: Wire<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(ProtobufError::Truncated)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(ProtobufError::Malformed);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Malformed)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8]> {
        let length = usize::try_from(length).map_err(|_| ProtobufError::Truncated)?;
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(ProtobufError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<Field<'a>> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Bytes(self.take(4)?),
            _ => return Err(ProtobufError::Malformed),
        };
        Ok(Field {
            number: key >> 3,
            value,
        })
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    fn bytes(self) -> Result<&'a [u8]> {
        match self.value {
            Wire::Bytes(bytes) => Ok(bytes),
            Wire::Number(_) => Err(ProtobufError::Malformed),
        }
    }

    fn number(self) -> Result<u64> {
        match self.value {
            Wire::Number(number) => Ok(number),
            Wire::Bytes(_) => Err(ProtobufError::Malformed),
        }
    }

    fn text(self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| ProtobufError::Text)
    }

    /// The entry of a map: its key and its value.
    fn entry(self) -> Result<(&'a str, &'a [u8])> {
        let (mut key, mut value) = ("", &[][..]);
        for field in Reader(self.bytes()?) {
            let field = field?;
            match field.number {
                1 => key = field.text()?,
                2 => value = field.bytes()?,
                _ => {}
            }
        }
        Ok((key, value))
    }

    fn text_entry(self) -> Result<(String, Value)> {
        let (key, value) = self.entry()?;
        let value = std::str::from_utf8(value).map_err(|_| ProtobufError::Text)?;
        Ok((key.to_owned(), json!(value)))
    }
}

/// Reads a body: its envelope names the kind of the object inside.
pub(super) fn decode(body: &[u8]) -> Result<Value> {
    let (mut version, mut kind, mut raw) = ("", "", &[][..]);
    for field in Reader(body.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?) {
        let field = field?;
        match field.number {
            1 => (version, kind) = type_meta(field.bytes()?)?,
            2 => raw = field.bytes()?,
            _ => {}
        }
    }
    let mut object = match kind {
        "ConfigMap" => config_map(raw)?,
        "Namespace" => namespace(raw)?,
        "DeleteOptions" => delete_options(raw)?,
        _ => return Err(ProtobufError::Kind),
    };
    object.insert("apiVersion".to_owned(), json!(version));
    object.insert("kind".to_owned(), json!(kind));
    Ok(Value::Object(object))
}

fn type_meta(message: &[u8]) -> Result<(&str, &str)> {
    let (mut version, mut kind) = ("", "");
    for field in Reader(message) {
        let field = field?;
        match field.number {
            1 => version = field.text()?,
            2 => kind = field.text()?,
            _ => {}
        }
    }
    Ok((version, kind))
}

fn config_map(message: &[u8]) -> Result<Map<String, Value>> {
    let mut object = Map::new();
    let (mut data, mut binary) = (Map::new(), Map::new());
    for field in Reader(message) {
        let field = field?;
        match field.number {
            1 => drop(object.insert("metadata".to_owned(), metadata(field.bytes()?)?)),
            2 => data.extend([field.text_entry()?]),
            3 => {
                let (key, value) = field.entry()?;
                binary.insert(key.to_owned(), json!(STANDARD.encode(value)));
            }
            4 => drop(object.insert("immutable".to_owned(), json!(field.number()? != 0))),
            _ => {}
        }
    }
    insert_map(&mut object, "data", data);
    insert_map(&mut object, "binaryData", binary);
    Ok(object)
}

fn namespace(message: &[u8]) -> Result<Map<String, Value>> {
    let mut object = Map::new();
    for field in Reader(message) {
        let field = field?;
        if field.number == 1 {
            object.insert("metadata".to_owned(), metadata(field.bytes()?)?);
        }
    }
    Ok(object)
}

fn metadata(message: &[u8]) -> Result<Value> {
    let mut meta = Map::new();
    let (mut labels, mut annotations, mut finalizers) = (Map::new(), Map::new(), Vec::new());
    for field in Reader(message) {
        let field = field?;
        let name = match field.number {
            1 => "name",
            2 => "generateName",
            3 => "namespace",
            5 => "uid",
            6 => "resourceVersion",
            11 => {
                labels.extend([field.text_entry()?]);
                continue;
            }
            12 => {
                annotations.extend([field.text_entry()?]);
                continue;
            }
            14 => {
                finalizers.push(json!(field.text()?));
                continue;
            }
            _ => continue,
        };
        let text = field.text()?;
        if !text.is_empty() {
            meta.insert(name.to_owned(), json!(text));
        }
    }
    insert_map(&mut meta, "labels", labels);
    insert_map(&mut meta, "annotations", annotations);
    if !finalizers.is_empty() {
        meta.insert("finalizers".to_owned(), Value::Array(finalizers));
    }
    Ok(Value::Object(meta))
}

fn delete_options(message: &[u8]) -> Result<Map<String, Value>> {
    let mut object = Map::new();
    let mut dry_run = Vec::new();
    for field in Reader(message) {
        let field = field?;
        match field.number {
            2 => {
                let mut conditions = Map::new();
                for part in Reader(field.bytes()?) {
                    let part = part?;
                    let name = if part.number == 1 {
                        "uid"
                    } else {
                        "resourceVersion"
                    };
                    conditions.insert(name.to_owned(), json!(part.text()?));
                }
                insert_map(&mut object, "preconditions", conditions);
            }
            5 => dry_run.push(json!(field.text()?)),
            _ => {}
        }
    }
    object.insert("dryRun".to_owned(), Value::Array(dry_run));
    Ok(object)
}

fn insert_map(object: &mut Map<String, Value>, name: &str, map: Map<String, Value>) {
    if !map.is_empty() {
        object.insert(name.to_owned(), Value::Object(map));
    }
}

#[cfg(test)]
mod tests;
