//! The token a stock OpenIM SDK carries instead of a signature, derived from the session's secret.
//!
//! SDKs send one opaque string with every request. A client that holds a session makes that string
//! itself: `ig1.<session id>.<expires>.<platform>.<MAC>`, the MAC being base64url of HMAC-SHA256 over all
//! before its dot. Whoever bears it may act as the session until it expires, so it is treated as a
//! secret: `Debug` does not show it.
//!
//! Each token has one spelling. Clocks and sessions are the caller's business.

use std::fmt;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::session::{SessionId, SessionSecret};
use crate::time::UnixTime;
use crate::user::Platform;

/// How every token begins.
pub const VERSION: &str = "ig1";

/// Keeps this key apart from others derived from the same secret.
const INFO: &[u8] = b"imgate/v1/sdk";

/// Characters of base64url for 32 bytes.
const MAC_LEN: usize = 43;

/// The key of one session's tokens.
///
/// It is held as bytes, not as a prepared MAC: every cached session has one and few are used.
#[derive(Clone)]
pub struct TokenKey {
    bytes: Zeroizing<[u8; 32]>,
    purpose: Purpose,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Verify,
    SpendTime,
}

impl TokenKey {
    /// Derives the key from a session's secret: HKDF-SHA256, no salt, info `imgate/v1/sdk`, 32 bytes.
    pub fn derive(secret: &SessionSecret) -> Self {
        Self { bytes: secret.derive(INFO), purpose: Purpose::Verify }
    }

    /// A key that costs as much as any other and verifies nothing, for tokens of unknown sessions.
    pub fn decoy() -> &'static Self {
        static DECOY: LazyLock<TokenKey> =
            LazyLock::new(|| TokenKey { bytes: Zeroizing::new([0; 32]), purpose: Purpose::SpendTime });
        &DECOY
    }

    fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mac = Hmac::new_from_slice(&*self.bytes).expect("HMAC takes a key of any length");
        mac.chain_update(signed)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(***)")
    }
}

/// Why a text is no session token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// More than [`SessionToken::MAX_LEN`] bytes.
    #[error("session token is longer than 89 bytes")]
    TooLong,
    /// Not five parts between dots, of which the first is `ig1`.
    #[error("session token is not ig1.<session>.<expires>.<platform>.<mac>")]
    Form,
    /// The second part is no session id.
    #[error("session token names no session")]
    SessionId,
    /// The third part is not 1 to 15 digits without a leading zero.
    #[error("session token has no expiry in whole seconds")]
    Expiry,
    /// The fourth part is not a platform number that a session may have.
    #[error("session token names no platform that a session may have")]
    Platform,
    /// The fifth part is not 32 bytes of base64url.
    #[error("session token has no MAC of 32 bytes")]
    Mac,
}

impl Malformed {
    /// Names the cause for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "session_token_too_long",
            Self::Form => "session_token_form",
            Self::SessionId => "session_token_session",
            Self::Expiry => "session_token_expiry",
            Self::Platform => "session_token_platform",
            Self::Mac => "session_token_mac",
        }
    }
}

/// The token was not made by this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("session token was made by another key")]
pub struct Mismatch;

/// A token as it was read, not verified yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionToken<'a> {
    /// The session whose key is to be used.
    pub session: SessionId,
    /// The first second in which the token is no longer valid.
    pub expires_at: UnixTime,
    /// The kind of device it was made on.
    pub platform: Platform,
    signed: &'a str,
    mac: [u8; 32],
}

impl<'a> SessionToken<'a> {
    /// The longest token there is, in bytes.
    pub const MAX_LEN: usize =
        VERSION.len() + SessionId::LEN + UnixTime::MAX_DIGITS + "10".len() + MAC_LEN + "....".len();

    /// Reads a token. Each has exactly one spelling.
    ///
    /// # Errors
    /// The bytes are no session token, or one that is spelled otherwise.
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        if raw.len() > Self::MAX_LEN {
            return Err(Malformed::TooLong);
        }
        let text = std::str::from_utf8(raw).map_err(|_| Malformed::Form)?;
        let (signed, mac) = text.rsplit_once('.').ok_or(Malformed::Form)?;
        let mut parts = signed.split('.');
        let (Some(VERSION), Some(session), Some(expires_at), Some(platform), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Malformed::Form);
        };
        Ok(Self {
            session: SessionId::parse(session).map_err(|_| Malformed::SessionId)?,
            expires_at: UnixTime::parse(expires_at).ok_or(Malformed::Expiry)?,
            platform: platform_of_session(platform).ok_or(Malformed::Platform)?,
            signed,
            mac: decode_mac(mac).ok_or(Malformed::Mac)?,
        })
    }

    /// Decides whether `key` made the token, in time that does not depend on where they differ.
    ///
    /// # Errors
    /// Another key made it, or something in it was changed.
    pub fn verify(&self, key: &TokenKey) -> Result<(), Mismatch> {
        let holds = key.mac(self.signed).verify_slice(&self.mac).is_ok();
        if holds && key.purpose == Purpose::Verify { Ok(()) } else { Err(Mismatch) }
    }

    /// Whether its time has run out at `now`.
    pub fn expired(&self, now: UnixTime) -> bool {
        now >= self.expires_at
    }
}

