//! Taking up a changed configuration: read and built beside the running one, then put in its place.
//!
//! What is read is read on a thread of its own under a deadline, so signals are heard all the while, and
//! a file system that hangs costs that one reload.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use imgate_filters::folder::Folder;
use imgate_identity::time::UnixTime;
use tracing::{error, info, warn};

use super::{Server, caps};
use crate::config::{Changes, Config};
use crate::front::tls::BadSettings;
use crate::gateway::{BuildError, Snapshot};

/// How long a configuration may take to be read and built.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// So many names are told one by one.
const MAX_TOLD: usize = 20;

/// What only a restart or an upgrade can change, as the process started with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fixed([(&'static str, String); 4]);

impl Fixed {
    pub(super) fn of(config: &Config) -> Self {
        let listeners: Vec<_> =
            config.listeners.iter().map(|listener| (&listener.address, listener.mode)).collect();
        Self([
            ("listeners", format!("{listeners:?}")),
            ("admin", format!("{:?}", config.admin)),
            ("threads", config.threads.to_string()),
            ("access_log", format!("{:?}", config.access_log)),
        ])
    }

    /// The keys, and whether `config` says something else of them.
    fn differ<'a>(&'a self, config: &Config) -> impl Iterator<Item = (&'static str, bool)> + use<'a> {
        let new = Self::of(config);
        self.0.iter().zip(new.0).map(|((key, old), (_, new))| (*key, *old != new))
    }
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    #[error(transparent)]
    Refused(#[from] BuildError),
    #[error(transparent)]
    Tls(#[from] BadSettings),
    #[error("it could not be read within {} s", LOAD_TIMEOUT.as_secs())]
    Late,
    #[error("reading it broke off: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

/// A configuration that was read and built, and is not in force yet.
pub(super) struct Loaded {
    folder: Folder,
    built: Result<(Config, Snapshot), ReloadError>,
}

impl Server {
    /// Reads and builds the configuration anew. The server serves on meanwhile, and may be reloaded by
    /// what comes of it.
    pub(super) fn load(&self, path: PathBuf) -> impl Future<Output = Loaded> + use<> {
        let folder = Config::folder_of(&path);
        let (noting, shared) = (folder.clone(), self.shared.clone());
        let (metrics, config) = (Arc::clone(&self.gateway.metrics), Arc::clone(&self.config));
        let snapshot = self.gateway.snapshot.load_full();
        let loading = self.housekeeping.spawn_blocking(move || {
            let new = Config::load_in(&noting, &path).map_err(BuildError::from)?;
            let built = Snapshot::build(&new, &shared, &metrics, Some((&config, &snapshot)))?;
            Ok::<_, BuildError>((new, built))
        });
        async move {
            let built = match tokio::time::timeout(LOAD_TIMEOUT, loading).await {
                Ok(Ok(built)) => built.map_err(ReloadError::from),
                Ok(Err(broken)) => Err(broken.into()),
                Err(_) => Err(ReloadError::Late),
            };
            Loaded { folder, built }
        }
    }

    /// Puts in force what was loaded, or says why not; in both cases its files are watched from now on.
    pub(super) fn take_up(&mut self, loaded: Loaded) {
        self.watch.follow(loaded.folder.files());
        match loaded.built.and_then(|(config, snapshot)| self.put_in_force(config, snapshot)) {
            Ok(()) => {}
            Err(why) => {
                self.gateway.metrics.reload.refused.inc();
                self.gateway.metrics.reload.last_ok.set(0);
                error!("configuration refused, the old one stays in force:\n{why}");
            }
        }
    }

    fn put_in_force(&mut self, config: Config, snapshot: Snapshot) -> Result<(), ReloadError> {
        let steps = self.plan(&config)?;
        let changes = Changes::between(&self.config, &config);
        self.gateway.snapshot.store(Arc::new(snapshot));
        steps.into_iter().for_each(|(entrance, steps)| entrance.set(steps));
        self.seats.set(caps(&config));
        self.gateway.metrics.door.observe_certificates(&config.listeners);
        self.forget_routes(&config);
        self.config = Arc::new(config);
        self.gateway.metrics.reload.ok.inc();
        self.note_config();
        for (section, count) in changes.by_section() {
            self.gateway.metrics.reload.changed(section, count);
        }
        self.warn_of_config();
        // The last word: whoever waits for it finds the rest said and counted.
        tell(&changes);
        Ok(())
    }

    fn forget_routes(&self, new: &Config) {
        let names = |config: &Config| config.routes.routes().iter().map(|r| Arc::clone(&r.name)).collect();
        let (old, new): (HashSet<Arc<str>>, HashSet<_>) = (names(&self.config), names(new));
        old.difference(&new).for_each(|name| self.gateway.metrics.forget_route(name));
    }

    /// Counts what runs now.
    pub(super) fn note_config(&self) {
        let metrics = &self.gateway.metrics.reload;
        metrics.loaded.set(UnixTime::now().0 as f64);
        metrics.last_ok.set(1);
        metrics.set_hash(&self.config.hash());
        for (key, differs) in self.fixed.differ(&self.config) {
            metrics.needs_restart(key, differs);
        }
    }

    /// Says what is doubtful in what runs now, and what of it does not run yet.
    pub(super) fn warn_of_config(&self) {
        for warning in &self.config.warnings {
            warn!("{warning}");
        }
        for (what, _) in self.fixed.differ(&self.config).filter(|(_, differs)| *differs) {
            warn!(what, "this change takes effect with the next restart or upgrade");
        }
    }
}

fn tell(changes: &Changes) {
    if changes.is_empty() {
        return info!("configuration reloaded: nothing changed");
    }
    let [added, removed, changed] =
        [&changes.added, &changes.removed, &changes.changed].map(|names| some(names.iter()));
    let files = some(changes.files.iter().map(|path| path.display()));
    info!(added, removed, changed, files, "configuration reloaded");
}

/// Some names, and how many more there are.
fn some(names: impl ExactSizeIterator<Item = impl fmt::Display>) -> String {
    let more = names.len().saturating_sub(MAX_TOLD);
    let told: Vec<_> = names.take(MAX_TOLD).map(|name| name.to_string()).collect();
    let told = told.join(", ");
    if more == 0 { told } else { format!("{told} and {more} more") }
}
