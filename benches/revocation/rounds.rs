//! Rounds of deleting a token and putting it back, while its user calls without a pause.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use imgate_identity::key::Keys;
use redis::aio::MultiplexedConnection;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::caller::{Caller, Person, Verdict};
use crate::figures::Figures;

/// How long a change may take to be seen before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long calls go through between two rounds.
const PAUSE: Duration = Duration::from_millis(10);

/// One call of the user whose token is deleted.
struct Call {
    caller: usize,
    sent: Instant,
    answered: Instant,
    verdict: Verdict,
}

/// What the rounds are made with.
pub(crate) struct Rounds {
    pub(crate) gateway: SocketAddr,
    pub(crate) redis: MultiplexedConnection,
    pub(crate) person: Person,
}

/// What the rounds showed.
#[derive(Default)]
pub(crate) struct Measured {
    /// From the moment DEL was sent to the first refusal on any connection.
    pub(crate) first_refusal: Figures,
    /// From Redis' answer to the DEL to the moment the last call left that was still let through;
    /// zero if none was.
    pub(crate) last_pass: Figures,
    /// From a call of the user to its answer, token in place.
    pub(crate) call: Figures,
    /// Calls of everybody, per second.
    pub(crate) rate: f64,
}

impl Rounds {
    /// Makes `rounds` rounds with the user on so many connections and each of the others on one.
    pub(crate) async fn run(&self, rounds: usize, connections: usize, others: &[Person]) -> Measured {
        let (count, mut tasks) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
        let (report, mut calls) = mpsc::unbounded_channel();
        for other in others {
            let caller = Caller::connect(self.gateway, other).await;
            tasks.spawn(keep_busy(caller, Arc::clone(&count)));
        }
        for number in 0..connections {
            let caller = Caller::connect(self.gateway, &self.person).await;
            tasks.spawn(keep_calling(number, caller, report.clone(), Arc::clone(&count)));
        }
        let mut measured = Measured::default();
        seen_by_all(&mut calls, connections, Verdict::Pass, Instant::now(), |_| {}).await;
        let (start, counted) = (Instant::now(), count.load(Ordering::Relaxed));
        for _ in 0..rounds {
            self.round(&mut calls, connections, &mut measured).await;
        }
        assert!(tasks.try_join_next().is_none(), "every caller called to the end");
        measured.rate = (count.load(Ordering::Relaxed) - counted) as f64 / start.elapsed().as_secs_f64();
        measured
    }

    async fn round(
        &self,
        calls: &mut mpsc::UnboundedReceiver<Call>,
        connections: usize,
        measured: &mut Measured,
    ) {
        let (key, mut redis) = (Keys::default().token(&self.person.user), self.redis.clone());
        watch(calls, PAUSE, |call| measured.call.add(call.answered - call.sent)).await;
        let sent = Instant::now();
        redis::cmd("DEL").arg(&key).exec_async(&mut redis).await.unwrap();
        let done = Instant::now();
        let (mut first_refusal, mut last_pass) = (None::<Instant>, None::<Instant>);
        seen_by_all(calls, connections, Verdict::Refuse, sent, |call| match call.verdict {
            Verdict::Refuse => {
                first_refusal = Some(first_refusal.map_or(call.answered, |first| first.min(call.answered)));
            }
            Verdict::Pass => last_pass = last_pass.max(Some(call.sent)),
        })
        .await;
        let since = |from: Instant, to: Option<Instant>| to.unwrap_or(from).saturating_duration_since(from);
        measured.first_refusal.add(since(sent, first_refusal));
        measured.last_pass.add(since(done, last_pass));

        redis::cmd("SET").arg(&key).arg(&self.person.token).exec_async(&mut redis).await.unwrap();
        seen_by_all(calls, connections, Verdict::Pass, Instant::now(), |_| {}).await;
    }
}

/// Looks at calls for a while.
async fn watch(calls: &mut mpsc::UnboundedReceiver<Call>, period: Duration, mut look: impl FnMut(&Call)) {
    let end = tokio::time::Instant::now() + period;
    while let Ok(Some(call)) = tokio::time::timeout_at(end, calls.recv()).await {
        look(&call);
    }
}

/// Looks at calls until each connection had this verdict on a call that left after `since`.
async fn seen_by_all(
    calls: &mut mpsc::UnboundedReceiver<Call>,
    connections: usize,
    verdict: Verdict,
    since: Instant,
    mut look: impl FnMut(&Call),
) {
    let mut seen = vec![false; connections];
    let all = async {
        while seen.contains(&false) {
            let call = calls.recv().await.expect("callers call until they are dropped");
            look(&call);
            seen[call.caller] |= call.verdict == verdict && call.sent >= since;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("{verdict:?} was not seen by all"));
}

async fn keep_busy(mut caller: Caller, count: Arc<AtomicU64>) {
    loop {
        let request = caller.request();
        caller.call(&request).await;
        count.fetch_add(1, Ordering::Relaxed);
    }
}

async fn keep_calling(
    number: usize,
    mut caller: Caller,
    report: mpsc::UnboundedSender<Call>,
    count: Arc<AtomicU64>,
) {
    loop {
        let request = caller.request();
        let sent = Instant::now();
        let verdict = caller.call(&request).await;
        let call = Call { caller: number, sent, answered: Instant::now(), verdict };
        count.fetch_add(1, Ordering::Relaxed);
        if report.send(call).is_err() {
            return;
        }
    }
}
