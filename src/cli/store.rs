//! `imgate store`: the store as a whole.

use clap::Subcommand;

use super::{ConfigFile, Failure, say};

/// Vouches for the store.
#[derive(Debug, Subcommand)]
pub(super) enum Store {
    /// Say that this is the right store and that its records are complete; gateways do not trust it before
    ///
    /// A store without its mark counts as flushed or as the wrong one: gateways answer 503. In a store with
    /// its mark a session that is missing logs its user out. After a loss, put the records back first.
    Mark(ConfigFile),
}

impl Store {
    /// Does it.
    ///
    /// # Errors
    /// The store cannot be used.
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let Self::Mark(config) = self;
        config.writer().await?.put_mark().await.map_err(Failure::store)?;
        say("marked; what is missing in this store counts as missing from now on");
        Ok(())
    }
}
