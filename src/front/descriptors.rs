//! How many descriptors the process may have open: raised as far as it may be, once, at start.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Raises the bound to the highest that the process may set itself, says so, and returns it; none if there
/// is no bound.
///
/// systemd starts services with a low bound for the sake of select(2), which nothing here uses, and a high
/// one that they may take. Source: systemd.exec(5), `LimitNOFILE=`.
pub fn raise() -> Option<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return number(current);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => {
            info!(from = current, to = maximum, "more descriptors may be open");
            number(maximum)
        }
        Err(error) => {
            warn!(%error, limit = current, "the limit of descriptors cannot be raised");
            number(current)
        }
    }
}

/// The bound as it is; none if there is none.
pub fn limit() -> Option<usize> {
    number(getrlimit(Resource::Nofile).current)
}

fn number(limit: Option<u64>) -> Option<usize> {
    limit.and_then(|limit| usize::try_from(limit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_the_highest_that_may_be_set() {
        let raised = raise();
        assert_eq!(raised, limit());
        assert_eq!(raised, number(getrlimit(Resource::Nofile).maximum));
    }
}
