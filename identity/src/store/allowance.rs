//! Allowances that gateways share: one number per caller, kept and reckoned with in Redis.
//!
//! Asking is one round trip and one script, which Redis runs as a whole, on one key, by its own clock:
//! clocks and numbers of gateways do not matter. The key has the policy in it, so a policy that changed
//! never reads what was counted under another. What is counted is lost when Redis is flushed.

use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::source::{Redis, unexpected};
use super::{Refusal, Source, Store, Unavailable};
use crate::gcra::{Gcra, Nanos};
use crate::key::short_hash;

/// What Redis runs.
const SCRIPT: &str = include_str!("allowance.lua");

/// The name under which Redis keeps the script: its SHA-1. A test asks Redis for it.
const SCRIPT_SHA1: &str = "321c848a06f139e4b57f6b261e26fb82dacfb298";

/// What is counted together, and how much of it may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    version: Box<str>,
    gcra: Gcra,
}

impl Policy {
    /// Policies that say the same share their counts. `what` tells apart those of one rate.
    pub fn new(what: &str, interval: Duration, burst: u32) -> Self {
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        let gcra = Gcra::new(interval, burst);
        let numbers = [interval.to_be_bytes(), gcra.tolerance().to_be_bytes()].concat();
        Self { version: short_hash([&numbers[..], what.as_bytes()]).into(), gcra }
    }

    /// What stands for it in a key: another one for any other policy.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// What became of a request that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It may pass.
    Passed {
        /// How long from now the caller's allowance is whole again.
        whole_in: Duration,
    },
    /// It comes too early, and was not counted.
    Refused {
        /// How long from now the caller's allowance is whole again.
        whole_in: Duration,
        /// How long from now another one may pass.
        wait: Duration,
    },
}

impl Taken {
    fn passed(whole_in: Nanos) -> Self {
        Self::Passed { whole_in: Duration::from_nanos(whole_in) }
    }

    fn refused(gcra: Gcra, whole_in: Nanos) -> Self {
        let wait = Duration::from_nanos(gcra.early(whole_in, 0));
        Self::Refused { whole_in: Duration::from_nanos(whole_in), wait }
    }

    /// Decides by how long from now the allowance is whole.
    pub(super) fn of(gcra: Gcra, whole_in: Nanos) -> Self {
        gcra.admit(whole_in, 0).map_or_else(|_| Self::refused(gcra, whole_in), Self::passed)
    }

    /// How long from now the allowance is whole again.
    pub fn whole_in(self) -> Duration {
        match self {
            Self::Passed { whole_in } | Self::Refused { whole_in, .. } => whole_in,
        }
    }
}

impl Store {
    /// Counts a request of this caller, for all gateways on this store together.
    ///
    /// # Errors
    /// The store cannot be asked or does not take it. Whether the request was counted is not known then.
    pub async fn take(&self, policy: &Policy, caller: &[u8]) -> Result<Taken, Unavailable> {
        let key = self.caches.keys.rate(policy, caller);
        let taken = match &self.source {
            Source::Redis(redis) => redis.take(&key, policy.gcra, redis.fleet.deadline()).await,
            Source::Memory(memory) => memory.take(&key, policy.gcra),
        };
        taken.inspect_err(|why| self.caches.counters.failed(*why))
    }
}

impl Redis {
    async fn take(&self, key: &str, gcra: Gcra, deadline: Instant) -> Result<Taken, Unavailable> {
        let mut answer = self.run(["EVALSHA", SCRIPT_SHA1], key, gcra, deadline).await?;
        if matches!(&answer, Some(Value::ServerError(error)) if error.code() == "NOSCRIPT") {
            // Redis keeps what it ran once, until it starts anew.
            answer = self.run(["EVAL", SCRIPT], key, gcra, deadline).await?;
        }
        let Some(Value::Array(numbers)) = &answer else { return Err(unexpected(answer)) };
        let [Value::Int(passes), Value::Int(whole_in)] = numbers[..] else {
            return Err(Unavailable::Refused(Refusal::Other));
        };
        let whole_in = u64::try_from(whole_in).unwrap_or(0);
        Ok(if passes == 1 { Taken::passed(whole_in) } else { Taken::refused(gcra, whole_in) })
    }

    async fn run(
        &self,
        [command, script]: [&str; 2],
        key: &str,
        gcra: Gcra,
        deadline: Instant,
    ) -> Result<Option<Value>, Unavailable> {
        let mut asked = redis::cmd(command);
        asked.arg(script).arg(1).arg(key).arg(gcra.interval()).arg(gcra.tolerance());
        Ok(self.fleet.ask(key, vec![asked], deadline).await?.pop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_policy_that_differs_in_anything_has_another_version() {
        let policy = Policy::new("per user", SECOND, 10);
        assert_eq!(policy, Policy::new("per user", SECOND, 10));
        for other in [
            Policy::new("per address", SECOND, 10),
            Policy::new("per user", SECOND, 11),
            Policy::new("per user", SECOND * 2, 10),
            // The same tolerance.
            Policy::new("per user", SECOND * 3, 4),
        ] {
            assert_ne!(policy.version(), other.version(), "{other:?}");
        }
    }

    #[test]
    fn who_is_refused_learns_when_to_come_back() {
        let gcra = Gcra::new(1_000_000_000, 3);
        assert_eq!(Taken::of(gcra, 0), Taken::Passed { whole_in: SECOND });
        assert_eq!(Taken::of(gcra, 2_000_000_000), Taken::Passed { whole_in: 3 * SECOND });
        let half = SECOND / 2;
        let refused = Taken::Refused { whole_in: 2 * SECOND + half, wait: half };
        assert_eq!(Taken::of(gcra, 2_500_000_000), refused);
    }
}
