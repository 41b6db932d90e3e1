//! `imgate seal-key`: keys for `identity.seal_keys`.

use clap::{Args, Subcommand};
use imgate_identity::seal::{KeyId, SealKeys};
use imgate_identity::time::UnixTime;

use super::{Failure, say};

/// Makes keys that seal the secrets of sessions.
#[derive(Debug, Subcommand)]
pub(super) enum SealKey {
    /// Make a key and print the line for the file of seal keys, once
    New(New),
}

/// Makes a key.
#[derive(Debug, Args)]
pub(super) struct New {
    /// What to call it; default: after the time
    #[arg(long, value_name = "ID", value_parser = KeyId::parse)]
    id: Option<KeyId>,
}

impl SealKey {
    /// Does it.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let Self::New(new) = self;
        let dated = || KeyId::parse(&format!("k{}", UnixTime::now())).map_err(Failure::usage);
        let id = new.id.clone().map_or_else(dated, Ok)?;
        say(SealKeys::fresh_line(&id).map_err(Failure::unavailable)?.expose());
        Ok(())
    }
}
