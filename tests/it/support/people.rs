//! Somebody with a session, who can sign.

use std::time::Duration;

use imgate_identity::key::Keys;
use imgate_identity::secret::Secret;
use imgate_identity::session::{Record, SessionId, SessionSecret};
use imgate_identity::sign::{self, HttpKey, Nonce, Target};
use imgate_identity::store::{RedisConfig, Writer};
use imgate_identity::time::UnixTime;
use imgate_identity::user::{Platform, UserId};
use openim_standin::Standin;

use super::gateway::HOST;
use super::{RedisServer, Sent, leaks};

/// A writer to the store the gateway reads.
pub(crate) async fn writer(redis: &RedisServer) -> Writer {
    // A busy machine is slow, and the tests' own records are not what is timed.
    let patience = Duration::from_secs(10);
    let config =
        RedisConfig { timeout: patience, connect_timeout: patience, ..RedisConfig::new(redis.url()) };
    Writer::connect(config, Keys::default()).await.unwrap()
}

/// Somebody with a session.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    pub(crate) record: Record,
    pub(crate) token: String,
}

impl Person {
    /// Makes a session and an OpenIM token for `user`, both in the store.
    pub(crate) async fn new(user: &str, redis: &RedisServer, openim: &Standin) -> Self {
        let person = Self::unknown(user, openim);
        let writer = writer(redis).await;
        writer.put_mark().await.unwrap();
        writer.put_session(&person.session, &person.record).await.unwrap();
        writer.put_token(&person.user, &person.token).await.unwrap();
        person
    }

    /// Makes a session that is in no store yet.
    pub(crate) fn unknown(user: &str, openim: &Standin) -> Self {
        let secret = SessionSecret::random().unwrap();
        leaks::secret(secret.to_base64().expose());
        let token = openim.mint(user, 2);
        leaks::secret(&token);
        let now = UnixTime::now();
        let record = Record {
            user: UserId::parse(user).unwrap(),
            secret,
            device: "phone".into(),
            platform: Platform::try_from(2).unwrap(),
            issued_at: now,
            expires_at: UnixTime(now.0 + 3600),
            revoked_at: None,
            previous: None,
        };
        Self { user: record.user.clone(), session: SessionId::random().unwrap(), record, token }
    }

    /// A signed POST.
    pub(crate) fn post(&self, target: &str, body: &str) -> Sent {
        self.sign(Sent::new("POST", target).body(body.as_bytes()))
    }

    /// A signed GET.
    pub(crate) fn get(&self, target: &str) -> Sent {
        self.sign(Sent::new("GET", target))
    }

    /// Signs a request as it stands.
    pub(crate) fn sign(&self, sent: Sent) -> Sent {
        self.sign_at(sent, UnixTime::now())
    }

    /// Signs a request with this time on it.
    pub(crate) fn sign_at(&self, sent: Sent, created: UnixTime) -> Sent {
        let (path, query) = match sent.target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (sent.target.clone(), None),
        };
        let target = Target { method: &sent.method, authority: HOST, path: &path, query: query.as_deref() };
        let nonce = Nonce::random().unwrap();
        leaks::secret(nonce.as_str());
        let key = HttpKey::derive(&self.record.secret);
        let body = sent.body.as_deref().filter(|body| !body.is_empty());
        let signed = sign::sign(&key, &self.session, &target, body, created, &nonce);
        let mac = signed.signature.split(':').nth(1).unwrap_or("").to_owned();
        leaks::secret(&mac);
        let sent =
            sent.header("Signature-Input", &signed.signature_input).header("Signature", &signed.signature);
        match signed.content_digest {
            Some(digest) => sent.header("Content-Digest", &digest),
            None => sent,
        }
    }

    /// The secret, for the command line.
    pub(crate) fn secret(&self) -> Secret<String> {
        self.record.secret.to_base64()
    }
}
