//! imgate as a library: a gateway of your own with filters of your own.
//!
//! [`Builder::main`] is the whole `imgate` command, in which those filters are known as if they were
//! ours: `check` and `explain` know them, `run` counts and logs under their names, a reload builds them
//! anew. Nothing is global and nothing registers itself.

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use imgate_filters::step::BadName;
use imgate_filters::{Deps, Filter, Registry};
use serde::de::DeserializeOwned;

use crate::cli::Cli;
use crate::gateway::Shared;

/// A gateway in the making.
///
/// ```no_run
/// use std::convert::Infallible;
/// use std::process::ExitCode;
///
/// use imgate::filters::step::BadName;
/// use imgate::prelude::*;
///
/// /// What stands in the YAML: `- deny_teapots: { name: Russell }`.
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Config {
///     name: String,
/// }
///
/// struct DenyTeapots(String);
///
/// #[async_trait]
/// impl Filter for DenyTeapots {
///     fn summary(&self) -> String {
///         format!("refuses {}'s teapot", self.0)
///     }
///
///     async fn request(&self, request: &mut Request<'_>, _: &mut Context) -> Result<Flow, Reject> {
///         let teapot = request.head.headers.get("x-teapot");
///         match teapot.filter(|owner| owner.as_bytes() == self.0.as_bytes()) {
///             Some(_) => Err(Reject::new(Cause::Forbidden, "teapot")),
///             None => Ok(Flow::Continue),
///         }
///     }
/// }
///
/// fn main() -> Result<ExitCode, BadName> {
///     let make = |config: Config, _: &Deps| Ok::<_, Infallible>(DenyTeapots(config.name));
///     Ok(imgate::Builder::new().filter("deny_teapots", make)?.main())
/// }
/// ```
#[derive(Debug, Default)]
pub struct Builder {
    filters: Registry,
}

impl Builder {
    /// Begins with the filters of this repository.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a filter under the name it has in YAML, logs and metrics. `make` gets what stands behind
    /// the name, as a `C`, and what filters may lean on; its error is shown with the place in the file.
    /// Give `C` `#[serde(deny_unknown_fields)]`, so that a slip of the pen is refused.
    ///
    /// # Errors
    /// Another filter has that name, or it is none.
    pub fn filter<C, F, E>(
        mut self,
        name: &'static str,
        make: impl Fn(C, &Deps) -> Result<F, E> + Send + Sync + 'static,
    ) -> Result<Self, BadName>
    where
        C: DeserializeOwned,
        F: Filter + 'static,
        E: Display,
    {
        self.filters.insert(name, make)?;
        Ok(self)
    }

    /// Runs the command line: `run`, `check`, `explain` and all the others.
    pub fn main(self) -> ExitCode {
        Cli::parse().run(self.shared()).unwrap_or_else(|failure| failure.report())
    }

    /// What a [`Server`](crate::server::Server) or a [`Snapshot`](crate::gateway::Snapshot) needs to know
    /// these filters, for whoever has a command line of its own.
    pub fn shared(self) -> Shared {
        Shared { custom: Arc::new(self.filters), ..Shared::default() }
    }
}
