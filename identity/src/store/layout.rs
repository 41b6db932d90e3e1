//! How records lie in the store: by which names, and sealed or not.

use crate::key::Keys;
use crate::seal::Seals;

/// How records lie in the store. Whoever reads and whoever writes must agree on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// How they are named.
    pub keys: Keys,
    /// How the secrets of sessions are kept.
    pub seals: Seals,
}

impl From<Keys> for Layout {
    /// Records of these names, with plain secrets.
    fn from(keys: Keys) -> Self {
        Self { keys, seals: Seals::Off }
    }
}
