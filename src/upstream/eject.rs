//! Leaves out a server that fails, for a while.
//!
//! It takes failures of several callers, as [`Threshold`] says. Never is the last server left out, nor
//! more than a share of them. Each time the pause doubles, and a server that is back gets its part of
//! the requests step by step.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::window::Threshold;

/// When a server is left out, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which failures have a server left out.
    pub threshold: Threshold,
    /// For how long the first time.
    pub pause: Duration,
    /// For how long at the most.
    pub longest_pause: Duration,
    /// The share of the servers that may be left out at once, in percent.
    pub at_most: u8,
}

impl Default for Options {
    fn default() -> Self {
        let threshold = Threshold { failures: 5, users: 3, share: 50, within: Duration::from_secs(10) };
        Self {
            threshold,
            pause: Duration::from_secs(10),
            longest_pause: Duration::from_secs(300),
            at_most: 50,
        }
    }
}

/// Who is left out, and who was lately.
#[derive(Debug)]
pub(super) struct Ejector {
    pub(super) options: Options,
    left_out: Mutex<Vec<LeftOut>>,
}

#[derive(Debug)]
struct LeftOut {
    server: SocketAddr,
    until: Instant,
    pause: Duration,
}

impl LeftOut {
    /// Who did well for as long as it was left out starts from the beginning.
    fn is_remembered(&self, now: Instant) -> bool {
        now < self.until + self.pause
    }
}

impl Ejector {
    pub(super) fn new(options: Options) -> Self {
        Self { options, left_out: Mutex::default() }
    }

    /// Until when this one of so many servers, some of which are down, is left out; `None` if it may
    /// not be.
    pub(super) fn eject(
        &self,
        now: Instant,
        server: SocketAddr,
        servers: usize,
        down: usize,
    ) -> Option<Instant> {
        let mut left_out = self.left_out.lock();
        left_out.retain(|one| one.is_remembered(now));
        let out = left_out.iter().filter(|one| one.server != server && one.until > now).count() + 1;
        if out * 100 > servers * usize::from(self.options.at_most) || out + down >= servers {
            return None;
        }
        let before = left_out.iter().position(|one| one.server == server).map(|i| left_out.swap_remove(i));
        let pause = before.map_or(self.options.pause, |before| before.pause * 2);
        let pause = pause.min(self.options.longest_pause);
        let until = now + pause;
        left_out.push(LeftOut { server, until, pause });
        Some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(n: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], n))
    }

    fn ejector() -> Ejector {
        Ejector::new(Options::default())
    }

    #[test]
    fn never_the_last_server_and_at_most_half_of_them() {
        let now = Instant::now();
        assert!(ejector().eject(now, server(1), 1, 0).is_none());
        let two = ejector();
        assert!(two.eject(now, server(1), 2, 0).is_some());
        assert!(two.eject(now, server(2), 2, 0).is_none());
        let five = ejector();
        let out = (1..=5).filter(|n| five.eject(now, server(*n), 5, 0).is_some()).count();
        assert_eq!(out, 2);
        assert!(ejector().eject(now, server(1), 4, 3).is_none(), "the others are down");
    }

    #[test]
    fn the_pause_doubles_and_is_forgiven_in_time() {
        let (ejector, mut now) = (ejector(), Instant::now());
        let pause = |now| ejector.eject(now, server(1), 2, 0).map(|until| (until - now).as_secs());
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(pause(now), Some(expected));
            now += Duration::from_secs(expected + 1);
        }
        now += Duration::from_secs(300);
        assert_eq!(pause(now), Some(10));
    }
}
