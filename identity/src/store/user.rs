//! What the store says of a user: a ban, and the OpenIM tokens.

use std::sync::Arc;

use crate::session::Ban;
use crate::time::UnixTime;
use crate::token::OpenimToken;
use crate::user::Platform;

/// What the store says of one user, read in one round trip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The ban, if one is stored; it may be over.
    pub ban: Option<Ban>,
    /// The tokens.
    pub tokens: Tokens,
}

/// A user's OpenIM tokens. They may have expired: ask [`OpenimToken::expired`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tokens {
    /// None is stored.
    #[default]
    None,
    /// One for whatever device.
    One(Arc<OpenimToken>),
    /// One for each kind of device, at the platform's number less one.
    PerPlatform(Box<[Option<Arc<OpenimToken>>; Platform::COUNT]>),
}

impl User {
    /// Finds the token to inject for a session on `platform`.
    pub fn token(&self, platform: Platform) -> Option<&Arc<OpenimToken>> {
        match &self.tokens {
            Tokens::None => None,
            Tokens::One(token) => Some(token),
            Tokens::PerPlatform(tokens) => tokens[usize::from(platform.number()) - 1].as_ref(),
        }
    }

    /// When the first token that still works stops working; `None` if none works.
    pub(super) fn next_expiry(&self, now: UnixTime) -> Option<UnixTime> {
        let tokens: &[Option<Arc<OpenimToken>>] = match &self.tokens {
            Tokens::None => &[],
            Tokens::One(token) => return Some(token.expires_at).filter(|_| !token.expired(now)),
            Tokens::PerPlatform(tokens) => tokens.as_slice(),
        };
        tokens.iter().flatten().filter(|token| !token.expired(now)).map(|token| token.expires_at).min()
    }
}
