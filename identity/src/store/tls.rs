//! TLS to Redis: whom to trust, and who we are.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::address::Address;
use crate::secret::Secret;

/// What TLS to Redis is told, as PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// The authorities to trust; by default those of the operating system.
    pub ca: Option<Vec<u8>>,
    /// Our certificate, with those between it and its authority, and its key.
    pub client: Option<(Vec<u8>, Secret<Vec<u8>>)>,
    /// The name every server's certificate must bear; by default the host it is reached by.
    pub server_name: Option<String>,
}

/// Why TLS cannot be spoken with what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTls {
    /// The authorities hold no certificate that can be used.
    #[error("no certificate of an authority that can be used")]
    Ca,
    /// The operating system has no authorities.
    #[error("the operating system trusts no authority; name one")]
    NoRoots,
    /// Our certificate cannot be read.
    #[error("no certificate that can be used")]
    Certificate,
    /// Our key cannot be read, or it is not the certificate's.
    #[error("no private key that fits the certificate")]
    Key,
    /// The server's name is no host name.
    #[error("no host name")]
    ServerName,
}

/// TLS, ready to be spoken. Equal if it was told the same.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    told: TlsConfig,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.told.server_name).finish_non_exhaustive()
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.told == other.told
    }
}

impl Eq for Tls {}

impl Tls {
    /// Makes ready what was told.
    ///
    /// # Errors
    /// A certificate, a key or a name cannot be used.
    pub fn new(told: TlsConfig) -> Result<Self, BadTls> {
        let roots = match &told.ca {
            Some(pem) => authorities(pem)?,
            None => system()?,
        };
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots);
        let config = match &told.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate).filter(|chain| !chain.is_empty());
                let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| BadTls::Key)?;
                let chain = chain.ok_or(BadTls::Certificate)?;
                builder.with_client_auth_cert(chain, key).map_err(|_| BadTls::Key)?
            }
        };
        let server_name = told.server_name.clone().map(ServerName::try_from).transpose();
        let server_name = server_name.map_err(|_| BadTls::ServerName)?;
        Ok(Self { config: Arc::new(config), server_name, told })
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The name that the certificate of the server at `address` must bear, also sent as SNI.
    pub(super) fn name(&self, address: &Address) -> Option<ServerName<'static>> {
        match &self.server_name {
            Some(name) => Some(name.clone()),
            None => ServerName::try_from(address.host().to_owned()).ok(),
        }
    }
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, BadTls> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem).ok_or(BadTls::Ca)? {
        roots.add(certificate).map_err(|_| BadTls::Ca)?;
    }
    if roots.is_empty() { Err(BadTls::Ca) } else { Ok(roots) }
}

/// The authorities of the operating system, but for those that cannot be read.
fn system() -> Result<RootCertStore, BadTls> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().map_err(|_| BadTls::NoRoots)?);
    if roots.is_empty() { Err(BadTls::NoRoots) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let junk = Some(b"junk".to_vec());
        assert_eq!(Tls::new(TlsConfig { ca: junk, ..TlsConfig::default() }).err(), Some(BadTls::Ca));
        let key = (b"junk".to_vec(), Secret::new(b"junk".to_vec()));
        let ca = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
        let ca = Some(ca.cert.pem().into_bytes());
        let with = |client, name: Option<&str>| {
            let server_name = name.map(str::to_owned);
            Tls::new(TlsConfig { ca: ca.clone(), client, server_name }).err()
        };
        assert_eq!(with(Some(key), None), Some(BadTls::Key));
        assert_eq!(with(None, Some("not a name")), Some(BadTls::ServerName));
        assert_eq!(with(None, Some("redis.internal")), None);
        let (one, other) = (generated("one"), generated("other"));
        assert_eq!(with(Some((one.0.clone(), other.1)), None), Some(BadTls::Key));
        assert_eq!(with(Some((Vec::new(), one.1.clone())), None), Some(BadTls::Certificate));
        assert_eq!(with(Some(one), None), None);
    }

    fn generated(name: &str) -> (Vec<u8>, Secret<Vec<u8>>) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (made.cert.pem().into_bytes(), Secret::new(made.signing_key.serialize_pem().into_bytes()))
    }
}
