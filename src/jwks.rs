//! Fetches the keys of admins' issuers and keeps them fresh, so that no request waits for an issuer.
//!
//! [`Feeds`] outlives reloads: a set that is asked for again goes on with the keys it has. A set is
//! replaced by a good one alone; whatever goes wrong, the last good one stays and an alarm is logged.
//! One attempt at a time, none sooner than the cooldown after the last, however many tokens name keys
//! that nobody knows. Redirects are not followed: the keys come from the host that was written.

mod fetch;

use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use imgate_filters::Jwks;
use imgate_filters::verify_jwt::{Feed, JwksUrl, Source};
use imgate_identity::jwt::KeySet;
use parking_lot::Mutex;
use pingora_core::connectors::http::v1::Connector;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

pub use self::fetch::FetchError;

/// How long nothing is due at the most. It is a second look, should a wake-up get lost.
const IDLE: Duration = Duration::from_secs(60);

/// All key sets that are fetched.
#[derive(Default)]
pub struct Feeds {
    feeds: Mutex<Vec<Weak<Kept>>>,
    /// Something is due earlier than it was.
    changed: Arc<Notify>,
}

/// One key set, and what came of fetching it.
struct Kept {
    source: Source,
    keys: ArcSwapOption<KeySet>,
    progress: Mutex<Progress>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Progress {
    /// When the next attempt is due; at once if there was none yet.
    due: Option<Instant>,
    /// When the last attempt began.
    tried: Option<Instant>,
    under_way: bool,
    /// When the set that is in use arrived.
    arrived: Option<Instant>,
    ok: u64,
    failed: u64,
}

/// What there is to tell of one key set.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where it is fetched.
    pub url: JwksUrl,
    /// How old the set is that is in use; `None` if there is none.
    pub age: Option<Duration>,
    /// How many keys are in use.
    pub keys: usize,
    /// Attempts that brought a good set.
    pub ok: u64,
    /// Attempts that did not.
    pub failed: u64,
}

impl Jwks for Feeds {
    fn follow(&self, source: &Source) -> Arc<dyn Feed> {
        let mut feeds = self.feeds.lock();
        feeds.retain(|feed| feed.strong_count() > 0);
        if let Some(kept) = feeds.iter().filter_map(Weak::upgrade).find(|kept| kept.source == *source) {
            return kept;
        }
        let kept = Arc::new(Kept {
            source: source.clone(),
            keys: ArcSwapOption::empty(),
            progress: Mutex::default(),
            changed: Arc::clone(&self.changed),
        });
        feeds.push(Arc::downgrade(&kept));
        self.changed.notify_one();
        kept
    }
}

impl Feed for Kept {
    fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.load_full()
    }

    fn miss(&self) {
        let mut progress = self.progress.lock();
        let Some(tried) = progress.tried.filter(|_| !progress.under_way) else { return };
        let soonest = tried + self.source.cooldown;
        if Instant::now() >= soonest && progress.due.is_some_and(|due| due > soonest) {
            progress.due = Some(soonest);
            self.changed.notify_one();
        }
    }
}

impl Feeds {
    /// Fetches whatever is due, until `quit`.
    pub async fn run(self: Arc<Self>, quit: CancellationToken) {
        // It reads the certificates of the system, which only those need who have something to fetch.
        let mut connector = None;
        let attempts = TaskTracker::new();
        loop {
            let live: Vec<Arc<Kept>> = self.live();
            for kept in live.iter().filter(|kept| kept.begin()) {
                let connector = Arc::clone(connector.get_or_insert_with(|| Arc::new(Connector::new(None))));
                let (kept, quit) = (Arc::clone(kept), quit.clone());
                attempts.spawn(async move {
                    tokio::select! {
                        () = kept.refresh(&connector) => {}
                        () = quit.cancelled() => {}
                    }
                });
            }
            let next = live.iter().map(|kept| kept.due()).min().unwrap_or_else(|| Instant::now() + IDLE);
            drop(live);
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.changed.notified() => {}
                () = quit.cancelled() => break,
            }
        }
        attempts.close();
        attempts.wait().await;
    }

    fn live(&self) -> Vec<Arc<Kept>> {
        self.feeds.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// What there is to tell of every key set that is in use.
    pub fn report(&self) -> Vec<Report> {
        self.live().iter().map(|kept| kept.report()).collect()
    }
}

impl Kept {
    /// Notes that an attempt begins, if one is due and none is under way.
    fn begin(&self) -> bool {
        let (now, mut progress) = (Instant::now(), self.progress.lock());
        if progress.under_way || progress.due.is_some_and(|due| due > now) {
            return false;
        }
        progress.under_way = true;
        progress.tried = Some(now);
        true
    }

    /// When somebody should look again. What is under way says so itself when it ends.
    fn due(&self) -> Instant {
        let progress = self.progress.lock();
        let idle = Instant::now() + IDLE;
        if progress.under_way { idle } else { progress.due.map_or(idle, |due| due.min(idle)) }
    }

    async fn refresh(&self, connector: &Connector) {
        let outcome = self.fetch(connector).await;
        let mut progress = self.progress.lock();
        progress.under_way = false;
        let pause = match &outcome {
            Ok(_) => self.source.refresh,
            Err(_) => self.source.cooldown,
        };
        let now = Instant::now();
        progress.due = Some(now + pause);
        match outcome {
            Ok(keys) => {
                self.say_what_is_new(&keys);
                self.keys.store(Some(Arc::new(keys)));
                progress.arrived = Some(now);
                progress.ok += 1;
            }
            Err(why) => {
                progress.failed += 1;
                let url = &self.source.url;
                if self.keys.load().is_some() {
                    error!(%url, %why, "keys of admins cannot be fetched; the last good ones stay in use");
                } else {
                    error!(%url, %why, "keys of admins cannot be fetched; admins get 503 until they are");
                }
            }
        }
        self.changed.notify_one();
    }

    async fn fetch(&self, connector: &Connector) -> Result<KeySet, FetchError> {
        let json = fetch::fetch(connector, &self.source.url).await?;
        Ok(KeySet::from_jwks(&json, &self.source.algorithms)?)
    }

    fn say_what_is_new(&self, keys: &KeySet) {
        let new: Vec<&str> = keys.ids().collect();
        let is_known = self.keys.load().as_ref().is_some_and(|old| old.ids().eq(keys.ids()));
        if !is_known {
            info!(url = %self.source.url, keys = new.join(", "), "keys of admins are in use");
        }
    }

    fn report(&self) -> Report {
        let progress = self.progress.lock();
        Report {
            url: self.source.url.clone(),
            age: progress.arrived.map(|arrived| arrived.elapsed()),
            keys: self.keys.load().as_ref().map_or(0, |keys| keys.ids().count()),
            ok: progress.ok,
            failed: progress.failed,
        }
    }
}

#[cfg(test)]
mod tests;
