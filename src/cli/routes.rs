//! `imgate routes`: which routes there are, and how they compare with OpenIM's own.

mod diff;
mod gin;
mod go;
mod list;

use std::process::ExitCode;

use clap::Subcommand;

use super::Failure;
use crate::gateway::Shared;

/// Lists routes, and compares them with OpenIM's.
#[derive(Debug, Subcommand)]
pub(super) enum Routes {
    /// List every route of a configuration: who may call it, by which rules, and where it goes
    List(list::List),
    /// Compare the routes with those that OpenIM's source registers; exit 1 if there is one that no table knows
    Diff(diff::Diff),
}

impl Routes {
    /// Prints the answer.
    ///
    /// # Errors
    /// The configuration is refused, or a file cannot be read.
    pub(super) fn run(&self, shared: &Shared) -> Result<ExitCode, Failure> {
        match self {
            Self::List(list) => list.run(shared).map(|()| ExitCode::SUCCESS),
            Self::Diff(diff) => diff.run(),
        }
    }
}
