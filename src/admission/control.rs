//! Which part of the requests to refuse, by how long tasks wait for a thread.
//!
//! As in CoDel, what counts is the least delay of an interval: if even that is above the target, there is
//! a line that does not go away, not a burst. Then a larger part is refused, interval by interval, else
//! a smaller one, until it is none. The steps are small, so that the part settles where the line is
//! about as long as the target; they follow time, not samples, which come late when it matters most.
//!
//! Source: Nichols and Jacobson, "Controlling Queue Delay" (2012); Maurer, "Fail at Scale" (2015).

use std::time::Duration;

use tokio::time::Instant;

use super::ShedTerms;

/// How much nearer to all, or to nothing, the part gets in an interval.
const STEP: f64 = 1.0 / 16.0;

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
        let kept = (1.0 - STEP).powf(intervals);
        self.part = if self.least > terms.target { 1.0 - (1.0 - self.part) * kept } else { self.part * kept };
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
    use super::super::Class;
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
        assert!((0.2..0.3).contains(&part), "{part}");
        assert_eq!(feed(&mut control, &mut now, &[0; 400]), 0.0, "and it goes away with the line");
    }

    #[tokio::test(start_paused = true)]
    async fn the_longer_the_line_the_sooner_most_is_refused() {
        let mut now = Instant::now();
        let mut control = Control::new(now);
        // Two samples are enough when they took four seconds.
        let part = feed(&mut control, &mut now, &[2000, 2000]);
        assert!(part > 0.9 && part <= 1.0, "{part}");
    }

    /// A server with one thread and one line, in which the probe stands, too. What came of the requests of
    /// ten seconds, each 10 ms of work (half a millisecond if it is refused): served within 400 ms, served later.
    fn simulate(overload: f64, terms: Option<ShedTerms>) -> (u32, u32) {
        const WORK: f64 = 0.01;
        let start = Instant::now();
        let at = |secs: f64| start + Duration::from_secs_f64(secs);
        let mut control = Control::new(start);
        let pause = terms.map_or(f64::INFINITY, |terms| terms.interval.as_secs_f64() / 2.0);
        let (mut now, mut next, mut due, mut carry) = (0.0_f64, 0.0_f64, pause, 0.0);
        let (mut in_time, mut late) = (0, 0);
        while now < 10.0 {
            // Whoever came first is next; the probe comes when it is due.
            if due <= now && due <= next {
                let delay = Duration::from_secs_f64(now - due);
                control.sample(delay, at(now), terms.unwrap());
                due = now + pause;
                continue;
            }
            if next > now {
                now = next.min(due);
                continue;
            }
            let came = next;
            next += WORK / overload;
            carry += Class::Newcomer.part(control.part);
            let too_late = terms.is_some_and(|terms| now - due > terms.grace().as_secs_f64());
            if carry >= 1.0 || too_late {
                carry -= f64::from(u8::from(carry >= 1.0));
                now += WORK / 20.0;
                continue;
            }
            now += WORK;
            if now - came <= 0.4 { in_time += 1 } else { late += 1 }
        }
        (in_time, late)
    }

    #[tokio::test(start_paused = true)]
    async fn under_overload_what_is_served_is_served_in_time() {
        for (overload, at_least) in [(0.9, 890), (1.3, 900), (3.0, 700), (10.0, 350)] {
            let (in_time, late) = simulate(overload, Some(TERMS));
            assert!(in_time >= at_least && late <= in_time / 5, "{overload}: {in_time}, {late} late");
        }
        let (in_time, late) = simulate(3.0, None);
        assert!(in_time < 100 && late > 800, "{in_time}, {late} late");
    }
}
