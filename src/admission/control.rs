//! Which part of the requests to refuse, by how long tasks wait for a thread.
//!
//! As in CoDel, what counts is the least delay of an interval: if even that is above the target, there is
//! a line that does not go away, not a burst. Then a larger part is refused, interval by interval, else
//! a smaller one, until it is none. The steps are small, so that the part settles where the line is
//! about as long as the target; they follow time, not samples, which come late when it matters.
//!
//! Source: Nichols and Jacobson, "Controlling Queue Delay" (2012); Maurer, "Fail at Scale" (2015).

use std::time::Duration;

use tokio::time::Instant;

use super::ShedTerms;

/// How much nearer to all the part gets in an interval.
const UP: f64 = 1.0 / 8.0;

/// How much nearer to nothing. Smaller, or the part would swing, and the line with it.
const DOWN: f64 = 1.0 / 32.0;

/// Below this it is nothing.
const LEAST: f64 = 0.02;

/// How many samples an interval has at least: one alone may be a process that was stopped.
const SAMPLES: u32 = 2;

/// What has been measured, and what came of it.
pub(super) struct Control {
    part: f64,
    since: Instant,
    least: Duration,
    samples: u32,
}

impl Control {
    pub(super) fn new(now: Instant) -> Self {
        Self { part: 0.0, since: now, least: Duration::MAX, samples: 0 }
    }

    /// Takes a measured delay. Once an interval it tells the part to refuse, from 0 to 1, and the least
    /// delay.
    pub(super) fn sample(
        &mut self,
        delay: Duration,
        now: Instant,
        terms: ShedTerms,
    ) -> Option<(f64, Duration)> {
        self.least = self.least.min(delay);
        self.samples += 1;
        let took = now.saturating_duration_since(self.since);
        if took < terms.interval || self.samples < SAMPLES {
            return None;
        }
        let intervals = took.div_duration_f64(terms.interval);
        self.part = if self.least > terms.target {
            1.0 - (1.0 - self.part) * (1.0 - UP).powf(intervals)
        } else {
            self.part * (1.0 - DOWN).powf(intervals)
        };
        if self.part < LEAST {
            self.part = 0.0;
        }
        let least = self.least;
        *self = Self { part: self.part, ..Self::new(now) };
        Some((self.part, least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);
    const TERMS: ShedTerms =
        ShedTerms { target: Duration::from_millis(50), interval: Duration::from_millis(100) };

    /// Feeds these delays, each after the pause between samples and the delay itself.
    fn feed(control: &mut Control, now: &mut Instant, delays: &[u32]) -> f64 {
        for delay in delays {
            *now += TERMS.interval / 2 + *delay * MILLI;
            control.sample(*delay * MILLI, *now, TERMS);
        }
        control.part
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_no_overload_and_a_line_that_stays_is() {
        let mut now = Instant::now();
        let mut control = Control::new(now);
        // A process that was stopped for a minute, and delays that go away at once.
        assert_eq!(feed(&mut control, &mut now, &[60_000, 0, 49, 50, 300, 10, 300, 10]), 0.0);
        let part = feed(&mut control, &mut now, &[60, 60, 60, 60]);
        assert!((0.4..0.5).contains(&part), "{part}");
        assert_eq!(feed(&mut control, &mut now, &[0; 400]), 0.0, "and it goes away with the line");
    }

    #[tokio::test(start_paused = true)]
    async fn the_longer_the_line_the_sooner_most_is_refused() {
        let mut now = Instant::now();
        let mut control = Control::new(now);
        // Two samples are enough when they took four seconds.
        let part = feed(&mut control, &mut now, &[2000, 2000]);
        assert!(part > 0.99 && part <= 1.0, "{part}");
    }

    /// A server that does a request in 1 ms, with 2.5 times as many as it can do: the part settles where
    /// it keeps up, and those it serves wait for about the target.
    #[tokio::test(start_paused = true)]
    async fn under_steady_overload_what_is_served_is_served_in_time() {
        let mut now = Instant::now();
        let mut control = Control::new(now);
        let (mut line, mut served, mut in_time) = (0.0_f64, 0.0, 0.0);
        for round in 0..2000 {
            let delay = Duration::from_secs_f64(line / 1000.0);
            let took = TERMS.interval / 2 + delay;
            now += took;
            control.sample(delay, now, TERMS);
            let (came, could) =
                (took.as_secs_f64() * 2500.0 * (1.0 - control.part), took.as_secs_f64() * 1000.0);
            let done = could.min(line + came);
            line = (line + came - done).max(0.0);
            if round > 200 {
                served += done;
                in_time += if delay < 4 * TERMS.target { done } else { 0.0 };
            }
        }
        assert!(in_time > 0.95 * served, "{in_time} of {served}");
        assert!((0.5..0.7).contains(&control.part), "{}", control.part);
    }
}
