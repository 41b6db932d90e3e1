//! Every Redis key, spelled here and nowhere else.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::session::SessionId;
use crate::store::Policy;
use crate::user::UserId;

/// A key with one place to fill: what stands before it is the prefix that Redis is asked to track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    prefix: Box<str>,
}

/// Why a key template is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// The placeholder is not at the end, or not there.
    #[error("a key template ends in its one placeholder, as in `im:token:{{user_id}}`")]
    Placeholder,
    /// Nothing stands before the placeholder.
    #[error("a key template needs a prefix before its placeholder")]
    Prefix,
    /// Two templates share a prefix, which Redis refuses to track and which would mix up records.
    #[error("two key templates overlap: no prefix may begin another")]
    Overlap,
    /// The store mark holds a brace, which a cluster would read as a hash tag.
    #[error("the store mark holds no brace: it has no placeholder")]
    Mark,
}

impl Template {
    /// Reads `prefix{placeholder}`, as in `im:token:{user_id}`.
    ///
    /// # Errors
    /// The placeholder is not the end of the text, or nothing stands before it.
    pub fn parse(text: &str, placeholder: &str) -> Result<Self, BadTemplate> {
        let prefix = text
            .strip_suffix('}')
            .and_then(|t| t.strip_suffix(placeholder))
            .and_then(|t| t.strip_suffix('{'))
            .ok_or(BadTemplate::Placeholder)?;
        if prefix.contains(['{', '}']) {
            return Err(BadTemplate::Placeholder);
        }
        if prefix.is_empty() {
            return Err(BadTemplate::Prefix);
        }
        Ok(Self { prefix: prefix.into() })
    }

    fn with(&self, value: impl fmt::Display) -> String {
        format!("{}{value}", self.prefix)
    }

    fn value<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&*self.prefix)
    }

    /// The fixed part, for `CLIENT TRACKING ... PREFIX`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// How keys are named when the configuration does not say so.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyConfig {
    /// Session records.
    pub session: String,
    /// Bans.
    pub ban: String,
    /// Users' OpenIM tokens.
    pub token: String,
    /// Admins' OpenIM tokens.
    pub admin_token: String,
    /// Nonces seen, for `replay: redis`; the session and the nonce are appended.
    pub nonce: String,
    /// Allowances that gateways share; the policy and the caller are appended.
    pub rate: String,
    /// The mark that says this is the right store and it was not flushed.
    pub store_mark: String,
}

impl Default for KeyConfig {
    fn default() -> Self {
        Self {
            session: "imgate:session:{session_id}".to_owned(),
            ban: "imgate:ban:{user_id}".to_owned(),
            token: "im:token:{user_id}".to_owned(),
            admin_token: "imgate:admin_token:{user_id}".to_owned(),
            nonce: "imgate:nonce:{nonce}".to_owned(),
            rate: "imgate:rate:{caller}".to_owned(),
            store_mark: "imgate:store".to_owned(),
        }
    }
}

/// The names of all records in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    session: Template,
    ban: Template,
    token: Template,
    admin_token: Template,
    nonce: Template,
    rate: Template,
    store_mark: Box<str>,
}

/// Half a SHA-256 in base64url: what bounds, in a key, text that others chose.
pub(crate) fn short_hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    parts.into_iter().for_each(|part| hash.update(part));
    URL_SAFE_NO_PAD.encode(&hash.finalize()[..16])
}

/// What the name of a canary begins with, in place of an id. No id holds a colon.
const CANARY: &str = ":canary:";

/// The end of a key that puts it into the slot of `tag`.
fn hash_tag(tag: Option<u32>) -> String {
    tag.map_or_else(String::new, |tag| format!("{{{tag}}}"))
}

/// A record that a changed key belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// A session record.
    Session(SessionId),
    /// A user's token or ban.
    User(UserId),
    /// An admin's token.
    Admin(UserId),
}

impl Default for Keys {
    fn default() -> Self {
        Self::new(&KeyConfig::default()).expect("the default templates are well formed and apart")
    }
}

impl Keys {
    /// Checks the templates one by one and against each other.
    ///
    /// # Errors
    /// A template has no prefix or no placeholder at its end, or two prefixes overlap.
    pub fn new(config: &KeyConfig) -> Result<Self, BadTemplate> {
        let keys = Self {
            session: Template::parse(&config.session, "session_id")?,
            ban: Template::parse(&config.ban, "user_id")?,
            token: Template::parse(&config.token, "user_id")?,
            admin_token: Template::parse(&config.admin_token, "user_id")?,
            nonce: Template::parse(&config.nonce, "nonce")?,
            rate: Template::parse(&config.rate, "caller")?,
            store_mark: config.store_mark.as_str().into(),
        };
        if keys.store_mark.contains(['{', '}']) {
            return Err(BadTemplate::Mark);
        }
        let mut all: Vec<&str> = keys.tracked_prefixes().to_vec();
        all.extend([keys.nonce.prefix(), keys.rate.prefix()]);
        for (i, a) in all.iter().enumerate() {
            let clash = |b: &&str| a.starts_with(*b) || b.starts_with(a);
            if all[i + 1..].iter().any(clash) || keys.store_mark.starts_with(a) {
                return Err(BadTemplate::Overlap);
            }
        }
        Ok(keys)
    }

