//! What the gateway reads in an OpenIM token before it injects it.
//!
//! The signature is not checked here: OpenIM does that, and only OpenIM holds the key. What is checked
//! is that the token can be put in a header, names the user it is stored for, and has not run out.
//! A fault is the store's, never a verdict on the user.

use std::collections::HashSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::secret::Secret;
use crate::time::UnixTime;
use crate::user::{Platform, UserId};

/// A token that OpenIM minted, with what it says of its bearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenimToken {
    /// Who bears it.
    pub user: UserId,
    /// The kind of device it was minted for; [`Platform::ADMIN`] for an admin.
    pub platform: Platform,
    /// The first second in which OpenIM refuses it.
    pub expires_at: UnixTime,
    raw: Secret<String>,
}

/// Why a stored token cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// More than [`OpenimToken::MAX_LEN`] bytes.
    #[error("token is longer than 4 KiB")]
    TooLong,
    /// Not three parts of base64url with a JSON object of distinct claims in the middle.
    #[error("token is not a compact JWT with distinct claims")]
    Malformed,
    /// `UserID` is missing or no OpenIM user id.
    #[error("token names no well-formed user")]
    BadUser,
    /// `PlatformID` is missing or not 1 to 11.
    #[error("token names no known platform")]
    BadPlatform,
    /// `exp` is missing or not a whole number of seconds.
    #[error("token has no whole number of seconds as its expiry")]
    BadExpiry,
    /// It belongs to another user or platform than the place it was found in.
    #[error("token belongs to another user or platform")]
    Foreign,
}

impl TokenFault {
    /// Names the cause for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::BadUser => "bad_user",
            Self::BadPlatform => "bad_platform",
            Self::BadExpiry => "bad_expiry",
            Self::Foreign => "foreign",
        }
    }
}

impl OpenimToken {
    /// The longest token that is read, in bytes.
    pub const MAX_LEN: usize = 4096;

    /// Reads a token and what it says, whoever it belongs to.
    ///
    /// # Errors
    /// The bytes are no compact JWT, or a claim that is needed is missing or out of range.
    pub fn parse(raw: impl AsRef<[u8]>) -> Result<Self, TokenFault> {
        let raw = raw.as_ref();
        if raw.len() > Self::MAX_LEN {
            return Err(TokenFault::TooLong);
        }
        // The alphabet holds no CR, LF or space, so the text can be put in a header as it is.
        let text = std::str::from_utf8(raw).map_err(|_| TokenFault::Malformed)?;
        let claims: Claims = serde_json::from_slice(&payload(text)?).map_err(|_| TokenFault::Malformed)?;
        Ok(Self {
            user: claims.user.ok_or(TokenFault::BadUser)?,
            platform: claims.platform.ok_or(TokenFault::BadPlatform)?,
            expires_at: claims.expires_at.ok_or(TokenFault::BadExpiry)?,
            raw: Secret::new(text.to_owned()),
        })
    }

    /// Reads the token stored for `user`. Without a `platform` any device's will do, but not an
    /// admin's; an admin's is asked for by [`Platform::ADMIN`].
    ///
    /// # Errors
    /// As [`OpenimToken::parse`], or the token is another user's or another platform's.
    pub fn read(
        raw: impl AsRef<[u8]>,
        user: &UserId,
        platform: Option<Platform>,
    ) -> Result<Self, TokenFault> {
        let token = Self::parse(raw)?;
        let fits = match platform {
            Some(platform) => token.platform == platform,
            None => token.platform != Platform::ADMIN,
        };
        if fits && token.user == *user { Ok(token) } else { Err(TokenFault::Foreign) }
    }

    /// Whether OpenIM would refuse it at `now` for its age.
    pub fn expired(&self, now: UnixTime) -> bool {
        now >= self.expires_at
    }

    /// Lends the token to the code that puts it in a request.
    pub fn expose(&self) -> &str {
        self.raw.expose()
    }
}

/// The middle part, decoded; the outer two only have to be base64url.
fn payload(text: &str) -> Result<Vec<u8>, TokenFault> {
    let mut parts = text.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenFault::Malformed);
    };
    let decode = |part: &str| match URL_SAFE_NO_PAD.decode(part) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(TokenFault::Malformed),
    };
    decode(header)?;
    decode(signature)?;
    decode(payload)
}

/// The claims that matter. `None` is missing or out of range.
#[derive(Default)]
struct Claims {
    user: Option<UserId>,
    platform: Option<Platform>,
    expires_at: Option<UnixTime>,
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ClaimsVisitor)
    }
}

struct ClaimsVisitor;

