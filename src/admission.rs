//! What is let in when there is more than can be served: refused early, so that the rest is in time.
//!
//! [`Shed`] watches how long tasks wait for a thread and refuses requests when that is too long, before
//! anything is done for them. [`Pacer`] lets new work in at a pace, such as TLS handshakes; cold lookups of the
//! store have one of their own, behind [`imgate_identity::store::Lookups`]. Neither touches sockets that are open, nor the
//! admin listener.

mod control;

use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use imgate_filters::Reject;
pub use imgate_identity::pace::{Crowded, Pace, Pacer};
use tokio::time::{Instant, sleep};

use self::control::Control;

/// How long tasks may wait for a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShedTerms {
    /// The delay above which requests are refused.
    pub target: Duration,
    /// How long it must be above that without a break.
    pub interval: Duration,
}

impl ShedTerms {
    /// How late a measurement may be: by then the delay has been above the target for an interval.
    fn grace(&self) -> Duration {
        self.target + self.interval
    }
}

/// How dear a request is. The cheaper go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// One that begins something: it comes without credentials, or wants a socket.
    Newcomer,
    /// One of somebody who is at work.
    Known,
}

impl Class {
    /// All classes, in the order of the enum.
    pub const ALL: [Self; 2] = [Self::Newcomer, Self::Known];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Newcomer => "newcomer",
            Self::Known => "known",
        }
    }

    /// How many graces a measurement may be late before all of its requests are refused.
    fn graces(self) -> u64 {
        match self {
            Self::Newcomer => 1,
            Self::Known => 2,
        }
    }

    /// Which part of its requests is refused when this part of all is to be: none of those who are known
    /// before all newcomers are.
    fn part(self, of_all: f64) -> f64 {
        match self {
            Self::Newcomer => (2.0 * of_all).min(1.0),
            Self::Known => (2.0 * of_all - 1.0).max(0.0),
        }
    }
}

/// The whole, in the fractions that are counted in.
const WHOLE: f64 = 65_536.0;

/// Refuses a part of the requests while tasks wait for too long.
///
/// The part follows what was measured. While a measurement takes far too long itself, requests do not wait
/// for what will come of it: the line in which they and it stand is known to be that long.
pub struct Shed {
    gates: [Gate; Class::ALL.len()],
    delay_nanos: AtomicU64,
    start: Instant,
    /// When the measurement under way is over if nothing waits, since the start.
    due_nanos: AtomicU64,
    /// How much later it may be; 0 while nothing is measured.
    grace_nanos: AtomicU64,
}

impl Default for Shed {
    fn default() -> Self {
        Self {
            gates: Default::default(),
            delay_nanos: AtomicU64::new(0),
            start: Instant::now(),
            due_nanos: AtomicU64::new(0),
            grace_nanos: AtomicU64::new(0),
        }
    }
}

/// Refuses a part of what comes, evenly: of 25 % each fourth.
#[derive(Default)]
struct Gate {
    /// The part, in fractions of the whole.
    part: AtomicU32,
    /// The sum of the parts so far, whose carries are the refusals.
    sum: AtomicU32,
    refused: AtomicU64,
}

impl Gate {
    fn refuses(&self) -> bool {
        let part = self.part.load(Ordering::Relaxed);
        if part == 0 {
            return false;
        }
        let before = self.sum.fetch_add(part, Ordering::Relaxed);
        before % WHOLE as u32 + part >= WHOLE as u32
    }
}

impl Shed {
    /// Lets a request in, or not.
    ///
    /// # Errors
    /// Tasks wait for too long, and it is one of those that are refused for it.
    pub fn admit(&self, class: Class) -> Result<(), Reject> {
        let gate = &self.gates[class as usize];
        if !gate.refuses() && !self.is_late_for(class) {
            return Ok(());
        }
        gate.refused.fetch_add(1, Ordering::Relaxed);
        Err(Reject::overloaded("queue_delay"))
    }

    /// Whether the measurement under way is so late that it need not be waited for.
    fn is_late_for(&self, class: Class) -> bool {
        let grace = self.grace_nanos.load(Ordering::Relaxed);
        let now = nanos(self.start.elapsed());
        grace > 0 && now.saturating_sub(self.due_nanos.load(Ordering::Relaxed)) > class.graces() * grace
    }

    /// How long tasks waited for a thread at least, when it was last measured.
    pub fn delay(&self) -> Duration {
        Duration::from_nanos(self.delay_nanos.load(Ordering::Relaxed))
    }

    /// Which part of a class's requests is refused now, from 0 to 1.
    pub fn part(&self, class: Class) -> f64 {
        f64::from(self.gates[class as usize].part.load(Ordering::Relaxed)) / WHOLE
    }

    /// How many requests of a class were refused so far.
    pub fn refused(&self, class: Class) -> u64 {
        self.gates[class as usize].refused.load(Ordering::Relaxed)
    }

