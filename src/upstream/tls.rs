//! TLS to upstreams. The certificate of a server is always checked, against a name and an authority.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use imgate_filters::folder::{Content, Folder};
use pingora_core::protocols::tls::CaType;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use x509_parser::parse_x509_certificate;
use xxhash_rust::xxh3::Xxh3;
use zeroize::Zeroizing;

use crate::wire::{Plain, Wire};

/// How servers are recognised, and how the gateway proves itself to them. Two are equal if they were read
/// from the same certificates and keys.
#[derive(Clone)]
pub struct Options(Arc<Material>);

struct Material {
    /// The name in the servers' certificates; their host as it is written if there is none.
    server_name: Option<Box<str>>,
    config: Arc<ClientConfig>,
    /// The same, as Pingora wants it.
    authorities: Option<Arc<CaType>>,
    identity: Option<Arc<CertKey>>,
    /// Of everything that was read.
    fingerprint: u64,
}

/// The most that is read of a file, in bytes.
const MAX_FILE: usize = 1024 * 1024;

/// Where certificates and keys lie.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    /// The folder in which they are sought, which notes what was read.
    pub base: &'a Folder,
    /// The authorities that may vouch for servers; the system's own if there is none.
    pub ca: Option<&'a Path>,
    /// The name in the servers' certificates; their host as it is written if there is none.
    pub server_name: Option<&'a str>,
    /// The certificate by which the gateway proves itself, and its key.
    pub identity: Option<(&'a Path, &'a Path)>,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum BadTls {
    /// A file cannot be read as certificates, or holds none.
    #[error("{file} holds no certificate in PEM: {why}", file = .file.display())]
    Certificate {
        /// The file.
        file: Box<Path>,
        /// Why.
        why: Box<str>,
    },
    /// A file cannot be read as a key, or holds none.
    #[error("{file} holds no private key in PEM", file = .0.display())]
    Key(Box<Path>),
    /// The system has no authorities.
    #[error("the system has no certificates of authorities\nhint: name a file with `ca`")]
    NoAuthorities,
    /// The key is not the certificate's, or not one that can be used.
    #[error("certificate and key do not fit: {0}")]
    Mismatch(#[source] rustls::Error),
    /// Not a name that a certificate could have.
    #[error("`{0}` is no name of a server")]
    ServerName(Box<str>),
}

impl PartialEq for Options {
    fn eq(&self, other: &Self) -> bool {
        (self.0.fingerprint, &self.0.server_name) == (other.0.fingerprint, &other.0.server_name)
    }
}

impl Eq for Options {}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("server_name", &self.0.server_name).finish_non_exhaustive()
    }
}

impl Options {
    /// Reads certificates and keys.
    ///
    /// # Errors
    /// A file cannot be read, does not hold what it should, or the parts do not fit together.
    pub fn read(files: &Files<'_>) -> Result<Self, BadTls> {
        if let Some(name) = files.server_name {
            ServerName::try_from(name).map_err(|_| BadTls::ServerName(name.into()))?;
        }
        let base = files.base;
        let authorities = files.ca.map(|file| certificates(base, file)).transpose()?;
        let identity = match files.identity {
            None => None,
            Some((certificate, key)) => Some((certificates(base, certificate)?, read_key(base, key)?)),
        };
        Ok(Self(Arc::new(Material {
            server_name: files.server_name.map(Into::into),
            fingerprint: fingerprint(authorities.as_deref(), identity.as_ref()),
            config: Arc::new(client_config(authorities.as_deref(), identity.as_ref())?),
            authorities: match (files.ca, authorities) {
                (Some(file), Some(authorities)) => Some(for_pingora(file, &authorities)?),
                _ => None,
            },
            identity: identity.map(|(chain, key)| Arc::new(pingora_identity(&chain, &key))),
        })))
    }

    fn name<'a>(&'a self, host: &'a str) -> &'a str {
        self.0.server_name.as_deref().unwrap_or(host)
    }

    /// Whether a server that is written as this host can be recognised at all.
    ///
    /// # Errors
    /// It is no name that a certificate could have.
    pub fn check_name(&self, host: &str) -> Result<(), InvalidDnsNameError> {
        ServerName::try_from(self.name(host)).map(|_| ())
    }

