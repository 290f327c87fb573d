//! Reads the files, and refuses what would test nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    Era, Role, Step, Vector, matching,
    step::{End, How, Piece},
};

/// A vector and where it stands.
#[derive(Debug)]
pub struct Line {
    /// Name of its file.
    pub file: String,
    /// Number of its line.
    pub number: usize,
    /// Its text.
    pub text: String,
    /// What it says.
    pub vector: Vector,
}

/// The directory of this project's vectors.
#[must_use]
pub fn own() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// All vectors of a directory.
///
/// # Errors
///
/// Each file and line that is none.
pub fn directory(path: &Path) -> Result<Vec<Line>, Vec<String>> {
    let (mut lines, mut errors) = (Vec::new(), Vec::new());
    let entries = fs::read_dir(path).map_err(|e| vec![format!("{}: {e}", path.display())])?;
    let mut files: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.sort();
    for file in files {
        if file.extension().is_none_or(|e| e != "jsonl") {
            continue;
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        match fs::read_to_string(&file) {
            Ok(text) => match self::file(&name, &text) {
                Ok(more) => lines.extend(more),
                Err(more) => errors.extend(more),
            },
            Err(error) => errors.push(format!("{name}: {error}")),
        }
    }
    if errors.is_empty() {
        Ok(lines)
    } else {
        Err(errors)
    }
}

/// The vectors of one file.
///
/// # Errors
///
/// Each line that is none, and a file without any.
pub fn file(name: &str, text: &str) -> Result<Vec<Line>, Vec<String>> {
    let (mut lines, mut errors) = (Vec::new(), Vec::new());
    for (i, text) in text.lines().enumerate() {
        let number = i + 1;
        match vector(text) {
            Ok(vector) => lines.push(Line {
                file: name.into(),
                number,
                text: text.into(),
                vector,
            }),
            Err(error) => errors.push(format!("{name}:{number}: {error}")),
        }
    }
    if lines.is_empty() && errors.is_empty() {
        errors.push(format!("{name}: no vectors"));
    }
    if errors.is_empty() {
        Ok(lines)
    } else {
        Err(errors)
    }
}

/// One vector.
///
/// # Errors
///
/// An unknown key or matcher, an expectation that expects nothing.
pub fn vector(text: &str) -> Result<Vector, String> {
    let vector: Vector = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let numbered = |p: &String| p.strip_prefix("P-").is_some_and(|n| n.len() == 3);
    if vector.p.is_empty() || !vector.p.iter().all(numbered) {
        return Err("it names no statement".into());
    }
    if vector.title.is_empty() {
        return Err("it has no title".into());
    }
    if vector.role.converses() {
        if !vector.steps.iter().any(Step::expects) || !vector.cases.is_empty() {
            return Err("a conversation needs steps that expect something, and no cases".into());
        }
        if vector.era.is_none() {
            return Err("a conversation needs an era".into());
        }
        for (i, step) in vector.steps.iter().enumerate() {
            check(step).map_err(|e| format!("step {}: {e}", i + 1))?;
        }
    } else {
        if vector.cases.is_empty() || !vector.steps.is_empty() {
            return Err("a function needs cases, and no steps".into());
        }
        if vector.cases.iter().any(|c| c.out.is_some() == c.refused) {
            return Err("a case is either refused or has an output".into());
        }
    }
    Ok(vector)
}

/// What the tester says so that the agent is registered, with `${register}` in it; `role` is that of
/// the subject.
///
/// # Errors
///
/// There is no such text in `eras.json`.
pub fn greeting(role: Role, era: Era) -> Result<String, String> {
    let file = own().join("eras.json");
    let text = fs::read_to_string(&file).map_err(|e| format!("eras.json: {e}"))?;
    let eras: Value = serde_json::from_str(&text).map_err(|e| format!("eras.json: {e}"))?;
    let era = match era {
        Era::Seed => "seed",
        Era::Later => "later",
        Era::Ours => "ours",
    };
    let role = match role {
        Role::Controller => "controller",
        _ => "agent",
    };
    let message = &eras[role][era];
    match message.is_object() {
        true => Ok(message.to_string()),
        false => Err(format!("eras.json: nothing for {role} and {era}")),
    }
}

fn check(step: &Step) -> Result<(), String> {
    match step {
        Step::Expect(pattern) => names_type(pattern),
        Step::ExpectPieces(pieces) if pieces.bytes.0.is_empty() => {
            Err("an empty expectation: no bytes".into())
        }
        Step::ExpectPieces(pieces) => names_type(&pieces.message),
        Step::ExpectFrame(frame) => matching::check(&frame.headers),
        Step::ExpectRequest(request) => request.headers.values().try_for_each(matching::check),
        Step::ExpectUpgrade(upgrade) => upgrade.headers.values().try_for_each(matching::check),
        Step::ExpectClientHead(head) => head.headers.values().try_for_each(matching::check),
        Step::Quiet(false) | Step::Drop(false) => Err("only true means something".into()),
        Step::ExpectUpstreamGets(piece) | Step::ExpectClientGets(piece) => {
            let empty = piece.bytes.as_ref().is_some_and(|data| data.0.is_empty());
            match empty {
                true => Err("an empty expectation: no bytes".into()),
                false => one_kind(piece),
            }
        }
        Step::UpstreamSends(piece) | Step::ClientSends(piece) => one_kind(piece),
        Step::UpstreamEnds(end)
        | Step::ClientEnds(end)
        | Step::ExpectUpstreamEnd(end)
        | Step::ExpectClientEnd(end) => fits(end),
        _ => Ok(()),
    }
}

fn names_type(pattern: &Value) -> Result<(), String> {
    let typed = pattern.get("type").and_then(Value::as_str);
    if typed.is_none_or(|t| t.is_empty() || t.starts_with('$')) {
        return Err("an empty expectation: it names no type".into());
    }
    matching::check(pattern)
}

fn one_kind(piece: &Piece) -> Result<(), String> {
    let kinds = [&piece.bytes, &piece.text, &piece.binary, &piece.datagram];
    match kinds.iter().filter(|kind| kind.is_some()).count() {
        1 => Ok(()),
        n => Err(format!("{n} kinds of data instead of one")),
    }
}

fn fits(end: &End) -> Result<(), String> {
    let close = end.code.is_some() || end.reason.is_some();
    match end.how {
        How::Closed if end.code.is_none() || end.status.is_some() => {
            Err("a close needs a code, and no status".into())
        }
        How::Closed => Ok(()),
        _ if close => Err("only a close has a code and a reason".into()),
        How::Complete if end.status.is_some() => Err("only a failure has a status".into()),
        _ => Ok(()),
    }
}
