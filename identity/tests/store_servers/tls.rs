//! TLS to Redis: authorities of our own, client certificates, names.

use imgate_identity::key::Keys;
use imgate_identity::secret::Secret;
use imgate_identity::store::{CacheConfig, Health, RedisConfig, Store, Tls, TlsConfig, Unavailable, Writer};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::redis_server::{RedisServer, free_port};
use crate::rig::{TIMEOUT, eventually, fresh_token, known_token, live, user};

/// An authority that signs certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `name` and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        // Whoever bears the authority's own name counts as signed by itself.
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A Redis that speaks TLS on a port of its own, and asks clients for a certificate.
struct TlsServer {
    _server: RedisServer,
    _files: tempfile::TempDir,
    url: String,
}

impl TlsServer {
    fn start(authority: &Authority, name: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name).display().to_string();
        let (certificate, key) = authority.issue(name);
        for (name, text) in [("ca", &authority.pem), ("certificate", &certificate), ("key", &key)] {
            std::fs::write(path(name), text).unwrap();
        }
        let port = free_port();
        let server = RedisServer::start_with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &path("certificate"),
            "--tls-key-file",
            &path("key"),
            "--tls-ca-cert-file",
            &path("ca"),
            "--tls-auth-clients",
            "yes",
        ]);
        Self { _server: server, _files: files, url: format!("rediss://127.0.0.1:{port}") }
    }

    fn config(&self, tls: TlsConfig) -> RedisConfig {
        RedisConfig { tls: Some(Tls::new(tls).unwrap()), timeout: TIMEOUT, ..RedisConfig::new(&*self.url) }
    }
}

fn told(authority: &Authority, client: Option<(String, String)>, name: Option<&str>) -> TlsConfig {
    TlsConfig {
        ca: Some(authority.pem.clone().into_bytes()),
        client: client.map(|(certificate, key)| (certificate.into_bytes(), Secret::new(key.into_bytes()))),
        server_name: name.map(str::to_owned),
    }
}

#[tokio::test]
async fn records_and_announcements_travel_over_tls() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority, "redis.internal");
    let tls = told(&authority, Some(authority.issue("gateway")), Some("redis.internal"));
    let config = server.config(tls);
    let writer = Writer::connect(config.clone(), Keys::default()).await.unwrap();
    writer.put_mark().await.unwrap();
    let store = Store::redis(config, Keys::default(), CacheConfig::default()).unwrap();
    live(&store).await;
    assert_eq!(store.probe().await, Ok(()));
    for serial in 1..4 {
        let token = fresh_token("u1", 2, serial);
        writer.put_token(&user("u1"), &token).await.unwrap();
        eventually("the token is seen", async || {
            known_token(&store, &user("u1")).await == Some(token.clone())
        })
        .await;
    }
    assert!(store.stats().invalidations > 0);
}

#[tokio::test]
async fn who_is_not_trusted_is_not_spoken_to() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = TlsServer::start(&authority, "redis.internal");
    let client = || Some(authority.issue("gateway"));
    let name = Some("redis.internal");
    let cases = [
        ("a server of another authority", told(&stranger, client(), name)),
        ("a server of another name", told(&authority, client(), Some("other.internal"))),
        ("a server whose address is not in its certificate", told(&authority, client(), None)),
        ("a client without a certificate", told(&authority, None, name)),
        ("a client of another authority", told(&authority, Some(stranger.issue("gateway")), name)),
        (
            "a server of an authority the system does not know",
            TlsConfig { ca: None, ..told(&authority, client(), name) },
        ),
    ];
    for (what, tls) in cases {
        let config = match Tls::new(tls.clone()) {
            Ok(_) => server.config(tls),
            // A machine without any authority of its own.
            Err(_) if tls.ca.is_none() => continue,
            Err(error) => panic!("{what}: {error}"),
        };
        let store = Store::redis(config, Keys::default(), CacheConfig::default()).unwrap();
        assert_eq!(store.probe().await, Err(Unavailable::Tls), "{what}");
        assert_eq!(store.health(), Health::Down, "{what}");
    }
}
