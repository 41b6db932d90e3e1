//! `imgate doctor`: is everything that the gateway stands on as it must be?
//!
//! It asks Redis, OpenIM and the rest what they are, as the gateway would ask them, and says in words
//! what is wrong and what to do. It writes nothing but the canaries by which every gateway proves that
//! Redis announces changes, and mints no token. `check` looks at the file alone.

mod admins;
mod api;
mod certificates;
mod exposure;
mod objects;
mod probe;
mod report;
mod sockets;
mod store;
mod targets;
mod user;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use imgate_identity::user::UserId;

use self::report::{Finding, Report};
use self::targets::Targets;
use super::{ConfigFile, Failure, runtime};
use crate::access_log::AccessLog;
use crate::config::Config;
use crate::gateway::{Shared, Snapshot};
use crate::metrics::Metrics;

/// How long one check may take, whatever the timeouts of the configuration add up to.
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks Redis, OpenIM and the rest whether they are as the gateway needs them.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    config: ConfigFile,
    /// Also look at what the store holds for this user
    #[arg(long, value_name = "ID", value_parser = UserId::parse)]
    user: Option<UserId>,
    /// A certificate that clients are shown by whoever ends TLS in front of the gateway (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// An address of this machine that others reach; default: those of its interfaces
    #[arg(long, value_name = "IP")]
    outside: Vec<IpAddr>,
    /// How findings are written
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How findings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Lines, as they are found
    Text,
    /// One JSON object at the end
    Json,
}

impl Doctor {
    /// Checks one thing after the other; the exit code is 1 if one of them fails.
    ///
    /// # Errors
    /// Nothing could be checked at all.
    pub(super) fn run(&self, shared: &Shared) -> Result<ExitCode, Failure> {
        let mut report = Report::new(self.format);
        runtime(2)?.block_on(self.examine(shared, &mut report));
        report.finish();
        Ok(if report.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    async fn examine(&self, shared: &Shared, report: &mut Report) {
        let (config, snapshot) = match self.load(shared) {
            Ok(loaded) => loaded,
            Err(finding) => {
                report.add(finding);
                return report
                    .add(Finding::skip("all else", "it cannot be found out without a configuration"));
            }
        };
        for finding in configured(&self.config.path.display().to_string(), &config) {
            report.add(finding);
        }
        let targets = Targets::of(&config, &snapshot);
        // A server that hangs has its own deadlines, so this needs none beside.
        let servers = snapshot.store.examine().await;
        let store = report.check("redis", store::examine(&config, &snapshot, &servers)).await;
        let is_usable = !store.iter().any(|finding| finding.is_failure_of(store::REDIS));
        report.check("openim api", api::examine(&targets)).await;
        report.check("default secret", admins::default_secret(&targets)).await;
        report.check("admin token", admins::examine(&config, &targets, is_usable)).await;
        report.check("message gateway", sockets::examine(&targets)).await;
        report.check("upstream", api::examine_others(&targets)).await;
        report.check("objects", objects::examine(&config, &snapshot, &targets, is_usable)).await;
        let shown = self.certificate.as_deref().zip(self.key.as_deref());
        certificates::examine(&config, shown).into_iter().for_each(|finding| report.add(finding));
        report
            .check("open ports", exposure::examine(&config, &store::addresses(&servers), &self.outside))
            .await;
        if let Some(user) = &self.user {
            report.check("user", user::examine(&config, &targets, user, is_usable)).await;
        }
    }

    /// Does what `check` does.
    fn load(&self, shared: &Shared) -> Result<(Config, Snapshot), Finding> {
        let refused = |why: String| {
            Finding::fail("configuration", format!("{} is refused", self.config.path.display()), why)
        };
        let config = Config::load(&self.config.path).map_err(|error| refused(error.to_string()))?;
        let metrics = Metrics::new().map_err(|error| refused(error.to_string()))?;
        let snapshot =
            Snapshot::build(&config, shared, &metrics, None).map_err(|error| refused(error.to_string()))?;
        AccessLog::open(&config.access_log)
            .map_err(|error| refused(format!("the access log cannot be opened: {error}")))?;
        Ok((config, snapshot))
    }
}

/// What is to be said of a configuration that loads.
fn configured(path: &str, config: &Config) -> Vec<Finding> {
    let (routes, chains) = (config.routes.routes().len(), config.chains.len());
    let mut findings =
        vec![Finding::ok("configuration", format!("{path}: {routes} routes, {chains} chains"))];
    findings.extend(
        config
            .warnings
            .iter()
            .map(|warning| Finding::warn("configuration", "a part of it is doubtful", warning.to_string())),
    );
    findings
}
