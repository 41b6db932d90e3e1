//! Which certificate a client gets: the one for the name it asks for, else the first.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// Certificates by the names they are for.
///
/// A client that asks for a name nobody has, or for none, gets the first one: it will see for itself
/// that it is not the one it meant, and says so with more than a closed connection. Of several for one
/// name it gets the first that it can verify, so that an ECDSA one may stand beside an RSA one.
pub(super) struct ByName {
    exact: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    /// By what stands behind `*.`.
    wildcard: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
    first: Vec<Arc<CertifiedKey>>,
}

impl ByName {
    /// At least one certificate must be there; without any, no client gets one.
    pub(super) fn new(certificates: &[Certificate]) -> Self {
        let (mut exact, mut wildcard) = (HashMap::<Box<str>, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for certificate in certificates {
            for name in &certificate.names {
                let key = Arc::clone(&certificate.key);
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.into()).or_default().push(key),
                    None => exact.entry(name.clone()).or_default().push(key),
                }
            }
        }
        let first = certificates.iter().map(|certificate| Arc::clone(&certificate.key)).collect();
        Self { exact, wildcard, first }
    }

    /// Those for this name, the best one first.
    fn named(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let name = name.to_ascii_lowercase();
        let exact = self.exact.get(&*name);
        // A star stands for one label. Source: RFC 9525 section 6.3.
        let parent = || self.wildcard.get(name.split_once('.')?.1);
        exact.or_else(parent).unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = hello.server_name().map_or(&*self.first, |name| self.named(name));
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        candidates.iter().find(fits).or(candidates.first()).cloned()
    }
}

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByName").field("exact", &self.exact.keys()).finish_non_exhaustive()
    }
}
