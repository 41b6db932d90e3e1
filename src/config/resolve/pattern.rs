//! Paths as a configuration writes them.

use crate::config::problem::Problem;
use crate::route::{Pattern, check_path};

/// Checks an exact path.
pub(super) fn exact(path: &str) -> Result<(), Problem> {
    check_path(path).map_err(Problem::Path)?;
    if path.contains('%') { Err(Problem::EscapedPath) } else { Ok(()) }
}

/// Checks a prefix.
pub(super) fn prefix(path: &str) -> Result<(), Problem> {
    exact(path)?;
    if path.ends_with('/') { Ok(()) } else { Err(Problem::OpenPrefix) }
}

/// Checks a mount point.
pub(super) fn mount(path: &str) -> Result<(), Problem> {
    exact(path)?;
    if path.ends_with('/') { Err(Problem::OpenMount) } else { Ok(()) }
}

/// An exact path below a mount point.
pub(super) fn exact_at(at: &str, path: &str) -> Pattern {
    Pattern::Exact(format!("{at}{path}").into())
}

/// A prefix below a mount point.
pub(super) fn prefix_at(at: &str, path: &str) -> Pattern {
    Pattern::Prefix(format!("{at}{path}").into())
}
