//! What a sealed secret is bound to: the associated data of its seal.
//!
//! Twelve fields, each as its length in four bytes, big-endian, and its bytes. Text is UTF-8,
//! a number is written in decimal, what is absent is empty. In order: `imgate/v1/seal`; `secret` or
//! `previous.secret`, for the place it stands in; the session's id as in its key; then of the record
//! `v`, `user_id`, `device_id`, `platform_id`, `issued_at`, `expires_at`, `revoked_at`,
//! `previous.until`; last, for `secret`, the text of `previous.secret`, so that one seal covers all of
//! the record, and for `previous.secret` nothing.
//!
//! A record with another field needs another `v`, and that changes the data.

use crate::session::SessionId;
use crate::time::UnixTime;
use crate::user::{Platform, UserId};

/// Keeps these seals apart from others that may come.
const LABEL: &str = "imgate/v1/seal";

/// What a record says beside the secret that is sealed.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// The session's name.
    pub session: &'a SessionId,
    /// Whose session it is.
    pub user: &'a UserId,
    /// The device.
    pub device: &'a str,
    /// The kind of device.
    pub platform: Platform,
    /// When the session began.
    pub issued_at: UnixTime,
    /// The first second in which it is no longer valid.
    pub expires_at: UnixTime,
    /// When it was revoked, if it was.
    pub revoked_at: Option<UnixTime>,
    /// How long the previous secret is honoured, if there is one.
    pub previous_until: Option<UnixTime>,
    /// Which secret of the record it is.
    pub slot: Slot<'a>,
}

/// A place for a secret in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot<'a> {
    /// `secret`.
    Current {
        /// The text of `previous.secret`, if there is one.
        previous: Option<&'a str>,
    },
    /// `previous.secret`.
    Previous,
}

impl Bound<'_> {
    /// The bytes that the seal covers beside the secret.
    pub(super) fn associated_data(&self) -> Vec<u8> {
        let mut data = Vec::with_capacity(512);
        let number = |time: Option<UnixTime>| time.map_or_else(String::new, |time| time.to_string());
        let (slot, previous) = match self.slot {
            Slot::Current { previous } => ("secret", previous.unwrap_or("")),
            Slot::Previous => ("previous.secret", ""),
        };
        for field in [
            LABEL,
            slot,
            &self.session.to_string(),
            "1",
            self.user.as_str(),
            self.device,
            &self.platform.number().to_string(),
            &self.issued_at.to_string(),
            &self.expires_at.to_string(),
            &number(self.revoked_at),
            &number(self.previous_until),
            previous,
        ] {
            push(&mut data, field);
        }
        data
    }
}

fn push(data: &mut Vec<u8>, field: &str) {
    // A record is at most 16 KiB, so no field of it comes near the end of the range.
    let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
    data.extend_from_slice(&length.to_be_bytes());
    data.extend_from_slice(field.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_spelled_as_agreed() {
        let data = Bound {
            session: &SessionId::from_bytes([0; 16]),
            user: &UserId::parse("u1").unwrap(),
            device: "d\u{e9}",
            platform: Platform::try_from(2).unwrap(),
            issued_at: UnixTime(5),
            expires_at: UnixTime(100),
            revoked_at: None,
            previous_until: Some(UnixTime(0)),
            slot: Slot::Current { previous: Some("p") },
        }
        .associated_data();
        let expected = "\0\0\0\x0eimgate/v1/seal\0\0\0\x06secret\0\0\0\x16AAAAAAAAAAAAAAAAAAAAAA\0\0\0\x011\
                        \0\0\0\x02u1\0\0\0\x03d\u{e9}\0\0\0\x012\0\0\0\x015\0\0\0\x03100\0\0\0\0\0\0\0\x010\0\0\0\x01p";
        assert_eq!(data, expected.as_bytes());
    }
}