    /// Shakes hands with the server that is written as this host.
    pub(super) async fn connect(&self, host: &str, stream: Plain) -> io::Result<Wire> {
        let name = ServerName::try_from(self.name(host).to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = TlsConnector::from(Arc::clone(&self.0.config)).connect(name, stream).await?;
        Ok(Wire::Tls(Box::new(stream.into())))
    }

    /// Has Pingora do the same for a streamed request. A name is always set: without one Pingora would
    /// not check the certificate.
    pub fn apply(&self, peer: &mut HttpPeer, host: &str) {
        self.name(host).clone_into(&mut peer.sni);
        peer.options.ca.clone_from(&self.0.authorities);
        peer.client_cert_key.clone_from(&self.0.identity);
        // Pingora's pool does not know by whom a server was vouched for.
        peer.group_key = self.0.fingerprint;
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn certificates(base: &Folder, file: &Path) -> Result<Vec<CertificateDer<'static>>, BadTls> {
    let bad = |why: String| BadTls::Certificate { file: base.path_of(file).into(), why: why.into() };
    let text = base.read(file, MAX_FILE, Content::Plain).map_err(|why| bad(why.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|why| bad(why.to_string()))?;
    // Pingora panics at what it cannot parse.
    if found.is_empty() || !found.iter().all(|der| parse_x509_certificate(der).is_ok()) {
        return Err(bad("there is none, or one cannot be read".to_owned()));
    }
    Ok(found)
}

fn read_key(base: &Folder, file: &Path) -> Result<PrivateKeyDer<'static>, BadTls> {
    let bad = || BadTls::Key(base.path_of(file).into());
    let text = base.read(file, MAX_FILE, Content::Secret).map(Zeroizing::new).map_err(|_| bad())?;
    // What the parser says might repeat a part of the key.
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| bad())
}

fn client_config(
    authorities: Option<&[CertificateDer<'static>]>,
    identity: Option<&Identity>,
) -> Result<ClientConfig, BadTls> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(BadTls::Mismatch)?
        .with_root_certificates(roots(authorities)?);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            builder.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(BadTls::Mismatch)?
        }
    };
    // Nothing else is spoken on these connections.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn roots(authorities: Option<&[CertificateDer<'static>]>) -> Result<RootCertStore, BadTls> {
    let mut roots = RootCertStore::empty();
    let added = match authorities {
        Some(authorities) => roots.add_parsable_certificates(authorities.iter().cloned()).0,
        // Some of the system's may be unusable; it takes one to be of use.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().unwrap_or_default()).0
        }
    };
    if added == 0 { Err(BadTls::NoAuthorities) } else { Ok(roots) }
}

fn for_pingora(file: &Path, authorities: &[CertificateDer<'static>]) -> Result<Arc<CaType>, BadTls> {
    // Pingora refuses every connection if one of them is no authority.
    let is_usable = |der: &&CertificateDer<'static>| RootCertStore::empty().add((*der).clone()).is_ok();
    let parsed: Vec<WrappedX509> =
        authorities.iter().filter(is_usable).map(|der| WrappedX509::new(der.to_vec(), parse_x509)).collect();
    if parsed.is_empty() {
        return Err(BadTls::Certificate { file: file.into(), why: "none can be used".into() });
    }
    Ok(Arc::from(parsed))
}

fn pingora_identity(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> CertKey {
    CertKey::new(chain.iter().map(|der| der.to_vec()).collect(), key.secret_der().to_vec())
}

fn fingerprint(authorities: Option<&[CertificateDer<'static>]>, identity: Option<&Identity>) -> u64 {
    let mut all = Xxh3::new();
    let mut add = |bytes: &[u8]| {
        all.update(&bytes.len().to_le_bytes());
        all.update(bytes);
    };
    authorities.unwrap_or_default().iter().for_each(|der| add(der));
    add(b"identity");
    if let Some((chain, key)) = identity {
        chain.iter().for_each(|der| add(der));
        add(key.secret_der());
    }
    all.digest()
}
