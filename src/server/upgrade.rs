//! Giving way to a successor: started beside us while we serve, and let to serve when it could.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use sd_notify::NotifyState;
use tokio::process::Child;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::signals::Signals;
use super::{Server, notify};
use crate::handover::{Successor, UpgradeError};
use crate::metrics::UpgradeResult;

/// What came of starting a successor.
pub(super) type Started = Result<Result<Successor, UpgradeError>, JoinError>;

/// A successor that is on its way.
pub(super) struct Upgrade {
    starting: JoinHandle<Result<Successor, UpgradeError>>,
    call_off: CancellationToken,
}

/// Waits for the successor that is on its way, if there is one.
pub(super) async fn started(upgrade: &mut Option<Upgrade>) -> Started {
    let Some(under_way) = upgrade else { return std::future::pending().await };
    let started = (&mut under_way.starting).await;
    *upgrade = None;
    started
}

impl Server {
    /// Starts a successor, unless one is on its way.
    pub(super) fn begin_upgrade(&mut self) {
        if self.upgrade.is_some() {
            warn!("upgrade refused: a successor is on its way already");
            return self.gateway.metrics.reload.upgraded(UpgradeResult::Refused);
        }
        let copy = |(address, socket): &(String, OwnedFd)| Ok((address.clone(), socket.try_clone()?));
        let sockets = match self.sockets.iter().map(copy).collect::<io::Result<Vec<_>>>() {
            Ok(sockets) => sockets,
            Err(error) => return self.failed(&error.into()),
        };
        info!("upgrade: starting a successor");
        notify(&[NotifyState::Status("starting a successor")]);
        let (patience, call_off) = (self.config.limits.upgrade_timeout, CancellationToken::new());
        let called_off = call_off.clone();
        let starting =
            self.housekeeping.spawn(async move { Successor::start(&sockets, patience, &called_off).await });
        self.upgrade = Some(Upgrade { starting, call_off });
    }

    /// Lets a successor serve; `None` if there is none, and all goes on as before.
    pub(super) async fn let_go(&mut self, started: Started) -> Option<Child> {
        let successor = match started {
            Ok(Ok(successor)) => successor,
            Ok(Err(why)) => {
                self.failed(&why);
                return None;
            }
            Err(broken) => {
                self.failed(&UpgradeError::Socket(broken.into()));
                return None;
            }
        };
        match successor.go().await {
            Ok(child) => Some(child),
            Err(why) => {
                self.failed(&why);
                None
            }
        }
    }

    fn failed(&self, why: &UpgradeError) {
        error!("upgrade failed, this process goes on: {why}");
        notify(&[NotifyState::Status("serving; the last upgrade failed")]);
        self.gateway.metrics.reload.upgraded(UpgradeResult::Failed);
    }

    /// Ends a successor that is on its way: it would take over from a process that is to be gone.
    pub(super) async fn call_off_upgrade(&mut self) {
        let Some(upgrade) = self.upgrade.take() else { return };
        upgrade.call_off.cancel();
        if let Ok(Ok(successor)) = upgrade.starting.await {
            successor.call_off().await;
        }
    }

    /// Ends this process behind a successor: it drains, and its sockets live until the drain timeout. A
    /// signal to stop closes those, a second one cuts the rest.
    pub(super) async fn leave(self, mut successor: Child, mut signals: Signals) {
        // The service manager believes this of us alone, as long as we are the one it knows.
        if let Some(pid) = successor.id() {
            notify(&[NotifyState::MainPid(pid), NotifyState::Ready, NotifyState::Status("serving")]);
            info!(pid, "upgrade: the successor serves");
        }
        self.gateway.metrics.reload.upgraded(UpgradeResult::Ok);
        // Or both would answer for the admin listener, and nobody could tell whose metrics he sees.
        self.quit_admin.cancel();
        self.left.iter().for_each(|left| left.store(true, Ordering::Release));
        let (stop, mut lives) = (self.gateway.stop.clone(), true);
        let drained = self.drain();
        tokio::pin!(drained);
        loop {
            tokio::select! {
                () = &mut drained => return,
                ended = successor.wait(), if lives => {
                    lives = false;
                    error!(?ended, "the successor ended while this process drains");
                }
                () = signals.stop() => {
                    if stop.is_cancelled() {
                        warn!("second signal: requests under way are cut");
                        return;
                    }
                    stop.cancel();
                }
            }
        }
    }
}