    /// Measures and adjusts for as long as it is polled, on the runtime that serves, under the terms of
    /// the moment; none is to refuse nothing.
    pub async fn watch(&self, terms: impl Fn() -> Option<ShedTerms>) {
        let mut control = Control::new(Instant::now());
        loop {
            let Some(now) = terms() else {
                control = Control::new(Instant::now());
                self.grace_nanos.store(0, Ordering::Relaxed);
                self.set(0.0, Duration::ZERO);
                sleep(Duration::from_secs(1)).await;
                continue;
            };
            let pause = now.interval / 2;
            self.due_nanos.store(nanos(self.start.elapsed() + pause), Ordering::Relaxed);
            self.grace_nanos.store(nanos(now.grace()), Ordering::Relaxed);
            let delay = measure(pause).await;
            if let Some((part, delay)) = control.sample(delay, Instant::now(), now) {
                self.set(part, delay);
            }
        }
    }

    fn set(&self, of_all: f64, delay: Duration) {
        for class in Class::ALL {
            // Rounded up, so that the whole is the whole.
            let part = (class.part(of_all) * WHOLE).ceil() as u32;
            self.gates[class as usize].part.store(part, Ordering::Relaxed);
        }
        self.delay_nanos.store(nanos(delay), Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Waits for `pause`, then for its turn like a request that has just arrived: until a thread looks for
/// what has happened, and until all that is to be run before is run. How much longer than `pause` it took.
async fn measure(pause: Duration) -> Duration {
    let began = Instant::now();
    sleep(pause).await;
    to_the_end_of_the_line().await;
    began.elapsed().saturating_sub(pause)
}

/// Lets all run that is ready now. A task whose timer has fired may be run before them all, and tokio's
/// `yield_now` puts it off until they are run and sockets were looked at. A task that wakes itself while
/// it runs goes to the end of the line.
///
/// Source: tokio 1.54 `runtime/scheduler/multi_thread/worker.rs`, `schedule_local`.
async fn to_the_end_of_the_line() {
    let mut stood = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut stood, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_of(shed: &Shed, class: Class, requests: u32) -> usize {
        (0..requests).filter(|_| shed.admit(class).is_err()).count()
    }

    #[test]
    fn newcomers_go_before_anybody_who_is_known_does() {
        let shed = Shed::default();
        for (of_all, newcomers, known) in
            [(0.0, 0, 0), (0.125, 250, 0), (0.5, 1000, 0), (0.75, 1000, 500), (1.0, 1000, 1000), (0.0, 0, 0)]
        {
            shed.set(of_all, Duration::ZERO);
            let refused = Class::ALL.map(|class| refused_of(&shed, class, 1000));
            assert_eq!(refused, [newcomers, known], "{of_all}");
        }
        assert_eq!(Class::ALL.map(|class| shed.refused(class)), [3250, 1500]);
    }

    #[test]
    fn a_refusal_is_even_and_says_when_to_come_back() {
        let shed = Shed::default();
        shed.set(0.125, Duration::ZERO);
        let refused: Vec<bool> = (0..16).map(|_| shed.admit(Class::Newcomer).is_err()).collect();
        assert_eq!(refused, [false, false, false, true].repeat(4));
        let hints: std::collections::HashSet<String> = (0..400)
            .filter_map(|_| shed.admit(Class::Newcomer).err())
            .map(|reject| format!("{:?}", reject.hint))
            .collect();
        assert!(hints.len() > 50, "they would all come back together");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_measurement_that_is_far_too_late() {
        let millis = Duration::from_millis;
        let shed = Shed::default();
        shed.due_nanos.store(nanos(millis(5)), Ordering::Relaxed);
        shed.grace_nanos.store(nanos(millis(30)), Ordering::Relaxed);
        for (pause, newcomers, known) in
            [(35, true, true), (1, false, true), (29, false, true), (1, false, false)]
        {
            tokio::time::advance(millis(pause)).await;
            let admitted = Class::ALL.map(|class| shed.admit(class).is_ok());
            assert_eq!(admitted, [newcomers, known], "after {:?}", shed.start.elapsed());
        }
    }

    #[test]
    fn the_wait_of_a_line_of_tasks_is_measured() {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let (tasks, each) = (100, Duration::from_millis(2));
        let delay = runtime.block_on(async move {
            let measured = tokio::spawn(async move {
                for _ in 0..tasks {
                    tokio::spawn(async move { std::thread::sleep(each) });
                }
                measure(Duration::ZERO).await
            });
            measured.await.unwrap()
        });
        // The last one spawned may be run by the side of the line.
        assert!(delay >= (tasks - 1) * each, "{delay:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_load_nothing_is_refused_and_without_terms_nothing_is_kept() {
        let shed = Shed::default();
        let terms = ShedTerms { target: Duration::from_millis(20), interval: Duration::from_millis(10) };
        let watched = shed.watch(|| Some(terms));
        assert!(tokio::time::timeout(Duration::from_secs(10), watched).await.is_err());
        assert_eq!(shed.part(Class::Newcomer), 0.0);
        shed.set(1.0, Duration::from_secs(1));
        assert!(tokio::time::timeout(Duration::from_secs(10), shed.watch(|| None)).await.is_err());
        assert_eq!((shed.part(Class::Known), shed.delay()), (0.0, Duration::ZERO));
        assert!(Class::ALL.iter().all(|class| shed.admit(*class).is_ok()));
    }
}