    /// Where the record of a session is.
    pub fn session(&self, id: &SessionId) -> String {
        self.session.with(id)
    }

    /// What the key of every session begins with.
    pub(crate) fn session_prefix(&self) -> &str {
        self.session.prefix()
    }

    /// Where a user's ban is.
    pub fn ban(&self, user: &UserId) -> String {
        self.ban.with(user)
    }

    /// Where a user's OpenIM token is: a string, or a hash by platform number.
    pub fn token(&self, user: &UserId) -> String {
        self.token.with(user)
    }

    /// Where an OpenIM admin's token is.
    pub fn admin_token(&self, admin: &UserId) -> String {
        self.admin_token.with(admin)
    }

    /// Where the use of a nonce is noted.
    pub fn nonce(&self, session: &SessionId, nonce: &str) -> String {
        format!("{}{session}:{nonce}", self.nonce.prefix)
    }

    /// Where it is noted what is left to a caller under a policy.
    pub(crate) fn rate(&self, policy: &Policy, caller: &[u8]) -> String {
        format!("{}{}:{}", self.rate.prefix, policy.version(), short_hash([caller]))
    }

    /// Where the store mark is.
    pub fn store_mark(&self) -> &str {
        &self.store_mark
    }

    /// Where the store mark of one slot of a cluster is: each slot bears its own, beside the records it
    /// vouches for. Without a hash tag, the one mark there is.
    pub(crate) fn store_mark_in(&self, tag: Option<u32>) -> String {
        format!("{}{}", self.store_mark, hash_tag(tag))
    }

    /// Keys under the tracked prefixes that name no record, by which it is proven that changes are announced.
    pub(crate) fn canaries(&self, serial: u64, tag: Option<u32>) -> [String; 4] {
        let tag = hash_tag(tag);
        self.tracked_prefixes().map(|prefix| format!("{prefix}{CANARY}{serial:016x}{tag}"))
    }

    /// What Redis is asked to announce changes of.
    pub fn tracked_prefixes(&self) -> [&str; 4] {
        [self.session.prefix(), self.ban.prefix(), self.token.prefix(), self.admin_token.prefix()]
    }

    /// Whose record a changed key is; `None` for a key that names no record of ours.
    pub fn classify(&self, key: &[u8]) -> Option<Tracked> {
        let key = std::str::from_utf8(key).ok()?;
        if let Some(id) = self.session.value(key) {
            return SessionId::parse(id).ok().map(Tracked::Session);
        }
        if let Some(user) = self.token.value(key).or_else(|| self.ban.value(key)) {
            return UserId::parse(user).ok().map(Tracked::User);
        }
        UserId::parse(self.admin_token.value(key)?).ok().map(Tracked::Admin)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn keys_are_spelled_as_agreed_and_read_back() {
        let keys = Keys::default();
        let (id, user) = (SessionId::from_bytes([0; 16]), UserId::parse("u1").unwrap());
        let cases = [
            (keys.session(&id), "imgate:session:AAAAAAAAAAAAAAAAAAAAAA", Some(Tracked::Session(id))),
            (keys.ban(&user), "imgate:ban:u1", Some(Tracked::User(user.clone()))),
            (keys.token(&user), "im:token:u1", Some(Tracked::User(user.clone()))),
            (keys.admin_token(&user), "imgate:admin_token:u1", Some(Tracked::Admin(user.clone()))),
            (keys.nonce(&id, "n"), "imgate:nonce:AAAAAAAAAAAAAAAAAAAAAA:n", None),
            (
                keys.rate(&Policy::new("per user", Duration::from_millis(50), 40), b"u1"),
                "imgate:rate:GqAPvUuPfbLQMHL4bFxJ-w:u4IDDbwryroyqQvy4geoSg",
                None,
            ),
            (keys.store_mark_in(None), "imgate:store", None),
            (keys.store_mark_in(Some(7)), "imgate:store{7}", None),
            (keys.canaries(1, None)[0].clone(), "imgate:session::canary:0000000000000001", None),
            (keys.canaries(1, Some(7))[2].clone(), "im:token::canary:0000000000000001{7}", None),
        ];
        for (key, spelled, tracked) in cases {
            assert_eq!(key, spelled);
            assert_eq!(keys.classify(key.as_bytes()), tracked, "{key}");
        }
    }

    #[test]
    fn overlapping_or_bare_templates_are_refused() {
        let with = |token: &str| Keys::new(&KeyConfig { token: token.to_owned(), ..KeyConfig::default() });
        assert_eq!(with("{user_id}").err(), Some(BadTemplate::Prefix));
        assert_eq!(with("im:token:").err(), Some(BadTemplate::Placeholder));
        assert_eq!(with("im:{user_id}:token").err(), Some(BadTemplate::Placeholder));
        assert_eq!(with("imgate:{user_id}").err(), Some(BadTemplate::Overlap));
        assert!(with("chat:im_token:{user_id}").is_ok());
        let mark = KeyConfig { store_mark: "imgate:{store}".to_owned(), ..KeyConfig::default() };
        assert_eq!(Keys::new(&mark).err(), Some(BadTemplate::Mark));
    }
}
