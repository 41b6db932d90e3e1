//! How the gateway tells a sidecar who is calling: a JWT of half a minute in one header.
//!
//! Signed with Ed25519, header `{"typ":"imgate-assertion+jwt","alg":"EdDSA","kid":...}` and nothing
//! else in it; the key id is the public key's RFC 7638 thumbprint. The claims are `iss` (`imgate`),
//! `aud` (the upstream's name), `sub`, `sid`, `device`, `platform`, `roles`, `op`, `iat` and `exp`.
//! Signer and verifier are both here, so that they cannot drift apart.

use std::fmt;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::session::SessionId;
use crate::time::UnixTime;
use crate::user::{Platform, UserId};

/// The name of the header that carries the assertion.
pub const HEADER: &str = "x-imgate-assertion";

/// How long an assertion is valid.
pub const LIFE: Duration = Duration::from_secs(30);

/// How far the sidecar's clock may be from the gateway's.
pub const LEEWAY: Duration = Duration::from_secs(5);

/// The longest assertion that is read, in bytes.
const MAX_LEN: usize = 4096;

/// The `iss` of every assertion.
const ISSUER: &str = "imgate";

/// Its own type, so that no other JWT passes for an assertion. Source: RFC 8725 section 3.11.
const TYPE: &str = "imgate-assertion+jwt";

/// Who is calling. An admin whose name is also a user id is still not that user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// An OpenIM user.
    User {
        /// The user.
        user: UserId,
        /// The kind of device.
        platform: Platform,
        /// The session, where the credential has one.
        session: Option<SessionId>,
        /// The device, as the app names it, where the credential has one.
        device: Option<Box<str>>,
    },
    /// An admin, known by a JWT of the operator's own issuer.
    Admin {
        /// The subject of that JWT.
        subject: Box<str>,
    },
}

/// What an assertion says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who is calling.
    pub caller: Caller,
    /// The roles the caller has, as the operator's issuer names them.
    pub roles: Vec<Box<str>>,
    /// The upstream it is meant for.
    pub audience: Box<str>,
    /// The operation id of the request.
    pub operation: Box<str>,
    /// When it was made.
    pub issued_at: UnixTime,
    /// The first second in which it is no longer valid.
    pub expires_at: UnixTime,
}

impl Claims {
    /// States who calls `audience` at `now`; valid for [`LIFE`].
    pub fn new(caller: Caller, roles: Vec<Box<str>>, audience: &str, operation: &str, now: UnixTime) -> Self {
        let (audience, operation) = (audience.into(), operation.into());
        Self { caller, roles, audience, operation, issued_at: now, expires_at: now.plus(LIFE) }
    }
}

/// The PEM is not an Ed25519 key of the kind that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Not a private key as `openssl genpkey -algorithm ed25519` writes it.
    #[error("not an Ed25519 private key in PKCS#8 PEM")]
    Private,
    /// Not a public key as `openssl pkey -pubout` writes it.
    #[error("not an Ed25519 public key in SubjectPublicKeyInfo PEM")]
    Public,
}

/// Why an assertion is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionFault {
    /// Longer than 4 KiB.
    #[error("assertion is longer than 4 KiB")]
    TooLong,
    /// Not a compact JWT with the claims of an assertion.
    #[error("assertion is not a JWT with the claims it should have")]
    Malformed,
    /// Another algorithm, type or key id, or a header parameter that does not belong.
    #[error("assertion has another header than it should")]
    Header,
    /// The signature is not this key's.
    #[error("assertion is not signed by this key")]
    Signature,
    /// Not made by the gateway.
    #[error("assertion has another issuer")]
    Issuer,
    /// Meant for another upstream.
    #[error("assertion is meant for another upstream")]
    Audience,
    /// Its time has run out.
    #[error("assertion has expired")]
    Expired,
    /// Its time has not come.
    #[error("assertion is not valid yet")]
    NotYetValid,
    /// It would be valid for longer than an assertion may.
    #[error("assertion claims too long a life")]
    TooLongLived,
}

impl AssertionFault {
    /// Names the cause for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Header => "header",
            Self::Signature => "signature",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::TooLongLived => "too_long_lived",
        }
    }
}

