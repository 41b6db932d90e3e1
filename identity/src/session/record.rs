//! A session's record as Redis holds it: JSON, version first.
//!
//! A record that does not parse is the store's fault, never the user's.

use serde::{Deserialize, Serialize};

use super::{SessionId, SessionSecret};
use crate::seal::{Bound, SealFault, Seals, Slot, is_sealed};
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
    /// A sealed secret that cannot be opened, or a plain one where only sealed ones count.
    #[error(transparent)]
    Seal(#[from] SealFault),
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

impl WireRecord<'_> {
    fn bound<'b>(&'b self, id: &'b SessionId, slot: Slot<'b>) -> Bound<'b> {
        Bound {
            session: id,
            user: &self.user_id,
            device: &self.device_id,
            platform: self.platform_id,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
            previous_until: self.previous.as_ref().map(|previous| previous.until),
            slot,
        }
    }

    fn bound_current<'b>(&'b self, id: &'b SessionId) -> Bound<'b> {
        let previous = self.previous.as_ref().map(|previous| &*previous.secret);
        self.bound(id, Slot::Current { previous })
    }
}

fn parse(json: &[u8]) -> Result<WireRecord<'_>, RecordFault> {
    check_version(json)?;
    let wire: WireRecord<'_> = serde_json::from_slice(json).map_err(|_| RecordFault::Json)?;
    if wire.platform_id == Platform::ADMIN {
        return Err(RecordFault::Platform);
    }
    let previous = wire.previous.as_ref().map(|previous| is_sealed(&previous.secret));
    if previous.is_some_and(|previous| previous != is_sealed(&wire.secret)) {
        return Err(SealFault::Mixed.into());
    }
    Ok(wire)
}

impl Record {
    /// Reads the JSON that Redis holds for the session of this name.
    ///
    /// # Errors
    /// The bytes are not a version 1 record, or a secret of it is not 32 bytes, not in the form that
    /// `seals` asks for, or does not open.
    pub fn read(id: &SessionId, json: &[u8], seals: &Seals) -> Result<Self, RecordFault> {
        let wire = parse(json)?;
        let secret = seals.read(&wire.secret, &wire.bound_current(id))?;
        let previous = match &wire.previous {
            Some(previous) => Some(PreviousSecret {
                secret: seals.read(&previous.secret, &wire.bound(id, Slot::Previous))?,
                until: previous.until,
            }),
            None => None,
        };
        Ok(Self {
            user: wire.user_id,
            secret,
            device: wire.device_id,
            platform: wire.platform_id,
            issued_at: wire.issued_at,
            expires_at: wire.expires_at,
            revoked_at: wire.revoked_at,
            previous,
        })
    }

