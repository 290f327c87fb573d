//! What came of it: for each check whether it holds, and for each statement of the protocol whether
//! all of its checks do; as text and as JSON.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use serde::Serialize;

/// What came of one check.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "outcome", content = "why", rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It does not: what was seen instead.
    Fail(String),
    /// It could not be looked at: why.
    NotApplicable(String),
}

/// One check: a vector, or a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Where it stands: file and line, or the scenario's name.
    pub place: String,
    /// What it shows.
    pub title: String,
    /// Statements that it checks, such as `P-042`.
    pub statements: Vec<String>,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// All checks of one subject.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Who was tested.
    pub subject: String,
    /// In the order in which they stand in the files.
    pub checks: Vec<Check>,
}

/// How the checks of one statement went.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Tally {
    /// Checks that hold.
    pub pass: usize,
    /// Checks that do not.
    pub fail: usize,
    /// Checks that could not be looked at.
    pub not_applicable: usize,
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Pass => self.pass += 1,
            Outcome::Fail(_) => self.fail += 1,
            Outcome::NotApplicable(_) => self.not_applicable += 1,
        }
    }

    const fn verdict(self) -> &'static str {
        match (self.fail, self.pass) {
            (0, 0) => "not applicable",
            (0, _) => "pass",
            _ => "FAIL",
        }
    }
}

impl Report {
    /// Without any checks yet.
    #[must_use]
    pub fn new(subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            checks: Vec::new(),
        }
    }

    /// Whether something was checked, and all of it holds.
    #[must_use]
    pub fn passed(&self) -> bool {
        let all = self.total();
        all.fail == 0 && all.pass > 0
    }

    /// All checks together.
    #[must_use]
    pub fn total(&self) -> Tally {
        let mut tally = Tally::default();
        self.checks.iter().for_each(|c| tally.add(&c.outcome));
        tally
    }

    /// The checks by statement.
    #[must_use]
    pub fn statements(&self) -> BTreeMap<&str, Tally> {
        let mut statements: BTreeMap<&str, Tally> = BTreeMap::new();
        for check in &self.checks {
            for statement in &check.statements {
                statements.entry(statement).or_default().add(&check.outcome);
            }
        }
        statements
    }

    /// Statements of which a check fails.
    #[must_use]
    pub fn failing(&self) -> Vec<&str> {
        let statements = self.statements().into_iter();
        let failing = statements.filter(|(_, tally)| tally.fail > 0);
        failing.map(|(statement, _)| statement).collect()
    }

    /// As JSON: `subject`, `passed`, `total`, `statements`, `checks`.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "subject": self.subject,
            "passed": self.passed(),
            "total": self.total(),
            "statements": self.statements(),
            "checks": self.checks,
        })
    }
}

/// The report as text: a line for each statement, and beneath it what failed.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.subject)?;
        for (statement, tally) in self.statements() {
            let Tally {
                pass,
                fail,
                not_applicable,
            } = tally;
            let mut line = format!("{statement}  {:<14}", tally.verdict());
            for (count, what) in [
                (pass, "passed"),
                (fail, "failed"),
                (not_applicable, "not applicable"),
            ] {
                if count > 0 {
                    write!(line, "  {count} {what}")?;
                }
            }
            writeln!(f, "{line}")?;
            let checks = self.checks.iter();
            for check in checks.filter(|c| c.statements.iter().any(|s| s == statement)) {
                if let Outcome::Fail(why) = &check.outcome {
                    writeln!(f, "       {}: {}: {why}", check.place, check.title)?;
                }
            }
        }
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for check in &self.checks {
            if let Outcome::NotApplicable(why) = &check.outcome {
                *reasons.entry(why).or_default() += 1;
            }
        }
        for (why, count) in reasons {
            writeln!(f, "not applicable: {count} because {why}")?;
        }
        let all = self.total();
        let verdict = if self.passed() { "pass" } else { "FAIL" };
        writeln!(
            f,
            "{verdict}: {} passed, {} failed, {} not applicable",
            all.pass, all.fail, all.not_applicable
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(statement: &str, outcome: Outcome) -> Check {
        Check {
            place: "x.jsonl:1".into(),
            title: "a thing".into(),
            statements: vec![statement.into()],
            outcome,
        }
    }

    #[test]
    fn nothing_checked_is_no_pass() {
        let mut report = Report::new("nobody");
        assert!(!report.passed());
        report.checks = vec![check("P-001", Outcome::NotApplicable("it is off".into()))];
        assert!(!report.passed());
        let text = report.to_string();
        assert!(text.contains("P-001  not applicable"), "{text}");
        assert!(text.contains("1 because it is off"), "{text}");
    }

    #[test]
    fn what_failed_is_named_by_its_statement() {
        let mut report = Report::new("somebody");
        report.checks = vec![
            check("P-001", Outcome::Pass),
            check("P-002", Outcome::Fail("saw nothing".into())),
        ];
        assert!(!report.passed());
        assert_eq!(report.failing(), ["P-002"]);
        let text = report.to_string();
        assert!(text.contains("x.jsonl:1: a thing: saw nothing"), "{text}");
        assert!(text.contains("FAIL: 1 passed, 1 failed, 0 not"), "{text}");
        let json = report.json();
        assert_eq!(json["checks"][1]["outcome"], "fail");
        assert_eq!(json["checks"][1]["why"], "saw nothing");
        assert_eq!(json["statements"]["P-002"]["fail"], 1);
    }
}
