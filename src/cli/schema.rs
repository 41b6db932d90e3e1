//! `imgate schema`: the JSON Schema of the files, for editors.

use clap::Args;

use super::{Failure, say};
use crate::config::{config_schema, table_schema};
use crate::gateway::Shared;

/// Prints the JSON Schema of the configuration file, for editors.
#[derive(Debug, Args)]
pub(super) struct Schema {
    /// The schema of a table of routes instead
    #[arg(long)]
    table: bool,
}

impl Schema {
    /// Prints it.
    ///
    /// # Errors
    /// It cannot be written out.
    pub(super) fn run(&self, shared: &Shared) -> Result<(), Failure> {
        let schema = if self.table { table_schema() } else { config_schema(&shared.custom) };
        say(&serde_json::to_string_pretty(&schema).map_err(Failure::unavailable)?);
        Ok(())
    }
}
