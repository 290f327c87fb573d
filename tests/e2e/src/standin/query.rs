//! The query of a request, and the selectors in it.

use std::borrow::Cow;

use serde_json::Value;

use super::failure::Failure;

/// The decoded pairs, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a query apart; `+` is a space.
    pub(super) fn parse(text: &str) -> Self {
        let decode = |part: &str| decode(&part.replace('+', " ")).into_owned();
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(
            pairs
                .map(|(name, value)| (decode(name), decode(value)))
                .collect(),
        )
    }

    /// The first value of that name, unless it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// All values of that name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.0.iter().filter(move |(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether the value is a true one.
    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    /// The value as a number that is not negative.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let wrong = |_| Failure::bad_request(format!("invalid value for {name}: \"{value}\""));
        value.parse().map(Some).map_err(wrong)
    }

    /// Whether nothing shall be kept (`dryRun=All`).
    pub(super) fn dry_run(&self) -> Result<bool, Failure> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(Failure::bad_request(format!(
                "dryRun: Unsupported value: \"{other}\": supported values: \"All\""
            ))),
        }
    }
}

/// Undoes percent encoding. What is no valid escape or not UTF-8 stays as near as it can.
pub(super) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = if byte == b'%' {
            hex_pair(bytes.get(at + 1..at + 3))
        } else {
            None
        };
        out.push(escaped.unwrap_or(byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn hex_pair(digits: Option<&[u8]>) -> Option<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    match digits {
        Some(&[high, low]) => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    }
}

/// Which objects a list, a watch or a delete is about.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector(Vec<Term>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Label { key: String, test: Test },
    Field { path: String, test: Test },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Is(String),
    IsNot(String),
    Exists,
    Missing,
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector`. Sets (`in`, `notin`) are not offered.
    pub(super) fn parse(query: &Query) -> Result<Self, Failure> {
        let mut terms = Vec::new();
        for part in parts(query.get("labelSelector")) {
            let (key, test) = label_term(part)?;
            terms.push(Term::Label { key, test });
        }
        for part in parts(query.get("fieldSelector")) {
            let wrong = || Failure::bad_request(format!("invalid field selector: \"{part}\""));
            let (path, test) = comparison(part).ok_or_else(wrong)?;
            if !matches!(
                path.as_str(),
                "metadata.name" | "metadata.namespace" | "status.phase"
            ) {
                let why = format!("field label not supported: {path}");
                return Err(Failure::bad_request(why));
            }
            terms.push(Term::Field { path, test });
        }
        Ok(Self(terms))
    }

    /// Whether the object is one of those.
    pub(super) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|term| match term {
            Term::Label { key, test } => test.holds(object["metadata"]["labels"].get(key)),
            Term::Field { path, test } => {
                test.holds(object.pointer(&format!("/{}", path.replace('.', "/"))))
            }
        })
    }
}

impl Test {
    fn holds(&self, value: Option<&Value>) -> bool {
        let value = value.and_then(Value::as_str);
        match self {
            Self::Is(wanted) => {
                value.unwrap_or_default() == wanted && (value.is_some() || wanted.is_empty())
            }
            Self::IsNot(unwanted) => value != Some(unwanted),
            Self::Exists => value.is_some(),
            Self::Missing => value.is_none(),
        }
    }
}

fn parts(selector: Option<&str>) -> impl Iterator<Item = &str> {
    selector
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

fn label_term(part: &str) -> Result<(String, Test), Failure> {
    if part.contains(['(', ')', ' ']) {
        let why =
            format!("unable to parse requirement: \"{part}\" is not offered by this stand-in");
        return Err(Failure::bad_request(why));
    }
    Ok(
        comparison(part).unwrap_or_else(|| match part.strip_prefix('!') {
            Some(key) => (key.to_owned(), Test::Missing),
            None => (part.to_owned(), Test::Exists),
        }),
    )
}

fn comparison(part: &str) -> Option<(String, Test)> {
    if let Some((key, value)) = part.split_once("!=") {
        return Some((key.to_owned(), Test::IsNot(value.to_owned())));
    }
    let (key, value) = part.split_once("==").or_else(|| part.split_once('='))?;
    Some((key.to_owned(), Test::Is(value.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn decodes_pairs() {
        let query = Query::parse("a=x%2Fy+z&watch=true&empty=&a=second&n=12&bad=%zz");
        assert_eq!(query.get("a"), Some("x/y z"));
        assert!(query.flag("watch"));
        assert_eq!(query.get("empty"), None);
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["x/y z", "second"]);
        assert_eq!(query.number("n").unwrap(), Some(12));
        assert!(query.number("a").is_err());
        assert_eq!(query.get("bad"), Some("%zz"));
        assert!(Query::parse("dryRun=All").dry_run().unwrap());
        assert!(Query::parse("dryRun=Some").dry_run().is_err());
    }

    #[test]
    fn selects() {
        let pod = json!({"metadata": {"name": "web-0", "labels": {"app": "web"}}});
        let check = |text: &str| {
            Selector::parse(&Query::parse(text))
                .map(|selector| selector.matches(&pod))
                .unwrap()
        };
        assert!(check(""));
        assert!(check("fieldSelector=metadata.name%3Dweb-0"));
        assert!(!check("fieldSelector=metadata.name!%3Dweb-0"));
        assert!(check("labelSelector=app%3D%3Dweb,!tier,app"));
        assert!(!check("labelSelector=tier"));
        assert!(check("labelSelector=tier!%3Dx"));
        assert!(Selector::parse(&Query::parse("labelSelector=app+in+(a)")).is_err());
        assert!(Selector::parse(&Query::parse("fieldSelector=spec.nodeName%3Da")).is_err());
    }
}