/// The claims as JSON.
#[derive(Serialize, Deserialize)]
struct Wire {
    iss: String,
    aud: String,
    sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    roles: Vec<Box<str>>,
    op: Box<str>,
    iat: UnixTime,
    exp: UnixTime,
    /// Never written, but honoured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<UnixTime>,
}

impl From<&Claims> for Wire {
    fn from(claims: &Claims) -> Self {
        let (sub, sid, device, platform) = match &claims.caller {
            Caller::User { user, platform, session, device } => {
                let sid = session.as_ref().map(SessionId::to_string);
                (user.as_str().to_owned(), sid, device.clone(), Some(*platform))
            }
            Caller::Admin { subject } => (subject.as_ref().to_owned(), None, None, None),
        };
        Self {
            iss: ISSUER.to_owned(),
            aud: claims.audience.as_ref().to_owned(),
            sub,
            sid,
            device,
            platform,
            roles: claims.roles.clone(),
            op: claims.operation.clone(),
            iat: claims.issued_at,
            exp: claims.expires_at,
            nbf: None,
        }
    }
}

impl Wire {
    fn check(&self, audience: &str, now: UnixTime) -> Result<(), AssertionFault> {
        if self.iss != ISSUER {
            return Err(AssertionFault::Issuer);
        }
        if self.aud != audience {
            return Err(AssertionFault::Audience);
        }
        let latest = now.plus(LEEWAY);
        if self.iat > latest || self.nbf.is_some_and(|nbf| nbf > latest) {
            return Err(AssertionFault::NotYetValid);
        }
        if self.exp > self.iat.plus(LIFE) {
            return Err(AssertionFault::TooLongLived);
        }
        if now >= self.exp.plus(LEEWAY) {
            return Err(AssertionFault::Expired);
        }
        Ok(())
    }

    /// Who the claims speak of: only users have a platform, a session or a device.
    fn caller(&self) -> Result<Caller, AssertionFault> {
        let Some(platform) = self.platform else {
            if self.sub.is_empty() || self.sid.is_some() || self.device.is_some() {
                return Err(AssertionFault::Malformed);
            }
            return Ok(Caller::Admin { subject: self.sub.as_str().into() });
        };
        let user = UserId::parse(&self.sub).map_err(|_| AssertionFault::Malformed)?;
        let session = self.sid.as_deref().map(SessionId::parse).transpose();
        let session = session.map_err(|_| AssertionFault::Malformed)?;
        Ok(Caller::User { user, platform, session, device: self.device.clone() })
    }
}

/// The gateway's side: makes assertions.
#[derive(Clone)]
pub struct AssertionKey {
    key: EncodingKey,
    header: Header,
}

/// The sidecar's side: believes no assertion but those of one key.
#[derive(Clone)]
pub struct AssertionVerifier {
    key: DecodingKey,
    header: Header,
    validation: Validation,
}

impl AssertionKey {
    /// Reads an Ed25519 private key, PKCS#8 in PEM, and tries it out, so that signing cannot fail later.
    ///
    /// # Errors
    /// The bytes are not such a key.
    pub fn from_pem(pem: &[u8]) -> Result<Self, BadKey> {
        let key = EncodingKey::from_ed_pem(pem).map_err(|_| BadKey::Private)?;
        let public = Jwk::from_encoding_key(&key, Algorithm::EdDSA).map_err(|_| BadKey::Private)?;
        let signer = Self { key, header: header(&public).ok_or(BadKey::Private)? };
        let trial = jsonwebtoken::encode(&signer.header, &(), &signer.key).map_err(|_| BadKey::Private)?;
        let (message, signature) = trial.rsplit_once('.').ok_or(BadKey::Private)?;
        let verifier = DecodingKey::from_jwk(&public).map_err(|_| BadKey::Private)?;
        match jsonwebtoken::crypto::verify(signature, message.as_bytes(), &verifier, Algorithm::EdDSA) {
            Ok(true) => Ok(signer),
            _ => Err(BadKey::Private),
        }
    }

