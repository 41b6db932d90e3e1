//! Whether changes in Redis reach us, and what that means for what was loaded before.
//!
//! The phase is odd while the tracking link is live and even while it is down; it moves on at every
//! change, and by two when Redis is flushed. An entry carries the phase it was loaded in: it is good
//! in that phase, and in the one right after it only for the stale grace.
//!
//! Time counts from the last proof: the moment a PING was sent that was answered since. Redis sends
//! what it announced before that on the same connection ahead of the answer, so every change made
//! before the proof is known. Hence the bound: once the link dies silently, a changed value is served
//! for at most the longer of [`MAX_SILENCE`] and the stale grace.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How old the last proof may be before a link that nobody called lost is treated as down.
pub(super) const MAX_SILENCE: Duration = Duration::from_millis(1200);

pub(super) struct Link {
    phase: AtomicU64,
    /// The last proof, in nanoseconds since `origin`.
    proof: AtomicU64,
    origin: Instant,
    grace: u64,
    silence: u64,
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl Link {
    /// A link that is not up yet.
    pub(super) fn new(stale_grace: Duration) -> Self {
        Self {
            phase: AtomicU64::new(0),
            proof: AtomicU64::new(0),
            origin: Instant::now(),
            grace: nanos(stale_grace),
            silence: nanos(MAX_SILENCE),
        }
    }

    /// A link that cannot be lost: the store is in this process.
    pub(super) fn embedded() -> Self {
        let link = Self::new(Duration::ZERO);
        link.proof.store(u64::MAX, Ordering::SeqCst);
        link.phase.store(1, Ordering::SeqCst);
        link
    }

    fn at(&self, moment: Instant) -> u64 {
        nanos(moment.saturating_duration_since(self.origin))
    }

    /// Notes that all changes before `sent` are known.
    pub(super) fn prove(&self, sent: Instant) {
        self.proof.fetch_max(self.at(sent), Ordering::SeqCst);
    }

    /// The link works from here on; what was loaded before is done with.
    pub(super) fn up(&self, sent: Instant) {
        self.prove(sent);
        if !is_live(self.phase.load(Ordering::SeqCst)) {
            self.phase.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The link is lost; what was loaded before lives on for the grace. Says whether it was up.
    pub(super) fn lost(&self) -> bool {
        let live = is_live(self.phase.load(Ordering::SeqCst));
        if live {
            self.phase.fetch_add(1, Ordering::SeqCst);
        }
        live
    }

    /// Redis was flushed; what was loaded before is done with.
    pub(super) fn flushed(&self) {
        self.phase.fetch_add(2, Ordering::SeqCst);
    }

    /// The phase, to be compared after a load; `None` while the link is down.
    pub(super) fn live_phase(&self) -> Option<u64> {
        Some(self.phase.load(Ordering::SeqCst)).filter(|phase| is_live(*phase))
    }

    /// Whether an entry that was loaded in `phase` may be served.
    pub(super) fn serves(&self, phase: u64, now: Instant) -> bool {
        // The proof is read first: paired with a later phase it can only be too old.
        let proof = self.proof.load(Ordering::Acquire);
        let window = match self.phase.load(Ordering::Acquire).wrapping_sub(phase) {
            0 => self.silence.max(self.grace),
            1 => self.grace,
            _ => return false,
        };
        self.at(now) < proof.saturating_add(window)
    }

    /// Whether the link is up and was heard of lately.
    pub(super) fn is_live(&self, now: Instant) -> bool {
        let proof = self.proof.load(Ordering::Acquire);
        is_live(self.phase.load(Ordering::Acquire)) && self.at(now) < proof.saturating_add(self.silence)
    }
}

fn is_live(phase: u64) -> bool {
    phase % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn after_a_loss_entries_live_on_for_the_grace_counted_from_the_last_proof() {
        let start = Instant::now();
        let link = Link::new(3000 * MS);
        link.up(start);
        let phase = link.live_phase().unwrap();
        link.prove(start + 500 * MS);
        assert!(link.lost());
        assert!(link.serves(phase, start + 3499 * MS));
        assert!(!link.serves(phase, start + 3500 * MS));
    }

    #[tokio::test(start_paused = true)]
    async fn without_grace_a_loss_ends_entries_at_once() {
        let start = Instant::now();
        let link = Link::new(Duration::ZERO);
        link.up(start);
        let phase = link.live_phase().unwrap();
        assert!(link.serves(phase, start));
        link.lost();
        assert!(!link.serves(phase, start));
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_without_proof_is_down_after_the_silence() {
        let start = Instant::now();
        let link = Link::new(Duration::ZERO);
        link.up(start);
        let phase = link.live_phase().unwrap();
        assert!(link.serves(phase, start + 1199 * MS));
        assert!(!link.serves(phase, start + MAX_SILENCE));
        assert!(!link.is_live(start + MAX_SILENCE));
        link.prove(start + 1000 * MS);
        assert!(link.is_live(start + MAX_SILENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn coming_up_and_flushing_both_end_what_was_loaded_before() {
        let now = Instant::now();
        let link = Link::new(3000 * MS);
        link.up(now);
        let first = link.live_phase().unwrap();
        link.lost();
        assert_eq!(link.live_phase(), None);
        link.up(now);
        assert!(!link.serves(first, now));
        let second = link.live_phase().unwrap();
        link.flushed();
        assert!(link.live_phase().is_some());
        assert!(!link.serves(second, now));
    }

    #[tokio::test(start_paused = true)]
    async fn an_embedded_store_is_never_lost() {
        let link = Link::embedded();
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert!(link.is_live(Instant::now()));
        assert!(link.serves(1, Instant::now()));
    }
}
