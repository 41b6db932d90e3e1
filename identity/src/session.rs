//! The session record behind a signed request, and the ban that may stand beside it.
//!
//! Both are JSON in Redis, version first. The gateway reads them, the backend or the command line
//! writes them. A record that does not parse is the store's fault, never the user's: callers answer
//! 503 and raise an alarm.

mod record;

use std::fmt;
use std::hash::{Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use self::record::check_version;
pub use self::record::{PreviousSecret, Record, RecordFault};
use crate::secret::Secret;
use crate::session_token::TokenKey;
use crate::sign::HttpKey;
use crate::time::UnixTime;
use crate::user::{Platform, UserId};

/// The name of a session: 128 random bits, written as 22 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

/// The text is not 22 characters of canonical base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session id is 22 characters of base64url (128 bits)")]
pub struct BadSessionId;

impl SessionId {
    /// Length of the written form, in characters.
    pub const LEN: usize = 22;

    /// Names the session of these 128 bits.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 128 bits.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Makes a new name from the operating system's random source.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Reads the written form. Each session has exactly one.
    ///
    /// # Errors
    /// The text is not 22 characters of base64url, or its last character carries stray bits.
    pub fn parse(text: &str) -> Result<Self, BadSessionId> {
        if text.len() != Self::LEN {
            return Err(BadSessionId);
        }
        let mut bytes = [0; 16];
        // The engine refuses padding and non-zero trailing bits, so the form is canonical.
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(16) => Ok(Self(bytes)),
            _ => Err(BadSessionId),
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

impl Hash for SessionId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

/// The 32 secret bytes a client and the gateway share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSecret(Secret<[u8; 32]>);

impl SessionSecret {
    /// Takes the 32 bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    /// Makes a new secret from the operating system's random source.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self::new(bytes))
    }

    /// Reads the standard base64 form of a record or of a `--secret-file`.
    ///
    /// # Errors
    /// The text is not padded standard base64 of exactly 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, RecordFault> {
        let mut bytes = [0; 32];
        // `decode_slice` wants room for a whole last group, so check the length of the text first.
        if text.len() != 44 {
            return Err(RecordFault::Secret);
        }
        let decoded = Secret::new(STANDARD.decode(text).map_err(|_| RecordFault::Secret)?);
        if decoded.expose().len() != bytes.len() {
            return Err(RecordFault::Secret);
        }
        bytes.copy_from_slice(decoded.expose());
        Ok(Self::new(bytes))
    }

    /// The standard base64 form, for the record and for the client that is handed the secret.
    pub fn to_base64(&self) -> Secret<String> {
        Secret::new(STANDARD.encode(self.0.expose()))
    }

    /// Derives the key for one purpose, which `info` names: HKDF-SHA256, no salt, 32 bytes.
    pub(crate) fn derive(&self, info: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, self.expose())
            .expand(info, &mut *key)
            .expect("32 bytes are less than the 255 hashes that HKDF can give");
        key
    }

    /// The raw bytes, for key derivation.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

/// A session as the gateway holds it: the record without its secrets, and the keys made from them.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// Whose session it is.
    pub user: UserId,
    /// The device, as the app names it.
    pub device: Box<str>,
    /// The kind of device.
    pub platform: Platform,
    /// When it began.
    pub issued_at: UnixTime,
    /// The first second in which it is no longer valid.
    pub expires_at: UnixTime,
    /// When it was revoked, if it was.
    pub revoked_at: Option<UnixTime>,
    keys: Keys,
    previous: Option<(Keys, UnixTime)>,
}

/// A secret and the keys made from it.
#[derive(Clone, Debug)]
struct Keys {
    secret: SessionSecret,
    http: HttpKey,
    token: TokenKey,
}

impl Keys {
    fn of(secret: &SessionSecret) -> Self {
        Self { secret: secret.clone(), http: HttpKey::derive(secret), token: TokenKey::derive(secret) }
    }
}

/// What may be said of a session at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may be used.
    Live,
    /// Its time has run out.
    Expired,
    /// It was revoked before its time.
    Revoked,
}

impl Session {
    /// Derives the keys of `record` once, so that a request does not.
    pub fn new(id: SessionId, record: &Record) -> Self {
        Self {
            id,
            user: record.user.clone(),
            device: record.device.clone(),
            platform: record.platform,
            issued_at: record.issued_at,
            expires_at: record.expires_at,
            revoked_at: record.revoked_at,
            keys: Keys::of(&record.secret),
            previous: record.previous.as_ref().map(|p| (Keys::of(&p.secret), p.until)),
        }
    }

    /// Judges the session at `now`. Revocation wins: it is the stronger word.
    pub fn standing(&self, now: UnixTime) -> Standing {
        if self.revoked_at.is_some() {
            Standing::Revoked
        } else if now >= self.expires_at {
            Standing::Expired
        } else {
            Standing::Live
        }
    }

