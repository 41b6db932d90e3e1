//! Wall-clock time as the records and signatures spell it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment in whole seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// The most digits a moment is written with.
    ///
    /// Source: RFC 8941 section 3.3.1, an integer has at most 15.
    pub const MAX_DIGITS: usize = 15;

    /// Reads the one decimal spelling: 1 to 15 digits, no sign, no leading zero.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = (1..=Self::MAX_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !plain || (text.len() > 1 && text.starts_with('0')) {
            return None;
        }
        text.parse().ok().map(Self)
    }

    /// Reads the system clock. Code that decides takes the time as an argument instead.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(since.as_secs())
    }

    /// The time from `self` until `later`; zero when `later` is past.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_secs(later.0.saturating_sub(self.0))
    }

    /// The distance between two moments, whichever comes first.
    pub fn distance(self, other: Self) -> Duration {
        Duration::from_secs(self.0.abs_diff(other.0))
    }

    /// The moment `span` later, in whole seconds, at most the last one there is.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_secs()))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
