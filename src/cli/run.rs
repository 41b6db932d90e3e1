//! `imgate run`: serve until told to stop.

use std::time::Duration;

use clap::{Args, ValueEnum};
use tracing::info;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::{ConfigFile, Failure, runtime};
use crate::config::Config;
use crate::front::descriptors;
use crate::gateway::Shared;
use crate::handover::Predecessor;
use crate::server::{Server, Signals, StartError};

/// How many messages wait for the writing thread before messages are dropped.
const BACKLOG: usize = 8192;

/// How long what still runs after the drain may take to end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How the gateway's own messages look; the access log is always JSON.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

/// Serves until SIGTERM; SIGHUP reloads the configuration, SIGUSR2 replaces the binary.
///
/// SIGTERM, SIGINT and SIGQUIT stop it: it accepts no more, and ends when requests under way have, at the
/// latest after the drain timeout; a second one ends it at once. The exit code is 0 whenever it was told to
/// stop or gave way to a successor, 78 if the configuration is refused, 69 if an address, the access log or
/// a process to be replaced cannot be used, and 64 if the arguments make no sense.
#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigFile,
    /// How messages on standard error look
    #[arg(long, value_enum, default_value = "json")]
    log_format: LogFormat,
    /// Which messages, as in `info` or `imgate=debug`
    #[arg(long, value_name = "FILTER", env = "IMGATE_LOG", default_value = "info")]
    log: String,
}

impl Run {
    /// Loads, binds, serves, drains.
    ///
    /// # Errors
    /// The configuration is refused, or an address cannot be bound.
    pub(super) fn run(&self, shared: Shared) -> Result<(), Failure> {
        let _guard = start_logging(&self.log, self.log_format)?;
        let config = self.config.load()?;
        descriptors::raise();
        let runtime = runtime(config.threads)?;
        let ran = runtime.block_on(async {
            let no_signals = |error| Failure::unavailable(format!("no signals: {error}"));
            let mut signals = Signals::new().map_err(no_signals)?;
            let server = tokio::select! {
                server = start(config, shared) => server?,
                () = signals.stop() => return Ok(()),
            };
            for address in server.listeners() {
                info!(%address, "listening");
            }
            if let Some(address) = server.admin() {
                info!(%address, "admin listening");
            }
            let path = self.config.path.clone();
            server.run(path, signals).await;
            Ok(())
        });
        // A thread that reads from a file system that hangs is not waited for.
        runtime.shutdown_timeout(LAST_WORDS);
        ran
    }
}

/// Starts on the sockets of the process before, if this one is to replace it.
async fn start(config: Config, shared: Shared) -> Result<Server, Failure> {
    let before = Predecessor::find().await.map_err(Failure::unavailable)?;
    Server::start_after(before, config, shared).await.map_err(refuse)
}

fn refuse(error: StartError) -> Failure {
    match error {
        StartError::Config(error) => Failure::config(error),
        other => Failure::unavailable(other),
    }
}

/// Sends messages to standard error, from the `log` crate (Pingora's) as well as from `tracing`. A thread
/// writes them, and drops them when their reader stalls: serving must not wait for that. The guard writes
/// out what is left when it is dropped.
fn start_logging(filter: &str, format: LogFormat) -> Result<WorkerGuard, Failure> {
    let mut filter = EnvFilter::try_new(filter).map_err(|error| Failure::usage(format!("--log: {error}")))?;
    // Pingora prints request heads below these levels, and an error for each client that goes away.
    for cap in ["pingora_proxy=off", "pingora_core=warn"] {
        filter = filter.add_directive(cap.parse().map_err(Failure::usage)?);
    }
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(BACKLOG).finish(std::io::stderr());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match format {
        LogFormat::Json => builder.json().flatten_event(true).with_target(false).try_init(),
        LogFormat::Text => builder.with_ansi(false).try_init(),
    };
    started.map_err(|error| Failure::unavailable(format!("no logging: {error}")))?;
    Ok(guard)
}
