//! How much may be tried again.
//!
//! When an upstream falters, every request that is sent twice makes it worse. Repeats of every kind (a
//! stale connection, one that did not open, a request its route says is safe to replay) are paid from
//! one account: a share of the requests that went well, and a little for quiet times.

use std::time::Instant;

use parking_lot::Mutex;

/// The most that is saved up.
const SAVED: f64 = 100.0;

/// What is paid in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// For requests that went well, in percent of their number.
    pub share: u8,
    /// In every second, whatever happens.
    pub per_second: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { share: 20, per_second: 10 }
    }
}

/// The account.
#[derive(Debug)]
pub(super) struct Budget {
    options: Options,
    account: Mutex<Account>,
}

#[derive(Debug)]
struct Account {
    balance: f64,
    at: Instant,
    /// How many requests had gone well by then.
    good: u64,
}

impl Budget {
    pub(super) fn new(options: Options, now: Instant) -> Self {
        Self { options, account: Mutex::new(Account { balance: SAVED, at: now, good: 0 }) }
    }

    /// Pays for one repeat, after so many requests in all that went well.
    pub(super) fn pay(&self, now: Instant, good: u64) -> bool {
        let mut account = self.account.lock();
        let seconds = now.saturating_duration_since(account.at).as_secs_f64();
        let went_well = good.saturating_sub(account.good);
        #[allow(clippy::cast_precision_loss, reason = "beyond 2^53 the account is full anyway")]
        let earned = went_well as f64 * f64::from(self.options.share) / 100.0;
        let paid_in = earned + seconds * f64::from(self.options.per_second);
        let balance = (account.balance + paid_in).min(SAVED);
        let is_enough = balance >= 1.0;
        *account = Account { balance: if is_enough { balance - 1.0 } else { balance }, at: now, good };
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn repeats_are_paid_by_what_went_well_and_by_time() {
        let began = Instant::now();
        let budget = Budget::new(Options { share: 20, per_second: 2 }, began);
        let paid = |at: Instant, good: u64| (0..1000).filter(|_| budget.pay(at, good)).count();
        assert_eq!(paid(began, 0), 100, "what is saved up at the start");
        assert_eq!(paid(began, 50), 10, "a fifth of what went well since");
        let later = began + Duration::from_secs(5);
        assert_eq!(paid(later, 50), 10, "two in a second");
        assert_eq!(paid(later, 1_000_000), 100, "no more than can be saved up");
    }

    #[test]
    fn without_an_account_nothing_is_repeated() {
        let began = Instant::now();
        let budget = Budget::new(Options { share: 0, per_second: 0 }, began);
        (0..100).for_each(|_| assert!(budget.pay(began, 0)));
        assert!(!budget.pay(began + Duration::from_secs(3600), 1_000_000));
    }
}
