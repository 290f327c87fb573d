//! Which vectors are played, and several of them at once.

use std::future::Future;

use anyhow::{Result, anyhow, ensure};
use controlplane_world::vectors::{
    Role,
    load::{self, Line},
};
use futures_util::{StreamExt, stream};

use super::{
    Options,
    report::{Check, Outcome},
};

/// The conversations of that role which are wanted, in the order of the files.
///
/// # Errors
///
/// A file cannot be read, or nothing is wanted.
pub fn selected(role: Role, options: &Options) -> Result<Vec<Line>> {
    let all = load::directory(&load::own()).map_err(|errors| anyhow!(errors.join("\n")))?;
    let lines = all.into_iter().filter(|line| {
        let vector = &line.vector;
        let place = format!("{}:{}", line.file, line.number);
        vector.role == role && options.wants(&place, &vector.title, &vector.p)
    });
    Ok(lines.collect())
}

/// Plays each of them, as many at once as the options say.
pub async fn play<'a, F, P>(lines: &'a [Line], options: &Options, play: P) -> Vec<Check>
where
    F: Future<Output = Outcome>,
    P: Fn(&'a Line) -> F,
{
    let checks = lines.iter().map(|line| {
        let playing = play(line);
        async move {
            Check {
                place: format!("{}:{}", line.file, line.number),
                title: line.vector.title.clone(),
                statements: line.vector.p.clone(),
                outcome: playing.await,
            }
        }
    });
    let checks = stream::iter(checks).buffered(options.jobs.max(1));
    checks.collect().await
}

impl Options {
    /// Whether a check is wanted that stands at `place`.
    #[must_use]
    pub fn wants(&self, place: &str, title: &str, statements: &[String]) -> bool {
        self.only.as_deref().is_none_or(|only| {
            title.contains(only) || place.contains(only) || statements.iter().any(|p| p == only)
        })
    }
}

/// Refuses a selection that nothing is left of.
///
/// # Errors
///
/// There are no checks.
pub fn something(checks: &[Check], options: &Options) -> Result<()> {
    let only = options.only.as_deref().unwrap_or_default();
    ensure!(
        !checks.is_empty(),
        "nothing has {only:?} in its title, file's name or statements"
    );
    Ok(())
}
