//! A session's record as Redis holds it: JSON, version first.
//!
//! A record that does not parse is the store's fault, never the user's.

use serde::{Deserialize, Serialize};

use super::SessionSecret;
use crate::secret::Secret;
use crate::time::UnixTime;
use crate::user::{Platform, UserId};

/// The secret that was replaced, and how long it is still honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousSecret {
    /// The secret before the last rotation.
    pub secret: SessionSecret,
    /// The last second in which a signature by it is accepted.
    pub until: UnixTime,
}

/// What a record says of a session, whoever writes or reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose session it is.
    pub user: UserId,
    /// The shared secret.
    pub secret: SessionSecret,
    /// The device, as the app names it.
    pub device: Box<str>,
    /// The kind of device.
    pub platform: Platform,
    /// When the session began.
    pub issued_at: UnixTime,
    /// The first second in which the session is no longer valid.
    pub expires_at: UnixTime,
    /// When it was revoked, if it was.
    pub revoked_at: Option<UnixTime>,
    /// The secret before the last rotation, inside its grace.
    pub previous: Option<PreviousSecret>,
}

/// Why a record cannot be used. None of these is a verdict on the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// Not JSON, or a field is missing, unknown or of the wrong type.
    #[error("record is not the JSON it should be")]
    Json,
    /// A version this build does not know.
    #[error("record has an unknown version")]
    Version,
    /// The secret is not base64 of 32 bytes.
    #[error("secret is not base64 of 32 bytes")]
    Secret,
    /// The platform of OpenIM's admins, which no session may claim.
    #[error("session claims the admin platform")]
    Platform,
}

/// The JSON of a record. Unknown fields are refused: a field that a newer writer relies on must come
/// with a new `v`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRecord<'a> {
    v: u32,
    user_id: UserId,
    #[serde(borrow)]
    secret: std::borrow::Cow<'a, str>,
    device_id: Box<str>,
    platform_id: Platform,
    issued_at: UnixTime,
    expires_at: UnixTime,
    revoked_at: Option<UnixTime>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    previous: Option<WirePrevious<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePrevious<'a> {
    #[serde(borrow)]
    secret: std::borrow::Cow<'a, str>,
    until: UnixTime,
}

/// The version alone, read first so that a newer record is not reported as broken JSON.
#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// Whether it is a record of a version that this build knows.
pub(super) fn check_version(json: &[u8]) -> Result<(), RecordFault> {
    match serde_json::from_slice::<Version>(json) {
        Ok(Version { v: 1 }) => Ok(()),
        Ok(_) => Err(RecordFault::Version),
        Err(_) => Err(RecordFault::Json),
    }
}

impl Record {
    /// Reads the JSON that Redis holds.
    ///
    /// # Errors
    /// The bytes are not a version 1 record, or its secret is not 32 bytes.
    pub fn parse(json: &[u8]) -> Result<Self, RecordFault> {
        check_version(json)?;
        let wire: WireRecord<'_> = serde_json::from_slice(json).map_err(|_| RecordFault::Json)?;
        if wire.platform_id == Platform::ADMIN {
            return Err(RecordFault::Platform);
        }
        let previous = wire
            .previous
            .map(|p| Ok(PreviousSecret { secret: SessionSecret::from_base64(&p.secret)?, until: p.until }))
            .transpose()?;
        Ok(Self {
            user: wire.user_id,
            secret: SessionSecret::from_base64(&wire.secret)?,
            device: wire.device_id,
            platform: wire.platform_id,
            issued_at: wire.issued_at,
            expires_at: wire.expires_at,
            revoked_at: wire.revoked_at,
            previous,
        })
    }

    /// Writes the JSON that Redis is to hold; it contains the secret.
    pub fn to_json(&self) -> Secret<String> {
        let secret = self.secret.to_base64();
        let previous = self.previous.as_ref().map(|p| (p.secret.to_base64(), p.until));
        let wire = WireRecord {
            v: 1,
            user_id: self.user.clone(),
            secret: secret.expose().as_str().into(),
            device_id: self.device.clone(),
            platform_id: self.platform,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
            previous: previous.as_ref().map(|(secret, until)| WirePrevious {
                secret: secret.expose().as_str().into(),
                until: *until,
            }),
        };
        Secret::new(serde_json::to_string(&wire).expect("strings and numbers always serialise"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"v":1,"user_id":"u1","secret":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","device_id":"d1","platform_id":2,"issued_at":5,"expires_at":100,"revoked_at":null}"#;

    #[test]
    fn a_record_survives_the_round_trip() {
        let record = Record::parse(JSON.as_bytes()).unwrap();
        assert_eq!(record.to_json().expose(), JSON);

        let rotated = Record {
            previous: Some(PreviousSecret { secret: SessionSecret::new([9; 32]), until: UnixTime(50) }),
            ..record
        };
        assert_eq!(Record::parse(rotated.to_json().expose().as_bytes()), Ok(rotated));
    }

    #[test]
    fn broken_records_are_told_apart() {
        let cases = [
            ("", RecordFault::Json),
            ("{}", RecordFault::Json),
            ("{\"v\":2}", RecordFault::Version),
            (&JSON.replace("\"v\":1", "\"v\":2"), RecordFault::Version),
            (&JSON.replace("AAEC", "AA"), RecordFault::Secret),
            (&JSON.replace("Hh8=", "Hh9="), RecordFault::Secret),
            (&JSON.replace("\"d1\"", "\"d1\",\"extra\":1"), RecordFault::Json),
            (&JSON.replace("\"platform_id\":2", "\"platform_id\":12"), RecordFault::Json),
            (&JSON.replace("\"platform_id\":2", "\"platform_id\":10"), RecordFault::Platform),
            (&JSON.replace("\"u1\"", "\"a:b\""), RecordFault::Json),
        ];
        for (json, fault) in cases {
            assert_eq!(Record::parse(json.as_bytes()), Err(fault), "{json}");
        }
    }
}