    /// Writes the JSON that Redis is to hold for the session of this name.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn write(&self, id: &SessionId, seals: &Seals) -> Result<Secret<String>, getrandom::Error> {
        let mut wire = self.without_secrets();
        // The previous secret comes first: the seal of the current one covers its text.
        let old = match &self.previous {
            Some(previous) => Some(seals.write(&previous.secret, &wire.bound(id, Slot::Previous))?),
            None => None,
        };
        wire.previous = self.previous.as_ref().zip(old.as_ref()).map(|(previous, text)| WirePrevious {
            secret: text.expose().as_str().into(),
            until: previous.until,
        });
        let current = seals.write(&self.secret, &wire.bound_current(id))?;
        wire.secret = current.expose().as_str().into();
        Ok(Secret::new(serde_json::to_string(&wire).expect("strings and numbers always serialise")))
    }

    fn without_secrets(&self) -> WireRecord<'_> {
        WireRecord {
            v: 1,
            user_id: self.user.clone(),
            secret: "".into(),
            device_id: self.device.clone(),
            platform_id: self.platform,
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            revoked_at: self.revoked_at,
            previous: self
                .previous
                .as_ref()
                .map(|previous| WirePrevious { secret: "".into(), until: previous.until }),
        }
    }

    /// Whether JSON that can be read has the form that [`Record::write`] would give it now.
    pub(crate) fn is_current(json: &[u8], seals: &Seals) -> Result<bool, RecordFault> {
        let wire = parse(json)?;
        let previous = wire.previous.as_ref().is_none_or(|previous| seals.is_current(&previous.secret));
        Ok(previous && seals.is_current(&wire.secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{Plain, SealKeys};

    const ID: SessionId = SessionId::from_bytes([7; 16]);
    const JSON: &str = r#"{"v":1,"user_id":"u1","secret":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","device_id":"d1","platform_id":2,"issued_at":5,"expires_at":100,"revoked_at":null}"#;

    fn read(json: &str) -> Result<Record, RecordFault> {
        Record::read(&ID, json.as_bytes(), &Seals::Off)
    }

    fn rotated() -> Record {
        let previous = PreviousSecret { secret: SessionSecret::new([9; 32]), until: UnixTime(50) };
        Record { previous: Some(previous), ..read(JSON).unwrap() }
    }

    fn sealing(plain: Plain) -> Seals {
        let keys = "k2 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\nk1 ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
        Seals::On { keys: SealKeys::parse(keys).unwrap(), plain }
    }

    #[test]
    fn a_record_survives_the_round_trip() {
        let record = read(JSON).unwrap();
        assert_eq!(record.write(&ID, &Seals::Off).unwrap().expose(), JSON);
        for record in [record, rotated()] {
            for seals in [Seals::Off, sealing(Plain::Refuse)] {
                let json = record.write(&ID, &seals).unwrap();
                assert_eq!(Record::read(&ID, json.expose().as_bytes(), &seals), Ok(record.clone()));
                assert_eq!(Record::is_current(json.expose().as_bytes(), &seals), Ok(true));
            }
        }
    }

    #[test]
    fn a_sealed_record_shows_no_secret() {
        let sealed = rotated().write(&ID, &sealing(Plain::Refuse)).unwrap();
        let plain = rotated().write(&ID, &Seals::Off).unwrap();
        for secret in [rotated().secret.to_base64(), SessionSecret::new([9; 32]).to_base64()] {
            assert!(plain.expose().contains(secret.expose()) && !sealed.expose().contains(secret.expose()));
        }
    }

    #[test]
    fn plain_and_sealed_records_are_told_apart() {
        let (accept, refuse) = (sealing(Plain::Accept), sealing(Plain::Refuse));
        let sealed = rotated().write(&ID, &refuse).unwrap().expose().clone();
        let plain = rotated().write(&ID, &Seals::Off).unwrap().expose().clone();
        let half = |sealed: &str, plain: &str, field: &str| {
            let mut json: serde_json::Value = serde_json::from_str(plain).unwrap();
            let other: serde_json::Value = serde_json::from_str(sealed).unwrap();
            *json.pointer_mut(field).unwrap() = other.pointer(field).unwrap().clone();
            json.to_string()
        };
        let cases = [
            (&sealed, &refuse, Ok(rotated())),
            (&sealed, &accept, Ok(rotated())),
            (&sealed, &Seals::Off, Err(SealFault::NoKeys)),
            (&plain, &refuse, Err(SealFault::Plain)),
            (&plain, &accept, Ok(rotated())),
            (&half(&sealed, &plain, "/secret"), &accept, Err(SealFault::Mixed)),
            (&half(&sealed, &plain, "/previous/secret"), &accept, Err(SealFault::Mixed)),
        ];
        for (json, seals, expected) in cases {
            let read = Record::read(&ID, json.as_bytes(), seals);
            assert_eq!(read, expected.map_err(RecordFault::Seal), "{json} with {seals:?}");
        }
        assert_eq!(Record::is_current(plain.as_bytes(), &accept), Ok(false));
        let other = Seals::On {
            keys: SealKeys::parse("k3 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap(),
            plain: Plain::Refuse,
        };
        assert_eq!(Record::is_current(sealed.as_bytes(), &other), Ok(false));
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
            assert_eq!(read(json), Err(fault), "{json}");
        }
    }
}
