//! `imgate check`: would `run` start with this configuration?

use clap::Args;

use super::{ConfigFile, Failure, runtime, say};
use crate::access_log::AccessLog;
use crate::gateway::{Shared, Snapshot};
use crate::metrics::Metrics;

/// Does all that `run` does, short of opening a port.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigFile,
    /// Also reach for the store, and fail if it does not answer
    #[arg(long)]
    store: bool,
}

impl Check {
    /// Says that all is well, or what is not.
    ///
    /// # Errors
    /// The configuration is refused.
    pub(super) fn run(&self, shared: &Shared) -> Result<(), Failure> {
        let config = self.config.load()?;
        // The store's tasks need a runtime to be spawned on; it ends with this function.
        runtime(1)?.block_on(async {
            let metrics = Metrics::new().map_err(Failure::unavailable)?;
            let snapshot = Snapshot::build(&config, shared, &metrics, None).map_err(Failure::config)?;
            AccessLog::open(&config.access_log)
                .map_err(|error| Failure::config(format!("cannot open the access log: {error}")))?;
            if self.store {
                snapshot.store.probe().await.map_err(Failure::store)?;
            }
            Ok(())
        })?;
        for warning in &config.warnings {
            say(&format!("warning: {warning}"));
        }
        let (routes, chains) = (config.routes.routes().len(), config.chains.len());
        say(&format!("{}: ok, {routes} routes, {chains} chains", self.config.path.display()));
        Ok(())
    }
}
