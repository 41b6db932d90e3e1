//! Sealed secrets: who reads Redis learns none of them, and who writes it makes no session.
//!
//! A sealed secret is `s1.<key id>.<base64url(nonce || ciphertext || tag)>`: AES-256-GCM with a random
//! nonce of 96 bits. Its associated data ([`Bound`]) is the session's id and every other field of its
//! record, so a record that was edited, mixed from two or moved to another session does not open. That
//! is a fault of the store and never a verdict on the user.
//!
//! Not promised: an older record of the same session that is put back does open, so whoever writes Redis
//! can undo a revocation. OpenIM's tokens and bans are not sealed.

mod bound;
mod keys;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

pub use self::bound::{Bound, Slot};
use self::keys::SealKey;
pub use self::keys::{BadKeyId, BadSealKeys, KeyId, SealKeys};
use crate::secret::Secret;
use crate::session::{RecordFault, SessionSecret};

/// What a sealed secret of this scheme begins with.
const SCHEME: &str = "s1.";

const NONCE: usize = 12;
const SECRET: usize = 32;
const TAG: usize = 16;

/// The bytes behind the key id; a multiple of three, so that base64 has one spelling of them.
const SEALED: usize = NONCE + SECRET + TAG;

/// How the secrets of session records are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seals {
    /// Plain. A sealed one cannot be read then.
    #[default]
    Off,
    /// Sealed.
    On {
        /// The keys they are sealed with.
        keys: SealKeys,
        /// What becomes of records that are not.
        plain: Plain,
    },
}

/// What becomes of a record that is not sealed while there are seal keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plain {
    /// It is a fault of the store: whoever may write there could have made it up.
    #[default]
    Refuse,
    /// It is read, for the time in which records are being sealed.
    Accept,
}

/// Why a secret cannot be read. None of these is a verdict on the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealFault {
    /// It is sealed, and there are no seal keys.
    #[error("secret is sealed, and seal keys are missing")]
    NoKeys,
    /// It is plain, and only sealed ones count.
    #[error("secret is not sealed")]
    Plain,
    /// One secret of the record is sealed and the other is not.
    #[error("one secret of the record is sealed and the other is not")]
    Mixed,
    /// It is no sealed secret of a scheme that this build knows.
    #[error("sealed secret is malformed")]
    Malformed,
    /// It names a key that is not among ours.
    #[error("secret is sealed with an unknown key")]
    UnknownKey,
    /// It was edited, or the record was, or it is another record's.
    #[error("secret does not belong to this record, or one of the two was changed")]
    Broken,
}

/// Whether a secret's text is a sealed one. Plain ones are standard base64, which has no dot.
pub(crate) fn is_sealed(text: &str) -> bool {
    text.contains('.')
}

impl Seals {
    /// The key that seals from now on, if any does.
    pub fn active(&self) -> Option<&KeyId> {
        match self {
            Self::Off => None,
            Self::On { keys, .. } => Some(keys.active()),
        }
    }

    /// Writes a secret the way records are to hold it.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub(crate) fn write(
        &self,
        secret: &SessionSecret,
        bound: &Bound<'_>,
    ) -> Result<Secret<String>, getrandom::Error> {
        match self {
            Self::Off => Ok(secret.to_base64()),
            Self::On { keys, .. } => keys.seal(secret, bound).map(Secret::new),
        }
    }

    /// Reads a secret as a record holds it.
    ///
    /// # Errors
    /// It is not in the form that records are to have, or does not open.
    pub(crate) fn read(&self, text: &str, bound: &Bound<'_>) -> Result<SessionSecret, RecordFault> {
        match (self, is_sealed(text)) {
            (Self::Off | Self::On { plain: Plain::Accept, .. }, false) => SessionSecret::from_base64(text),
            (Self::On { plain: Plain::Refuse, .. }, false) => Err(SealFault::Plain.into()),
            (Self::Off, true) => Err(SealFault::NoKeys.into()),
            (Self::On { keys, .. }, true) => Ok(keys.open(text, bound)?),
        }
    }

    /// Whether a secret's text has the form that [`Seals::write`] gives it now.
    pub(crate) fn is_current(&self, text: &str) -> bool {
        match self {
            Self::Off => !is_sealed(text),
            Self::On { keys, .. } => parts(text).is_some_and(|(id, _)| id == keys.active().as_str()),
        }
    }
}