impl<'de> Visitor<'de> for ClaimsVisitor {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let mut claims = Claims::default();
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            // Go matches names without regard to case, with Unicode folding: `userid` or `U\u{17f}erID`
            // could be what OpenIM reads. Only distinct ASCII names mean the same to both.
            if !name.is_ascii() || !seen.insert(name.to_ascii_lowercase()) {
                return Err(A::Error::custom("ambiguous claim"));
            }
            match name.as_str() {
                "UserID" => claims.user = user(map.next_value()?),
                "PlatformID" => claims.platform = platform(&map.next_value()?),
                "exp" => claims.expires_at = seconds(&map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(claims)
    }
}

fn user(value: serde_json::Value) -> Option<UserId> {
    match value {
        serde_json::Value::String(text) => UserId::parse(&text).ok(),
        _ => None,
    }
}

fn platform(value: &serde_json::Value) -> Option<Platform> {
    u8::try_from(value.as_u64()?).ok()?.try_into().ok()
}

/// The last whole number up to which every float is exact.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Whole seconds, written as an integer or, as Go's `NumericDate` may, as a float.
fn seconds(value: &serde_json::Value) -> Option<UnixTime> {
    if let Some(seconds) = value.as_u64() {
        return Some(UnixTime(seconds));
    }
    let float = value.as_f64().filter(|f| f.fract() == 0.0 && (0.0..=MAX_EXACT).contains(f))?;
    Some(UnixTime(float as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIMS: &str = r#"{"UserID":"u1","PlatformID":5,"exp":2000,"iat":1}"#;

    fn jwt(claims: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(claims), part("signature"))
    }

    fn platform(number: u8) -> Platform {
        Platform::try_from(number).unwrap()
    }

    #[test]
    fn a_token_says_whose_it_is_and_until_when() {
        let token = OpenimToken::parse(jwt(CLAIMS)).unwrap();
        assert_eq!(
            (token.user.as_str(), token.platform, token.expires_at),
            ("u1", platform(5), UnixTime(2000))
        );
        assert_eq!(token.expose(), jwt(CLAIMS));
        assert!(!token.expired(UnixTime(1999)));
        assert!(token.expired(UnixTime(2000)));
    }

    #[test]
    fn claims_out_of_range_are_told_apart() {
        let cases = [
            ("\"u1\"", "\"a:b\"", TokenFault::BadUser),
            ("\"u1\"", "\"\"", TokenFault::BadUser),
            ("\"u1\"", "7", TokenFault::BadUser),
            ("\"u1\"", "\"a\\r\\nb\"", TokenFault::BadUser),
            ("UserID", "userID", TokenFault::BadUser),
            (":5", ":0", TokenFault::BadPlatform),
            (":5", ":12", TokenFault::BadPlatform),
            (":5", ":261", TokenFault::BadPlatform),
            (":5", ":-1", TokenFault::BadPlatform),
            (":5", ":5.0", TokenFault::BadPlatform),
            (":5", ":\"5\"", TokenFault::BadPlatform),
            ("PlatformID", "Platform", TokenFault::BadPlatform),
            ("2000", "2000.5", TokenFault::BadExpiry),
            ("2000", "-1", TokenFault::BadExpiry),
            ("2000", "1e40", TokenFault::BadExpiry),
            ("2000", "\"2000\"", TokenFault::BadExpiry),
            ("2000", "null", TokenFault::BadExpiry),
            ("\"exp\"", "\"nbf\"", TokenFault::BadExpiry),
            ("2000", "1e400", TokenFault::Malformed),
            ("\"iat\"", "\"exp\"", TokenFault::Malformed),
            ("\"iat\"", "\"userid\"", TokenFault::Malformed),
            ("\"iat\"", "\"u\u{17f}erID\"", TokenFault::Malformed),
            ("{", "[", TokenFault::Malformed),
            ("}", "} {}", TokenFault::Malformed),
        ];
        for (from, to, fault) in cases {
            let claims = CLAIMS.replacen(from, to, 1);
            assert_eq!(OpenimToken::parse(jwt(&claims)).err(), Some(fault), "{claims}");
        }
    }

    #[test]
    fn a_whole_float_is_an_expiry() {
        for spelled in ["2e3", "2000.0", "2000"] {
            let token = OpenimToken::parse(jwt(&CLAIMS.replace("2000", spelled))).unwrap();
            assert_eq!(token.expires_at, UnixTime(2000), "{spelled}");
        }
    }

    #[test]
    fn what_is_no_compact_jwt_is_malformed() {
        let good = jwt(CLAIMS);
        let cases = [
            String::new(),
            "..".to_owned(),
            "a.b.c".to_owned(),
            format!("{good}.x"),
            format!("{good}\r\nX-Evil: 1"),
            format!("{good}\n"),
            format!(" {good}"),
            format!("{good}="),
            good.replacen('.', ". ", 1),
            good.replacen("eyJ", "+yJ", 1),
            format!("{}.", good.rsplit_once('.').unwrap().0),
        ];
        for raw in cases {
            assert_eq!(OpenimToken::parse(&raw).err(), Some(TokenFault::Malformed), "{raw:?}");
        }
        assert_eq!(OpenimToken::parse(b"\xff.\xff.\xff").err(), Some(TokenFault::Malformed));
    }

    #[test]
    fn a_token_has_a_longest_length() {
        let padded = |n: usize| jwt(&CLAIMS.replace("\"iat\":1", &format!("\"iat\":\"{}\"", "x".repeat(n))));
        assert!(OpenimToken::parse(padded(2900)).is_ok());
        assert_eq!(OpenimToken::parse(padded(4000)).err(), Some(TokenFault::TooLong));
    }

    #[test]
    fn a_token_in_anothers_place_is_foreign() {
        let (u1, u2) = (UserId::parse("u1").unwrap(), UserId::parse("u2").unwrap());
        let admin = jwt(&CLAIMS.replace(":5", ":10"));
        let user = jwt(CLAIMS);
        let cases = [
            (&user, &u1, None, true),
            (&user, &u1, Some(platform(5)), true),
            (&user, &u1, Some(platform(1)), false),
            (&user, &u2, None, false),
            (&user, &u1, Some(Platform::ADMIN), false),
            (&admin, &u1, Some(Platform::ADMIN), true),
            (&admin, &u2, Some(Platform::ADMIN), false),
            (&admin, &u1, None, false),
        ];
        for (raw, owner, platform, fits) in cases {
            let read = OpenimToken::read(raw, owner, platform);
            assert_eq!(read.err(), (!fits).then_some(TokenFault::Foreign), "{owner} {platform:?}");
        }
    }

    #[test]
    fn debug_shows_no_token() {
        let token = OpenimToken::parse(jwt(CLAIMS)).unwrap();
        assert!(!format!("{token:?}").contains("eyJ"));
    }
}