impl fmt::Debug for SessionToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, expires_at, platform, .. } = self;
        write!(f, "SessionToken {{ {session:?}, expires_at: {expires_at}, platform: {platform}, *** }}")
    }
}

/// Makes the token of a session. The client's side: for the command line and tests.
pub fn mint(key: &TokenKey, session: &SessionId, expires_at: UnixTime, platform: Platform) -> Secret<String> {
    let signed = format!("{VERSION}.{session}.{expires_at}.{}", platform.number());
    let mac = URL_SAFE_NO_PAD.encode(key.mac(&signed).finalize().into_bytes());
    Secret::new(format!("{signed}.{mac}"))
}

fn platform_of_session(text: &str) -> Option<Platform> {
    Platform::parse(text).filter(|platform| *platform != Platform::ADMIN)
}

fn decode_mac(text: &str) -> Option<[u8; 32]> {
    let mut mac = [0; 32];
    // The engine refuses padding and non-zero trailing bits, so the form is canonical.
    match URL_SAFE_NO_PAD.decode_slice(text, &mut mac) {
        Ok(32) => Some(mac),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vectors {
        accepted: Vec<Accepted>,
        refused: Vec<Refused>,
    }

    #[derive(Deserialize)]
    struct Accepted {
        name: String,
        secret: String,
        key: String,
        session_id: String,
        expires: u64,
        platform_id: u8,
        token: String,
    }

    #[derive(Deserialize)]
    struct Refused {
        name: String,
        cause: String,
        secret: String,
        token: String,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(include_str!("../vectors/session-token.json")).unwrap()
    }

    fn key(secret: &str) -> TokenKey {
        TokenKey::derive(&SessionSecret::from_base64(secret).unwrap())
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn tokens_are_made_and_read_as_the_vectors_say() {
        let cases = vectors().accepted;
        assert!(cases.len() >= 6);
        for Accepted { name, secret, key: bytes, session_id, expires, platform_id, token } in cases {
            let key = key(&secret);
            assert_eq!(hex(&*key.bytes), bytes, "{name}");
            let session = SessionId::parse(&session_id).unwrap();
            let platform = Platform::try_from(platform_id).unwrap();
            assert_eq!(*mint(&key, &session, UnixTime(expires), platform).expose(), token, "{name}");

            let read = SessionToken::parse(token.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!((read.session, read.platform), (session, platform), "{name}");
            assert_eq!(read.expires_at, UnixTime(expires), "{name}");
            assert_eq!(read.verify(&key), Ok(()), "{name}");
            assert_eq!(read.verify(TokenKey::decoy()), Err(Mismatch), "{name}");
        }
    }

    #[test]
    fn refused_vectors_are_refused_for_their_cause() {
        let cases = vectors().refused;
        assert!(cases.len() >= 30);
        let mut seen = HashSet::new();
        for Refused { name, cause, secret, token } in cases {
            let judged = match SessionToken::parse(token.as_bytes()) {
                Ok(read) => read.verify(&key(&secret)).map_err(|_| "mismatch"),
                Err(malformed) => Err(malformed.as_str().trim_start_matches("session_token_")),
            };
            assert_eq!(judged, Err(cause.as_str()), "{name}");
            seen.insert(cause);
        }
        for cause in ["too_long", "form", "session", "expiry", "platform", "mac", "mismatch"] {
            assert!(seen.remove(cause), "{cause}");
        }
        assert!(seen.is_empty());
    }

    #[test]
    fn bytes_that_are_no_text_are_no_token() {
        assert_eq!(SessionToken::parse(b"ig1.\xff.1.1.x"), Err(Malformed::Form));
    }

    #[test]
    fn a_decoy_accepts_not_even_its_own_token() {
        let session = SessionId::from_bytes([1; 16]);
        let token = mint(TokenKey::decoy(), &session, UnixTime(9), Platform::try_from(1).unwrap());
        let read = SessionToken::parse(token.expose().as_bytes()).unwrap();
        assert_eq!(read.verify(TokenKey::decoy()), Err(Mismatch));
    }

    #[test]
    fn a_token_lives_until_its_second() {
        let case = &vectors().accepted[0];
        let read = SessionToken::parse(case.token.as_bytes()).unwrap();
        assert!(!read.expired(UnixTime(case.expires - 1)));
        assert!(read.expired(UnixTime(case.expires)));
    }

    #[test]
    fn debug_shows_neither_key_nor_mac() {
        let case = &vectors().accepted[0];
        let shown = format!("{:?}", SessionToken::parse(case.token.as_bytes()).unwrap());
        assert!(!shown.contains(case.token.rsplit_once('.').unwrap().1), "{shown}");
        assert_eq!(format!("{:?}", key(&case.secret)), "TokenKey(***)");
    }
}