    /// The key's name: the RFC 7638 thumbprint of its public half.
    pub fn kid(&self) -> &str {
        self.header.kid.as_deref().unwrap_or_default()
    }

    /// Makes the assertion, ready to be a header value.
    pub fn sign(&self, claims: &Claims) -> String {
        jsonwebtoken::encode(&self.header, &Wire::from(claims), &self.key)
            .expect("from_pem has signed with this key, and strings and numbers always serialise")
    }
}

impl AssertionVerifier {
    /// Reads an Ed25519 public key, SubjectPublicKeyInfo in PEM.
    ///
    /// # Errors
    /// The bytes are not such a key, or name no point of the curve.
    pub fn from_pem(pem: &[u8]) -> Result<Self, BadKey> {
        let key = DecodingKey::from_ed_pem(pem).map_err(|_| BadKey::Public)?;
        // The library slices the first 32 bytes off whatever it found in the file.
        if key.try_get_as_bytes().map(<[u8]>::len) != Ok(32) {
            return Err(BadKey::Public);
        }
        let nothing = "A".repeat(86);
        jsonwebtoken::crypto::verify(&nothing, b"", &key, Algorithm::EdDSA).map_err(|_| BadKey::Public)?;
        let public = Jwk::from_decoding_key(&key, Some(Algorithm::EdDSA)).map_err(|_| BadKey::Public)?;
        Ok(Self { key, header: header(&public).ok_or(BadKey::Public)?, validation: validation() })
    }

    /// The key's name: the RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        self.header.kid.as_deref().unwrap_or_default()
    }

    /// Checks an assertion that reached `audience` at `now`.
    ///
    /// # Errors
    /// It was not made by this key for this audience, or is not valid at `now`, give or take [`LEEWAY`].
    pub fn verify(&self, token: &str, audience: &str, now: UnixTime) -> Result<Claims, AssertionFault> {
        if token.len() > MAX_LEN {
            return Err(AssertionFault::TooLong);
        }
        let data = jsonwebtoken::decode::<Wire>(token, &self.key, &self.validation)
            .map_err(|error| fault(error.kind()))?;
        // Exactly our header: no `crit`, `jku`, `jwk` or anything else to be ignored.
        if data.header != self.header {
            return Err(AssertionFault::Header);
        }
        let wire = data.claims;
        wire.check(audience, now)?;
        let caller = wire.caller()?;
        Ok(Claims {
            caller,
            roles: wire.roles,
            audience: wire.aud.into(),
            operation: wire.op,
            issued_at: wire.iat,
            expires_at: wire.exp,
        })
    }
}

/// The one header that assertions of this key have.
fn header(public: &Jwk) -> Option<Header> {
    // Any other key type could not have come from an Ed25519 file.
    let AlgorithmParameters::OctetKeyPair(_) = public.algorithm else { return None };
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some(TYPE.to_owned());
    header.kid = Some(public.thumbprint(ThumbprintHash::SHA256).ok()?);
    Some(header)
}

/// What the library checks. Times, issuer and audience are [`Wire::check`]'s: the library would ask
/// the system clock and take a list of audiences.
fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.leeway = LEEWAY.as_secs();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

fn fault(kind: &ErrorKind) -> AssertionFault {
    match kind {
        ErrorKind::InvalidSignature => AssertionFault::Signature,
        ErrorKind::InvalidAlgorithm => AssertionFault::Header,
        _ => AssertionFault::Malformed,
    }
}

impl fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssertionKey({}, ***)", self.kid())
    }
}

