//! What was found, and how it is told.

use std::io::{self, Write as _};

use serde::Serialize;
use tokio::time::timeout;

use super::{DEADLINE, Format};
use crate::cli::say;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As it must be.
    Ok,
    /// Doubtful, or soon wrong.
    Warn,
    /// Wrong.
    Fail,
    /// Not looked at.
    Skip,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
        }
    }
}

/// One thing that was looked at. No secret stands in it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    check: &'static str,
    verdict: Verdict,
    /// What was seen, in one line.
    found: String,
    /// What is wrong about it and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    /// All is well.
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    /// It works, but somebody should look at it.
    pub(super) fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    /// It does not work, or must not be.
    pub(super) fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, found: found.into(), advice: Some(advice.into()) }
    }

    /// It was not looked at, for this reason.
    pub(super) fn skip(check: &'static str, why: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Skip, found: why.into(), advice: None }
    }

    fn is_failure(&self) -> bool {
        self.verdict == Verdict::Fail
    }

    /// Whether this check failed here.
    pub(super) fn is_failure_of(&self, check: &str) -> bool {
        self.is_failure() && self.check == check
    }

    fn text(&self) -> String {
        let mut text = format!("{:<5} {:<16} {}", self.verdict.word(), self.check, self.found);
        for line in self.advice.iter().flat_map(|advice| advice.lines()) {
            text.push_str("\n      ");
            text.push_str(line);
        }
        text
    }
}

/// All that was found so far.
pub(super) struct Report {
    format: Format,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(format: Format) -> Self {
        Self { format, findings: Vec::new() }
    }

    /// Notes a finding, and tells it at once if it is a person who reads.
    pub(super) fn add(&mut self, finding: Finding) {
        if self.format == Format::Text {
            say(&finding.text());
        }
        self.findings.push(finding);
    }

    /// Waits for a check, but not for ever; gives what it found.
    pub(super) async fn check(
        &mut self,
        name: &'static str,
        check: impl Future<Output = Vec<Finding>>,
    ) -> Vec<Finding> {
        let late = || {
            let found = format!("took more than {} s", DEADLINE.as_secs());
            vec![Finding::fail(
                name,
                found,
                "something accepts connections and answers nothing, or is very slow",
            )]
        };
        let findings = timeout(DEADLINE, check).await.unwrap_or_else(|_| late());
        findings.iter().for_each(|finding| self.add(finding.clone()));
        findings
    }

    pub(super) fn has_failed(&self) -> bool {
        self.findings.iter().any(Finding::is_failure)
    }

    /// Tells the rest.
    pub(super) fn finish(&self) {
        let count = |verdict| self.findings.iter().filter(|finding| finding.verdict == verdict).count();
        if self.format == Format::Json {
            let all = serde_json::json!({ "failed": self.has_failed(), "findings": self.findings });
            // A reader that went away is not told.
            let _ = writeln!(io::stdout(), "{all:#}");
        } else {
            let (ok, warn) = (count(Verdict::Ok), count(Verdict::Warn));
            let (fail, skip) = (count(Verdict::Fail), count(Verdict::Skip));
            say(&format!("\n{ok} ok, {warn} to look at, {fail} wrong, {skip} not looked at"));
        }
    }
}
