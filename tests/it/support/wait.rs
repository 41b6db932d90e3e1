//! Waiting for something to become true, with an end.

use std::time::{Duration, Instant};

/// How long a test waits before it gives up.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks until the answer is yes.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, ask: impl FnMut() -> F) {
    within(PATIENCE, what, ask).await;
}

/// Asks until the answer is yes, for at most `patience`.
pub(crate) async fn within<F: Future<Output = bool>>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) {
    let give_up = Instant::now() + patience;
    while !ask().await {
        assert!(Instant::now() < give_up, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
