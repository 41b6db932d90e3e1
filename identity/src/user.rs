//! OpenIM's names for people and for the kinds of device they use.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An OpenIM user id that is safe in a Redis key, a header, a log line and gRPC metadata.
///
/// 1 to 64 bytes of visible ASCII without `:`.
/// Source: open-im-server `internal/api/user.go` refuses `:`; gRPC metadata takes printable ASCII only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[!-9;-~]{1,64}$"))]
pub struct UserId(Arc<str>);

/// The text is no OpenIM user id: 1 to 64 visible ASCII characters without `:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a user id is 1 to 64 visible ASCII characters without `:`")]
pub struct BadUserId;

impl UserId {
    /// Accepts a well-formed id.
    ///
    /// # Errors
    /// The text is empty, longer than 64 bytes, or has a byte outside visible ASCII or a `:`.
    pub fn parse(text: &str) -> Result<Self, BadUserId> {
        let legal = |b: u8| b.is_ascii_graphic() && b != b':';
        if text.is_empty() || text.len() > 64 || !text.bytes().all(legal) {
            return Err(BadUserId);
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for UserId {
    type Error = BadUserId;

    fn try_from(text: String) -> Result<Self, BadUserId> {
        Self::parse(&text)
    }
}

impl From<UserId> for String {
    fn from(id: UserId) -> Self {
        id.as_str().to_owned()
    }
}

/// A kind of device, by OpenIM's number.
///
/// Source: openimsdk/protocol `constant/constant.go`, 1 to 11.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Platform(u8);

/// The number names no OpenIM platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("platform {0} is not one of OpenIM's 1 to 11")]
pub struct BadPlatform(pub u8);

impl Platform {
    /// The platform of OpenIM's admin tokens; no session and no socket may claim it.
    pub const ADMIN: Self = Self(10);
    /// How many platforms there are; [`Platform::number`] is between 1 and this.
    pub const COUNT: usize = 11;

    const NAMES: [&'static str; Self::COUNT] =
        ["IOS", "Android", "Windows", "OSX", "Web", "MiniWeb", "Linux", "APad", "IPad", "Admin", "HarmonyOS"];

    /// Reads the number in its one decimal spelling: no sign, no leading zero.
    pub fn parse(text: &str) -> Option<Self> {
        let number: u8 = text.parse().ok()?;
        Self::try_from(number).ok().filter(|_| number.to_string() == text)
    }

    /// OpenIM's number for this platform.
    pub fn number(self) -> u8 {
        self.0
    }

    /// OpenIM's name, as in its own Redis keys.
    pub fn name(self) -> &'static str {
        Self::NAMES[usize::from(self.0) - 1]
    }
}

impl TryFrom<u8> for Platform {
    type Error = BadPlatform;

    fn try_from(number: u8) -> Result<Self, BadPlatform> {
        if (1..=11).contains(&number) { Ok(Self(number)) } else { Err(BadPlatform(number)) }
    }
}

impl From<Platform> for u8 {
    fn from(platform: Platform) -> Self {
        platform.0
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_are_plain() {
        for good in ["u1", "user_1", "a", "x@y.z", &"u".repeat(64)] {
            assert!(UserId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a:b", "a b", "a\n", "é", "a\u{7f}", &"u".repeat(65)] {
            assert_eq!(UserId::parse(bad), Err(BadUserId), "{bad:?}");
        }
    }

    #[test]
    fn platforms_are_one_to_eleven() {
        assert!(Platform::try_from(0).is_err());
        assert!(Platform::try_from(12).is_err());
        assert_eq!(Platform::try_from(5).map(Platform::name), Ok("Web"));
        assert_eq!(Platform::parse("11").map(Platform::number), Some(11));
        for bad in ["", "0", "12", "05", "+5", "-5", "5 ", "261"] {
            assert_eq!(Platform::parse(bad), None, "{bad:?}");
        }
        assert_eq!(Platform::ADMIN.name(), "Admin");
    }
}
