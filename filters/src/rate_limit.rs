//! Lets each caller, device, address or route through so often and no more.
//!
//! `rate` is what goes on for ever, `burst` how many may come at once; both hold exactly, in any stretch
//! of time, on this node or, `shared`, on all that have one store. A request above them is refused with 429 and told when to come back. What
//! counts by user, session or device needs a proven user above it; what counts by address or route can
//! stand first and spare the rest of the chain. Limits that say the same are one limit wherever they
//! stand, unless `name` tells them apart; a reload keeps its counts.
//!
//! ```yaml
//! - rate_limit: { per: address, rate: 100/s, burst: 200 }
//! - rate_limit: { per: [user, route], rate: 30/m, burst: 10, name: search, max_keys: 100000 }
//! - rate_limit: { per: user, rate: 5/s, burst: 20, scope: shared, when_store_is_away: local }
//! ```

mod key;
mod memory;
mod shared;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use imgate_identity::gcra::Gcra;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer};

pub use self::key::{Part, Per};
use self::memory::Limit;
pub use self::memory::{MAX_KEYS, RateMemory, SharedCounts};
pub use self::shared::{Away, Scope};
use self::shared::{Shared, refused};
use crate::context::{Context, Fact};
use crate::reject::Reject;
use crate::{BuildError, Deps, Filter, Flow, Request, Shadow};

/// The longest an allowance may take to be whole again: a key is remembered that long.
const MAX_REFILL: Duration = Duration::from_secs(24 * 3600);

/// The YAML of this filter. Two that are equal are the same limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is counted by.
    pub per: Per,
    /// How many requests may go on coming.
    pub rate: Rate,
    /// How many may come at once.
    pub burst: u32,
    /// What tells it apart from a limit that says the same.
    #[serde(default)]
    pub name: Option<Box<str>>,
    /// How many keys are held; without it, all limits that do not say share [`MAX_KEYS`] evenly.
    #[serde(default)]
    pub max_keys: Option<usize>,
    /// Who shares an allowance.
    #[serde(default)]
    pub scope: Scope,
    /// What becomes of requests while the store is away, for what is shared.
    #[serde(default)]
    pub when_store_is_away: Option<Away>,
}

/// Why a limit makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLimit {
    /// It would refuse everything.
    #[error("burst is 0, which lets nothing through\nhint: 1 for requests that are evenly spaced")]
    NoBurst,
    /// It could count nobody.
    #[error("max_keys is 0, so nobody could be counted")]
    NoKeys,
    /// Keys would be remembered for too long.
    #[error(
        "burst takes more than a day to be whole again at this rate\nhint: a smaller burst, or a higher rate"
    )]
    SlowRefill,
    /// Nothing is asked of the store.
    #[error(
        "when_store_is_away means nothing for a limit that each gateway counts for itself\nhint: add `scope: shared`, or take it out"
    )]
    NotShared,
}

impl Config {
    pub(crate) fn build(&self, deps: &Deps) -> Result<RateLimit, BuildError> {
        self.check()?;
        let shared = match self.scope {
            Scope::Node => None,
            Scope::Shared => Some(Shared::new(self, &deps.store)),
        };
        Ok(RateLimit { limit: deps.rates.open(self), shared, config: self.clone() })
    }

    fn check(&self) -> Result<(), BadLimit> {
        if self.burst == 0 {
            return Err(BadLimit::NoBurst);
        }
        if self.max_keys == Some(0) {
            return Err(BadLimit::NoKeys);
        }
        if self.scope == Scope::Node && self.when_store_is_away.is_some() {
            return Err(BadLimit::NotShared);
        }
        let refill = Duration::from_nanos(self.rate.interval()).checked_mul(self.burst);
        if refill.is_none_or(|refill| refill > MAX_REFILL) { Err(BadLimit::SlowRefill) } else { Ok(()) }
    }

    fn gcra(&self) -> Gcra {
        Gcra::new(self.rate.interval(), self.burst)
    }
}

/// So many requests in a second, a minute or an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Unit {
    Second,
    Minute,
    Hour,
}

impl Unit {
    const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    fn as_str(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }

    fn secs(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }
}

impl Rate {
    /// The highest rate, per second.
    const MAX: u64 = 1_000_000;

    fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let unit = Unit::ALL.into_iter().find(|known| known.as_str() == unit)?;
        // A sign would get past `parse`.
        let count: u32 = count.bytes().all(|b| b.is_ascii_digit()).then(|| count.parse().ok()).flatten()?;
        (1..=Self::MAX * unit.secs()).contains(&u64::from(count)).then_some(Self { count, unit })
    }

    /// How far apart requests are at this rate, in nanoseconds; rounded up, so never more than the rate.
    pub fn interval(self) -> u64 {
        (self.unit.secs() * 1_000_000_000).div_ceil(u64::from(self.count))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit.as_str())
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+ */ *[smh]$" })
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format!(
                "`{text}` is no rate\nhint: write a whole number per s, m or h, as in 20/s or 100/m; at most {}/s",
                Self::MAX
            ))
        })
    }
}

pub(crate) struct RateLimit {
    config: Config,
    limit: Arc<Limit>,
    shared: Option<Shared>,
}

#[async_trait]
impl Filter for RateLimit {
    fn reads(&self) -> &'static [Fact] {
        self.config.per.reads()
    }

    fn shadow(&self) -> Shadow {
        Shadow::Allowed
    }

    fn summary(&self) -> String {
        let Config { per, rate, burst, scope, .. } = &self.config;
        let together = if *scope == Scope::Shared { ", on all gateways together" } else { "" };
        format!("lets through {rate} per {per}, {burst} at once{together}")
    }

    async fn request(&self, _request: &mut Request<'_>, cx: &mut Context) -> Result<Flow, Reject> {
        let key = self.config.per.key(cx)?;
        match &self.shared {
            Some(shared) => shared.admit(&self.limit, key, cx.arrived).await?,
            None => self.limit.admit(key, cx.arrived).map_err(refused)?,
        }
        Ok(Flow::Continue)
    }
}
