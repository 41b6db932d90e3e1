//! Why a configuration was refused: every fault with its place, the line it is on, and a hint.

use std::fmt;

use super::problem::Problem;
use super::source::Mark;

/// A refused configuration: one fault or more.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    faults: Vec<Fault>,
}

impl ConfigError {
    /// Refuses a configuration for these faults.
    pub fn new(faults: Vec<Fault>) -> Self {
        Self { faults }
    }

    /// What is wrong, in the order in which it was found.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl From<Fault> for ConfigError {
    fn from(fault: Fault) -> Self {
        Self { faults: vec![fault] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.faults.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong, or that is doubtful.
#[derive(Debug)]
pub struct Fault {
    /// Where in which file.
    pub mark: Mark,
    /// Where in the configuration, as in `routes[2].upstream`; empty for the whole of it.
    pub place: Box<str>,
    /// What.
    pub problem: Problem,
}

impl Fault {
    /// Finds fault with what stands at `place`.
    pub fn new(mark: Mark, place: impl Into<Box<str>>, problem: Problem) -> Self {
        Self { mark, place: place.into(), problem }
    }
}

impl Fault {
    /// The line it is on. For a key that is not there, no line is the right one.
    fn snippet(&self) -> Option<String> {
        let absent = matches!(self.problem, Problem::MissingKey(_));
        if absent { None } else { self.mark.snippet(&self.place) }
    }
}

/// `file:line:column: place: text`, then the line with a caret, then the hint.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A terminal is not to be steered by what stands in a file.
        let text = self.problem.to_string().replace(|c: char| c.is_control() && c != '\n', " ");
        let (text, hint) = match text.split_once("\nhint: ") {
            Some((text, hint)) => (text, Some(hint)),
            None => (&*text, None),
        };
        write!(f, "{}: ", self.mark)?;
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(text)?;
        if let Some(snippet) = self.snippet() {
            write!(f, "\n{snippet}")?;
        }
        match hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}
