//! Times, and what to say of them.

use std::fmt;
use std::time::Duration;

/// Times that were measured.
#[derive(Default)]
pub(crate) struct Figures(Vec<Duration>);

impl Figures {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }
}

/// Half, 95 and 99 of a hundred, and all were at most this long; in milliseconds, the nearest rank.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        for percent in [50, 95, 99, 100] {
            let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            let time = sorted.get(rank).copied().unwrap_or_default();
            write!(f, " {:>8.3}", time.as_secs_f64() * 1000.0)?;
        }
        Ok(())
    }
}
