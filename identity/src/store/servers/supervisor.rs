//! Follows the servers: finds them, links to each, and begins anew when a link or a server is lost.
//!
//! The links stand or fall together. While they stand, every server that may take a write is linked to,
//! and each is asked every half second whether that is still so: a PING, in a Sentinel group `ROLE`, in
//! a cluster who owns the slots. So a proof covers the servers as well as the connections, and a slot
//! that moves between servers we are linked to costs nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use redis::Value;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::sentinel::{Sentinels, says_master};
use super::topology::{Topology, View, cluster_slots, read_map};
use super::tracking::{ASK_EVERY, Link, Lost, Step};
use super::{Shared, jittered};
use crate::store::Unavailable;
use crate::store::address::Address;
use crate::store::cache::Caches;
use crate::store::unavailable::NoMaster;

/// The first pause after a failed try; it doubles up to [`MAX_PAUSE`]. No two tries are closer.
const MIN_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// How long sentinels may take that are asked now and then: one that hangs must not hold up the proof that
/// all is well, nor outshout the others.
const SENTINELS_WITHIN: Duration = Duration::from_millis(400);

/// How often servers are looked for without caches, which nobody asks about in between.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Keeps the routes and `caches` true for as long as it is polled.
pub(super) async fn track(shared: Arc<Shared>, caches: Arc<Caches>) {
    let mut pause = MIN_PAUSE;
    let mut told = None;
    loop {
        match Links::establish(&shared, &caches).await {
            Ok(links) => {
                info!(servers = links.links.len(), "store announces changes");
                (pause, told) = (MIN_PAUSE, None);
                let lost = links.keep(&shared, &caches).await;
                caches.counters.link_failed(lost.why);
                if caches.link.lost() {
                    caches.counters.link_losses.add();
                }
                complain(&lost, "store no longer announces changes");
            }
            Err(lost) => {
                caches.counters.link_failed(lost.why);
                if told.as_ref() != Some(&lost) {
                    complain(&lost, "store does not announce changes");
                    told = Some(lost);
                }
            }
        }
        rest(jittered(pause), &shared.stale).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Keeps the routes true for as long as it is polled.
pub(super) async fn follow(shared: Arc<Shared>) {
    if let Topology::One(_) = shared.topology {
        return;
    }
    loop {
        match shared.discover().await {
            Ok(view) => shared.publish(&view),
            Err(why) => shared.publish_nobody(why),
        }
        rest(LOOK_EVERY, &shared.stale).await;
    }
}

fn complain(lost: &Lost, message: &'static str) {
    let server = lost.server.as_ref().map(tracing::field::display);
    warn!(server, step = lost.step.as_str(), cause = lost.why.as_str(), "{message}");
}

/// Waits for `pause`, or less if somebody has seen that the servers changed.
async fn rest(pause: Duration, stale: &Notify) {
    sleep(MIN_PAUSE.min(pause)).await;
    let _ = timeout(pause.saturating_sub(MIN_PAUSE), stale.notified()).await;
}

/// A link to every server that holds records.
struct Links {
    links: Vec<Link>,
    view: View,
    gone: Arc<Notify>,
}

impl Links {
    async fn establish(shared: &Shared, caches: &Arc<Caches>) -> Result<Self, Lost> {
        let view = match shared.discover().await {
            Ok(view) => view,
            Err(why) => {
                shared.publish_nobody(why);
                return Err(Lost { step: Step::Discover, server: None, why });
            }
        };
        // Reads go on, uncached, while the links are made; and no read is kept that went by older routes.
        shared.publish(&view);
        let gone = Arc::new(Notify::new());
        let servers = view.servers();
        let links =
            servers.iter().map(|server| Link::establish(shared, server, &caches.keys, Some(caches), &gone));
        let links = try_join_all(links).await?;
        let mut links = Self { links, view, gone };
        let sent = Instant::now();
        links.check(shared).await?;
        caches.link.up(sent);
        Ok(links)
    }

    /// Returns when a link or a server is lost, with the reason.
    async fn keep(mut self, shared: &Shared, caches: &Caches) -> Lost {
        let mut sent = Instant::now();
        loop {
            tokio::select! {
                () = self.gone.notified() => {
                    return Lost { step: Step::Keep, server: None, why: Unavailable::Down };
                }
                () = sleep_until(sent + ASK_EVERY) => {}
                () = shared.stale.notified() => sleep_until(sent + MIN_PAUSE).await,
            }
            sent = Instant::now();
            if let Err(lost) = self.check(shared).await {
                return lost;
            }
            caches.link.prove(sent);
        }
    }

    /// Asks everybody whether these are still the servers that hold the records, and all of them.
    async fn check(&mut self, shared: &Shared) -> Result<(), Lost> {
        match &shared.topology {
            Topology::One(_) => self.ask_all(&redis::cmd("PING")).await.map(|_| ()),
            Topology::Sentinel(sentinels) => self.check_master(sentinels).await,
            Topology::Cluster(_) => self.check_owners(shared).await,
        }
    }

    async fn ask_all(&mut self, command: &redis::Cmd) -> Result<Vec<Value>, Lost> {
        join_all(self.links.iter_mut().map(|link| link.ask(command))).await.into_iter().collect()
    }

    async fn check_master(&mut self, sentinels: &Sentinels) -> Result<(), Lost> {
        let owner = self.view.owners().first().cloned();
        let role = redis::cmd("ROLE");
        let (answers, named) =
            tokio::join!(self.ask_all(&role), sentinels.master_by(Instant::now() + SENTINELS_WITHIN));
        for (link, answer) in self.links.iter().zip(answers?) {
            says_master(&answer).map_err(|why| link.lost(why))?;
        }
        match named {
            Ok(master) if Some(&master) != owner.as_ref() => {
                Err(Lost { step: Step::Keep, server: owner, why: NoMaster::Replaced.into() })
            }
            // Sentinels that cannot be reached do not speak against the master.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whoever any node of the cluster takes for an owner of slots must be linked to.
    async fn check_owners(&mut self, shared: &Shared) -> Result<(), Lost> {
        let answers = self.ask_all(&cluster_slots()).await?;
        let mut maps = Vec::with_capacity(answers.len());
        for (link, answer) in self.links.iter().zip(answers) {
            let map = read_map(Some(answer), &link.server).map_err(|why| link.lost(why))?;
            let linked = |owner: &Address| self.links.iter().any(|link| link.server == *owner);
            if !map.owners.iter().all(linked) {
                return Err(link.lost(NoMaster::Moved.into()));
            }
            maps.push(map);
        }
        // Where nodes differ for a moment, the first is as good as any: whoever is asked wrongly says so.
        if let Some(map) = maps.into_iter().next() {
            self.view = View::Cluster(map);
            shared.publish(&self.view);
        }
        Ok(())
    }
}
