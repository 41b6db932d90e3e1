//! A store inside the process with one user in it, cached for as long as a bench runs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use imgate_filters::{Authorities, Deps, ReplayMemory};
use imgate_identity::assertion::AssertionKey;
use imgate_identity::key::Keys;
use imgate_identity::session::{Record, SessionId, SessionSecret};
use imgate_identity::session_token::{self, TokenKey};
use imgate_identity::sign::canonical::{Scheme, Signable};
use imgate_identity::sign::{HttpKey, Nonce, Target};
use imgate_identity::store::{CacheConfig, Memory, Store, Writer};
use imgate_identity::time::UnixTime;
use imgate_identity::user::{Platform, UserId};

use crate::arrivals::{Arrival, Arrivals, HOST, NOW};

/// Longer than any bench runs.
const LONG: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The user behind every request.
const USER: &str = "user_1";

/// What filters lean on, and who signs.
pub(crate) struct World {
    pub(crate) deps: Deps,
    pub(crate) session: SessionId,
    pub(crate) stranger: SessionId,
    secret: SessionSecret,
}

impl World {
    /// A world with a live session, its user's token, and both cached; also cached is that there is
    /// no session of the stranger.
    pub(crate) fn new() -> Self {
        let (session, stranger) = (SessionId::from_bytes([1; 16]), SessionId::from_bytes([2; 16]));
        let (user, secret) = (UserId::parse(USER).unwrap(), SessionSecret::new([7; 32]));
        let memory = Arc::new(Memory::default());
        let cache = CacheConfig { ttl: LONG, negative_ttl: LONG, ..CacheConfig::default() };
        let store = Store::memory(Arc::clone(&memory), Keys::default(), cache);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let writer = Writer::memory(memory, Keys::default());
            writer.put_session(&session, &record(&user, &secret)).await.unwrap();
            writer.put_token(&user, &token(USER)).await.unwrap();
            store.session(&session).await.unwrap();
            store.session(&stranger).await.unwrap();
            store.user(&user).await.unwrap();
        });
        Self { deps: deps(store), session, stranger, secret }
    }

    /// The key of the session.
    pub(crate) fn key(&self) -> HttpKey {
        HttpKey::derive(&self.secret)
    }

    /// The string by which a stock SDK proves the session.
    pub(crate) fn session_token(&self) -> String {
        let (key, platform) = (TokenKey::derive(&self.secret), Platform::try_from(2).unwrap());
        session_token::mint(&key, &self.session, UnixTime(NOW.0 + 3600), platform).expose().clone()
    }

    /// The token that is stored for the user.
    pub(crate) fn openim_token(&self) -> String {
        token(USER)
    }

    /// A JWT of an admin, by the key whose other half is in `filters/src/verify_jwt/admins.jwks`.
    pub(crate) fn admin_token(&self) -> String {
        const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
             MC4CAQAwBQYDK2VwBCIEIGRlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fn+AgYKD\n-----END PRIVATE KEY-----\n";
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::EdDSA);
        header.kid = Some("ops-1".to_owned());
        let claims = serde_json::json!({
            "iss": "ops", "aud": "imgate", "sub": "alice", "roles": ["im-admin"], "iat": NOW.0, "exp": NOW.0 + 600
        });
        let key = jsonwebtoken::EncodingKey::from_ed_pem(PEM.as_bytes()).unwrap();
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }

    /// A POST of `body`, signed under this scheme.
    pub(crate) fn canonical(&self, scheme: &Scheme, body: &str) -> Arrival {
        let mut arrival = Arrivals::unsigned(body).next();
        let target = Target { method: "POST", authority: HOST, path: "/msg/newest_seq", query: None };
        let signed = scheme.sign(
            &self.secret,
            &Signable {
                session: self.session,
                target,
                body: body.as_bytes(),
                millis: NOW.0 * 1000,
                nonce: &Nonce::random().unwrap(),
                signed_headers: &[],
            },
        );
        for (name, value) in signed.iter() {
            arrival.head.insert_header(name.to_owned(), value).unwrap();
        }
        arrival
    }

    /// A key that is nobody's.
    pub(crate) fn wrong_key(&self) -> HttpKey {
        HttpKey::derive(&SessionSecret::new([8; 32]))
    }

    /// The same with a memory of nonces that is empty.
    pub(crate) fn fresh_deps(&self) -> Deps {
        Deps { replays: Arc::new(ReplayMemory::default()), ..self.deps.clone() }
    }
}

fn deps(store: Arc<Store>) -> Deps {
    Deps {
        store,
        authorities: Arc::new(Authorities::new([HOST], "https")),
        admin_users: Arc::new(HashSet::from([UserId::parse("imAdmin").unwrap()])),
        assertion_key: Some(Arc::new(assertion_key())),
        replays: Arc::new(ReplayMemory::default()),
        jwks: Arc::<imgate::jwks::Feeds>::default(),
        rates: Arc::default(),
        base: std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/filters")).into(),
        custom: Arc::default(),
    }
}

/// A session that is live from before the bench's clock begins until long after it ends.
fn record(user: &UserId, secret: &SessionSecret) -> Record {
    Record {
        user: user.clone(),
        secret: secret.clone(),
        device: "phone".into(),
        platform: Platform::try_from(2).unwrap(),
        issued_at: UnixTime(NOW.0 - 100),
        expires_at: NOW.plus(LONG),
        revoked_at: None,
        previous: None,
    }
}

/// An OpenIM token of the usual length. Nothing here checks its signature.
fn token(user: &str) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let exp = NOW.plus(LONG);
    let claims =
        format!(r#"{{"UserID":"{user}","PlatformID":2,"exp":{exp},"nbf":1799999000,"iat":1799999300}}"#);
    format!("{}.{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(&claims), part(&"s".repeat(32)))
}

/// An Ed25519 key made of a fixed seed. Source of the prefix: RFC 8410 section 10.3.
fn assertion_key() -> AssertionKey {
    const PREFIX: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let der = [&PREFIX[..], &[9; 32]].concat();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der));
    AssertionKey::from_pem(pem.as_bytes()).unwrap()
}