    /// The keys a signature made at `now` may have been made with, the current one first.
    pub fn keys(&self, now: UnixTime) -> impl Iterator<Item = &HttpKey> {
        self.honoured(now).map(|keys| &keys.http)
    }

    /// The keys a session token shown at `now` may have been made with, the current one first.
    pub fn token_keys(&self, now: UnixTime) -> impl Iterator<Item = &TokenKey> {
        self.honoured(now).map(|keys| &keys.token)
    }

    /// The secrets behind [`Session::keys`], for a scheme that makes its own key of them.
    pub fn secrets(&self, now: UnixTime) -> impl Iterator<Item = &SessionSecret> {
        self.honoured(now).map(|keys| &keys.secret)
    }

    fn honoured(&self, now: UnixTime) -> impl Iterator<Item = &Keys> {
        let previous = self.previous.as_ref().filter(|(_, until)| now <= *until).map(|(keys, _)| keys);
        std::iter::once(&self.keys).chain(previous)
    }
}

/// A ban on a user, as `imgate:ban:<user>` holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ban {
    v: u32,
    /// The last second of the ban; 0 is without end.
    pub until: UnixTime,
    /// Why, for the operator; never shown to the user.
    pub reason: Box<str>,
}

impl Ban {
    /// Bans until `until`, or without end if it is 0.
    pub fn new(until: UnixTime, reason: &str) -> Self {
        Self { v: 1, until, reason: reason.into() }
    }

    /// Reads the JSON that Redis holds.
    ///
    /// # Errors
    /// The bytes are not a version 1 ban.
    pub fn parse(json: &[u8]) -> Result<Self, RecordFault> {
        check_version(json)?;
        serde_json::from_slice(json).map_err(|_| RecordFault::Json)
    }

    /// Whether the ban holds at `now`.
    pub fn holds(&self, now: UnixTime) -> bool {
        self.until.0 == 0 || now <= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Seals;

    const JSON: &str = r#"{"v":1,"user_id":"u1","secret":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","device_id":"d1","platform_id":2,"issued_at":5,"expires_at":100,"revoked_at":null}"#;

    const ID: SessionId = SessionId::from_bytes([7; 16]);

    fn record(json: &str) -> Record {
        Record::read(&ID, json.as_bytes(), &Seals::Off).unwrap()
    }

    fn session(json: &str) -> Session {
        Session::new(ID, &record(json))
    }

    #[test]
    fn a_session_stands_until_it_expires_or_is_revoked() {
        let live = session(JSON);
        assert_eq!(live.standing(UnixTime(99)), Standing::Live);
        assert_eq!(live.standing(UnixTime(100)), Standing::Expired);
        let revoked = session(&JSON.replace("null", "42"));
        assert_eq!(revoked.standing(UnixTime(1)), Standing::Revoked);
    }

    #[test]
    fn the_previous_key_counts_inside_its_grace_only() {
        let rotated = JSON.replace(
            "\"revoked_at\":null",
            "\"revoked_at\":null,\"previous\":{\"secret\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\",\"until\":50}",
        );
        let session = session(&rotated);
        assert_eq!(session.keys(UnixTime(50)).count(), 2);
        assert_eq!(session.keys(UnixTime(51)).count(), 1);
        assert_eq!(session.secrets(UnixTime(50)).count(), 2);
        assert_eq!(session.secrets(UnixTime(51)).count(), 1);
        assert_eq!(session.token_keys(UnixTime(50)).count(), 2);
        assert_eq!(session.token_keys(UnixTime(51)).count(), 1);
    }

    #[test]
    fn session_ids_have_one_spelling() {
        let id = SessionId::from_bytes([0xff; 16]);
        assert_eq!(SessionId::parse(&id.to_string()), Ok(id));
        for bad in [
            "",
            "AAAAAAAAAAAAAAAAAAAAAB",
            "AAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAA+",
            "AAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(SessionId::parse(bad), Err(BadSessionId), "{bad}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let record = record(JSON);
        assert!(!format!("{record:?}").contains("AAEC"));
        assert!(!format!("{:?}", session(JSON)).contains("[0, 1, 2"));
    }

    #[test]
    fn a_ban_holds_to_its_last_second() {
        let ban = Ban::parse(br#"{"v":1,"until":10,"reason":"spam"}"#).unwrap();
        assert!(ban.holds(UnixTime(10)));
        assert!(!ban.holds(UnixTime(11)));
        assert!(Ban::new(UnixTime(0), "").holds(UnixTime(u64::MAX)));
        assert_eq!(Ban::parse(b"{\"v\":9}"), Err(RecordFault::Version));
    }
}