impl fmt::Debug for AssertionVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssertionVerifier({})", self.kid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Vectors {
        private_pem: String,
        public_pem: String,
        kid: String,
        now: u64,
        audience: String,
        accepted: Vec<Accepted>,
        refused: Vec<Refused>,
    }

    #[derive(Deserialize)]
    struct Accepted {
        name: String,
        claims: Wire,
        token: String,
    }

    #[derive(Deserialize)]
    struct Refused {
        name: String,
        cause: String,
        token: String,
    }

    fn vectors() -> Vectors {
        serde_json::from_str(include_str!("../vectors/assertion.json")).unwrap()
    }

    fn claims(wire: &Wire) -> Claims {
        Claims::new(wire.caller().unwrap(), wire.roles.clone(), &wire.aud, &wire.op, wire.iat)
    }

    #[test]
    fn signing_gives_the_vectors_byte_for_byte_and_they_verify() {
        let vectors = vectors();
        let key = AssertionKey::from_pem(vectors.private_pem.as_bytes()).unwrap();
        let verifier = AssertionVerifier::from_pem(vectors.public_pem.as_bytes()).unwrap();
        assert_eq!((key.kid(), verifier.kid()), (vectors.kid.as_str(), vectors.kid.as_str()));
        for Accepted { name, claims: wire, token } in &vectors.accepted {
            let claims = claims(wire);
            assert_eq!(key.sign(&claims), *token, "{name}");
            assert_eq!(verifier.verify(token, &wire.aud, UnixTime(vectors.now)), Ok(claims), "{name}");
        }
    }

    #[test]
    fn refused_vectors_are_refused_for_their_cause() {
        let vectors = vectors();
        let verifier = AssertionVerifier::from_pem(vectors.public_pem.as_bytes()).unwrap();
        for Refused { name, cause, token } in &vectors.refused {
            let verdict = verifier.verify(token, &vectors.audience, UnixTime(vectors.now));
            assert_eq!(verdict.map_err(AssertionFault::as_str), Err(cause.as_str()), "{name}");
        }
    }

    #[test]
    fn an_assertion_lives_thirty_seconds_give_or_take_the_leeway() {
        let vectors = vectors();
        let verifier = AssertionVerifier::from_pem(vectors.public_pem.as_bytes()).unwrap();
        let token = &vectors.accepted[0].token;
        let at = |now: u64| verifier.verify(token, "sidecar", UnixTime(now)).map(|_| ());
        assert_eq!(at(vectors.now - 6), Err(AssertionFault::NotYetValid));
        assert_eq!(at(vectors.now - 5), Ok(()));
        assert_eq!(at(vectors.now + 34), Ok(()));
        assert_eq!(at(vectors.now + 35), Err(AssertionFault::Expired));
    }

    #[test]
    fn an_admin_named_like_a_user_is_no_user() {
        let vectors = vectors();
        let key = AssertionKey::from_pem(vectors.private_pem.as_bytes()).unwrap();
        let verifier = AssertionVerifier::from_pem(vectors.public_pem.as_bytes()).unwrap();
        let caller = Caller::Admin { subject: "u1".into() };
        let token = key.sign(&Claims::new(caller.clone(), vec![], "sidecar", "op", UnixTime(9)));
        assert_eq!(verifier.verify(&token, "sidecar", UnixTime(9)).unwrap().caller, caller);
    }

    #[test]
    fn what_is_no_ed25519_key_is_refused() {
        let Vectors { private_pem, public_pem, .. } = vectors();
        let p256 = "-----BEGIN PUBLIC KEY-----\n\
            MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9\n\
            q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==\n\
            -----END PUBLIC KEY-----\n";
        let short = public_pem.replace("MCow", "MCkw");
        for bad in ["", "x", p256, &private_pem, &short] {
            assert_eq!(AssertionVerifier::from_pem(bad.as_bytes()).err(), Some(BadKey::Public), "{bad}");
        }
        for bad in ["", "x", p256, &public_pem] {
            assert_eq!(AssertionKey::from_pem(bad.as_bytes()).err(), Some(BadKey::Private), "{bad}");
        }
    }

    /// Source: RFC 8037 appendix A.3.
    #[test]
    fn the_key_id_is_the_thumbprint_of_the_rfc() {
        let public = DecodingKey::from_ed_components("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let jwk = Jwk::from_decoding_key(&public, Some(Algorithm::EdDSA)).unwrap();
        assert_eq!(header(&jwk).unwrap().kid.as_deref(), Some("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"));
    }

    #[test]
    fn debug_shows_no_key() {
        let vectors = vectors();
        let key = AssertionKey::from_pem(vectors.private_pem.as_bytes()).unwrap();
        assert_eq!(format!("{key:?}"), format!("AssertionKey({}, ***)", vectors.kid));
    }
}