impl SealKeys {
    /// Seals a secret with the active key.
    ///
    /// # Errors
    /// The operating system has no randomness to give.
    pub fn seal(&self, secret: &SessionSecret, bound: &Bound<'_>) -> Result<String, getrandom::Error> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce)?;
        let key = self.active_key();
        let mut bytes = [0; SEALED];
        bytes[..NONCE].copy_from_slice(&nonce);
        bytes[NONCE..NONCE + SECRET].copy_from_slice(secret.expose());
        let tag = cipher(key)
            .encrypt_inout_detached(
                &nonce.into(),
                &bound.associated_data(),
                InOutBuf::from(&mut bytes[NONCE..NONCE + SECRET]),
            )
            .expect("32 bytes and a record are within the bounds of AES-GCM");
        bytes[NONCE + SECRET..].copy_from_slice(&tag);
        Ok(format!("{SCHEME}{}.{}", key.id, URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Opens a sealed secret with the key it names.
    ///
    /// # Errors
    /// It is malformed, names no key of ours, or is not what was sealed for this record.
    pub fn open(&self, sealed: &str, bound: &Bound<'_>) -> Result<SessionSecret, SealFault> {
        let (id, bytes) = parts(sealed).ok_or(SealFault::Malformed)?;
        let key = self.find(id).ok_or(SealFault::UnknownKey)?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE>().ok_or(SealFault::Malformed)?;
        let (secret, tag) = rest.split_first_chunk::<SECRET>().ok_or(SealFault::Malformed)?;
        let tag: &[u8; TAG] = tag.try_into().map_err(|_| SealFault::Malformed)?;
        let mut secret = Zeroizing::new(*secret);
        cipher(key)
            .decrypt_inout_detached(
                nonce.into(),
                &bound.associated_data(),
                InOutBuf::from(&mut secret[..]),
                tag.into(),
            )
            .map_err(|_| SealFault::Broken)?;
        Ok(SessionSecret::new(*secret))
    }
}

fn cipher(key: &SealKey) -> Aes256Gcm {
    Aes256Gcm::new(key.secret.expose().into())
}

/// The key id of a sealed secret, and its bytes.
fn parts(sealed: &str) -> Option<(&str, [u8; SEALED])> {
    let (id, text) = sealed.strip_prefix(SCHEME)?.split_once('.')?;
    // The decoder wants no more than it can fill, and the length tells the rest.
    if text.len() != SEALED / 3 * 4 {
        return None;
    }
    let mut bytes = [0; SEALED];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    (length == SEALED).then_some((id, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionId;
    use crate::time::UnixTime;
    use crate::user::{Platform, UserId};

    fn keys(text: &str) -> SealKeys {
        SealKeys::parse(text).unwrap()
    }

    fn line(id: &str, byte: u8) -> String {
        format!("{id} {}\n", SessionSecret::new([byte; 32]).to_base64().expose())
    }

    fn with_bound<T>(slot: Slot<'_>, then: impl FnOnce(&Bound<'_>) -> T) -> T {
        then(&Bound {
            session: &SessionId::from_bytes([1; 16]),
            user: &UserId::parse("u1").unwrap(),
            device: "d1",
            platform: Platform::try_from(2).unwrap(),
            issued_at: UnixTime(5),
            expires_at: UnixTime(100),
            revoked_at: None,
            previous_until: Some(UnixTime(7)),
            slot,
        })
    }

    #[test]
    fn the_first_key_seals_and_every_key_opens() {
        let secret = SessionSecret::new([7; 32]);
        let (old, new) = (keys(&line("old", 1)), keys(&(line("new", 2) + &line("old", 1))));
        with_bound(Slot::Previous, |bound| {
            let sealed = old.seal(&secret, bound).unwrap();
            assert!(sealed.starts_with("s1.old.") && sealed.len() == "s1.old.".len() + 80, "{sealed}");
            assert_eq!(new.open(&sealed, bound), Ok(secret.clone()));

            let sealed = new.seal(&secret, bound).unwrap();
            assert!(sealed.starts_with("s1.new."), "{sealed}");
            assert_eq!(old.open(&sealed, bound), Err(SealFault::UnknownKey));
            assert_ne!(new.seal(&secret, bound).unwrap(), sealed, "the nonce is fresh");
        });
    }

    #[test]
    fn a_secret_opens_in_its_own_place_only() {
        let keys = keys(&line("k", 1));
        let sealed = with_bound(Slot::Previous, |bound| keys.seal(&SessionSecret::new([7; 32]), bound));
        let sealed = sealed.unwrap();
        let current = Slot::Current { previous: Some("x") };
        assert_eq!(with_bound(current, |bound| keys.open(&sealed, bound)), Err(SealFault::Broken));
    }

    #[test]
    fn what_is_no_sealed_secret_is_told_apart() {
        let seals = Seals::On { keys: keys(&line("k", 1)), plain: Plain::Refuse };
        let text = "A".repeat(80);
        let cases = [
            (format!("s1.k.{text}"), SealFault::Broken),
            (format!("s1.other.{text}"), SealFault::UnknownKey),
            (format!("s1.K.{text}"), SealFault::UnknownKey),
            (format!("s1..{text}"), SealFault::UnknownKey),
            (format!("s2.k.{text}"), SealFault::Malformed),
            (format!("S1.k.{text}"), SealFault::Malformed),
            (format!("s1.k.{text}="), SealFault::Malformed),
            (format!("s1.k.{}", &text[1..]), SealFault::Malformed),
            (format!("s1.k.{}+", &text[1..]), SealFault::Malformed),
            (format!("s1.k.{text}.x"), SealFault::Malformed),
            (format!("s1.{text}"), SealFault::Malformed),
            (".".to_owned(), SealFault::Malformed),
            (String::new(), SealFault::Plain),
            (text, SealFault::Plain),
        ];
        for (sealed, fault) in cases {
            let read = with_bound(Slot::Previous, |bound| seals.read(&sealed, bound));
            assert_eq!(read, Err(RecordFault::Seal(fault)), "{sealed}");
        }
    }
}
