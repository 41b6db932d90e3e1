//! A certificate chain and its key, read from files and checked before anybody is served with them.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use imgate_filters::folder::{Content, Folder};
use imgate_identity::time::UnixTime;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{ASN1Time, FromDer as _, GeneralName, X509Certificate};
use zeroize::Zeroizing;

/// The largest file that is read, in bytes.
const MAX_FILE: usize = 1024 * 1024;

/// A chain and its key, which fit each other.
pub struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// The names it is for, in lower case, as in `im.example.com` and `*.example.com`.
    pub names: Box<[Box<str>]>,
    /// When it ends.
    pub not_after: UnixTime,
    /// The file of the chain, as the configuration names it.
    pub file: Box<Path>,
}

/// Why a pair cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    /// A file cannot be opened or read.
    #[error("{} cannot be read: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: Box<Path>,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file is larger than any chain.
    #[error("{} is larger than 1 MiB", .0.display())]
    TooLarge(Box<Path>),
    /// A file is not PEM.
    #[error("{} is no PEM file\nhint: it begins with a line like `-----BEGIN CERTIFICATE-----`", .0.display())]
    NotPem(Box<Path>),
    /// A file without a certificate.
    #[error("no certificate in {}", .0.display())]
    NoCertificate(Box<Path>),
    /// A certificate that cannot be read.
    #[error("certificate {index} in {} is malformed", path.display())]
    Malformed {
        /// The file.
        path: Box<Path>,
        /// Which one, from 1.
        index: usize,
    },
    /// A file without a private key.
    #[error("no private key in {}\nhint: a key with a passphrase is not read", .0.display())]
    NoKey(Box<Path>),
    /// A key of a kind that TLS does not sign with.
    #[error("the key in {} is of no kind that is spoken\nhint: use ECDSA (P-256 or P-384), Ed25519 or RSA", .0.display())]
    KeyKind(Box<Path>),
    /// The key of another certificate.
    #[error(
        "the key is not that of the certificate\nhint: the first certificate in the file is the server's own"
    )]
    OtherKey,
    /// Nobody would accept it any more.
    #[error("the certificate expired at {0}\nhint: renew it; until then the last good one stays in use")]
    Expired(UnixDate),
    /// Nobody would accept it yet.
    #[error("the certificate is valid from {0} on\nhint: is the clock right?")]
    NotYet(UnixDate),
}

/// A point in time, as people read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixDate(UnixTime);

impl fmt::Display for UnixDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = Duration::from_secs(self.0.0);
        match SystemTime::UNIX_EPOCH.checked_add(seconds) {
            Some(time) => humantime::format_rfc3339_seconds(time).fmt(f),
            None => self.0.0.fmt(f),
        }
    }
}

impl Certificate {
    /// Reads a chain, the server's own certificate first, and its key; the chain is named so in metrics.
    ///
    /// # Errors
    /// A file cannot be read, the two do not belong together, or nobody would accept them `now`.
    pub fn load(base: &Folder, chain: &Path, key: &Path, now: UnixTime) -> Result<Self, BadCertificate> {
        let certificates = read_certificates(base, chain)?;
        let leaf = CertificateFacts::of(&certificates[0], &base.path_of(chain))?;
        let key = CertifiedKey::new(certificates, signing_key(base, key)?);
        key.keys_match().map_err(|_| BadCertificate::OtherKey)?;
        if now.0 < leaf.not_before.0 {
            return Err(BadCertificate::NotYet(UnixDate(leaf.not_before)));
        }
        if now.0 > leaf.not_after.0 {
            return Err(BadCertificate::Expired(UnixDate(leaf.not_after)));
        }
        Ok(Self { key: Arc::new(key), names: leaf.names, not_after: leaf.not_after, file: chain.into() })
    }

    /// When it ends, as people read it.
    pub fn ends(&self) -> UnixDate {
        UnixDate(self.not_after)
    }
}

/// The certificates of a PEM file; at least one.
///
/// # Errors
/// The file cannot be read, is no PEM, or has none.
pub(super) fn read_certificates(
    base: &Folder,
    name: &Path,
) -> Result<Vec<CertificateDer<'static>>, BadCertificate> {
    let pem = read(base, name, Content::Plain)?;
    let path = base.path_of(name);
    let read: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = read.map_err(|_| BadCertificate::NotPem(path.as_path().into()))?;
    if certificates.is_empty() {
        return Err(BadCertificate::NoCertificate(path.into()));
    }
    for (i, certificate) in certificates.iter().enumerate() {
        X509Certificate::from_der(certificate)
            .map_err(|_| BadCertificate::Malformed { path: path.as_path().into(), index: i + 1 })?;
    }
    Ok(certificates)
}

fn signing_key(base: &Folder, name: &Path) -> Result<Arc<dyn rustls::sign::SigningKey>, BadCertificate> {
    let path = || base.path_of(name).into();
    let key =
        PrivateKeyDer::from_pem_slice(&read(base, name, Content::Secret)?).map_err(|why| match why {
            pem::Error::NoItemsFound => BadCertificate::NoKey(path()),
            _ => BadCertificate::NotPem(path()),
        })?;
    any_supported_type(&key).map_err(|_| BadCertificate::KeyKind(path()))
}

/// What was read is wiped when it is dropped, since it may be a key.
fn read(base: &Folder, name: &Path, content: Content) -> Result<Zeroizing<Vec<u8>>, BadCertificate> {
    let path = || base.path_of(name).into();
    let bytes = base.read(name, MAX_FILE, content).map(Zeroizing::new);
    let bytes = bytes.map_err(|cause| BadCertificate::Unreadable { path: path(), cause })?;
    if bytes.len() > MAX_FILE {
        return Err(BadCertificate::TooLarge(path()));
    }
    Ok(bytes)
}

/// What a certificate says of itself.
struct CertificateFacts {
    names: Box<[Box<str>]>,
    not_before: UnixTime,
    not_after: UnixTime,
}

impl CertificateFacts {
    fn of(der: &CertificateDer<'_>, path: &Path) -> Result<Self, BadCertificate> {
        let malformed = || BadCertificate::Malformed { path: path.into(), index: 1 };
        let (_, leaf) = X509Certificate::from_der(der).map_err(|_| malformed())?;
        // The common name counts nowhere any more. Source: RFC 9525 section 2.
        let names = leaf.subject_alternative_name().map_err(|_| malformed())?;
        let names = names.iter().flat_map(|extension| &extension.value.general_names);
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
            _ => None,
        };
        let validity = leaf.validity();
        Ok(Self {
            names: names.filter_map(dns).collect(),
            not_before: moment(validity.not_before),
            not_after: moment(validity.not_after),
        })
    }
}

/// A moment before 1970 is as good as 1970.
fn moment(time: ASN1Time) -> UnixTime {
    UnixTime(u64::try_from(time.timestamp()).unwrap_or(0))
}

/// The names, and nothing of the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = format_args!("{}", self.ends());
        f.debug_struct("Certificate").field("names", &self.names).field("ends", &ends).finish_non_exhaustive()
    }
}

/// Two are equal if the chains are: the key fits the chain, so it is the same, too.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert && self.file == other.file
    }
}

impl Eq for Certificate {}
