//! A configuration file as it was read, and places in it.
//!
//! A [`Mark`] points at a line and column and can show that line. It never shows a line on which a
//! secret might stand.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use imgate_filters::folder::{Content, Folder};
use serde_saphyr::Location;

use super::problem::Problem;

/// The largest file that is read, in bytes.
pub(super) const MAX_SIZE: usize = 1024 * 1024;

/// The widest line that is shown, in characters.
const MAX_WIDTH: usize = 100;

/// A file: its name in messages, and its text.
pub(super) struct Source {
    pub(super) name: Box<str>,
    pub(super) text: Box<str>,
}

impl Source {
    /// Takes a text that was read elsewhere.
    pub(super) fn new(name: &str, text: &str) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into() })
    }

    /// Reads a file.
    pub(super) fn read(base: &Folder, name: &Path) -> Result<Arc<Self>, Problem> {
        let bytes = base.read(name, MAX_SIZE, Content::Plain).map_err(Problem::Unreadable)?;
        if bytes.len() > MAX_SIZE {
            return Err(Problem::TooLarge);
        }
        let text = String::from_utf8(bytes).map_err(|_| Problem::NotText)?;
        Ok(Self::new(&base.path_of(name).display().to_string(), &text))
    }
}

/// A place in a file.
#[derive(Clone)]
pub struct Mark {
    source: Arc<Source>,
    line: usize,
    column: usize,
    width: usize,
}

/// File, line and column, and nothing of the text.
impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}", self.source.name);
        }
        write!(f, "{}:{}:{}", self.source.name, self.line, self.column)
    }
}

impl Mark {
    /// Points at a file as a whole.
    pub(super) fn whole(source: &Arc<Source>) -> Self {
        Self { source: Arc::clone(source), line: 0, column: 0, width: 0 }
    }

    /// Points at what the YAML reader points at.
    pub(super) fn at(source: &Arc<Source>, location: Location) -> Self {
        let number = |n: u64| usize::try_from(n).unwrap_or(0);
        let (line, column) = (number(location.line()), number(location.column()));
        Self { source: Arc::clone(source), line, column, width: number(location.span().len()) }
    }

    /// Line and column, counted from 1; 0 for a file as a whole.
    pub fn position(&self) -> (usize, usize) {
        (self.line, self.column)
    }

    /// The key at the left margin above this line, for where a syntax error hides the place.
    fn section(&self) -> &str {
        let at_margin = |line: &&str| line.starts_with(|c: char| c.is_ascii_alphabetic());
        let above = self.source.text.lines().take(self.line).filter(at_margin);
        above.last().and_then(|line| line.split(':').next()).unwrap_or_default()
    }

    /// Shows the line with a caret under the place; `None` if there is nothing to show, or if a secret
    /// could be on the line.
    pub(super) fn snippet(&self, place: &str) -> Option<String> {
        let line = self.source.text.lines().nth(self.line.checked_sub(1)?)?;
        let by_place = place.starts_with("identity") || place.contains(".verify_jwt");
        let secret = by_place || may_hold_secret(line) || self.section() == "identity";
        if line.trim().is_empty() || secret {
            return None;
        }
        let start = self.column.saturating_sub(MAX_WIDTH / 2);
        let skipped = if self.column > MAX_WIDTH * 3 / 4 { start } else { 0 };
        let shown: String = line.chars().skip(skipped).take(MAX_WIDTH).map(printable).collect();
        let before = self.column.saturating_sub(skipped + 1);
        let carets = self.width.clamp(1, shown.chars().count().saturating_sub(before).max(1));
        let (number, margin) = (self.line, " ".repeat(self.line.to_string().len()));
        let under = format!("{}{}", " ".repeat(before), "^".repeat(carets));
        Some(format!("{margin} |\n{number} | {}\n{margin} | {under}", shown.trim_end()))
    }
}

/// Secrets are never written inline, but somebody might have tried.
fn may_hold_secret(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["identity", "password", "secret", "assertion_key", "verify_jwt", "@"]
        .iter()
        .any(|word| line.contains(word))
}

/// A terminal is not to be steered by what stands in a file.
fn printable(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}
