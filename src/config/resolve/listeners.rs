//! Where clients connect, and what is spoken there.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use imgate_filters::folder::Folder;
use imgate_filters::networks::WrittenNetworks;
use imgate_identity::time::UnixTime;
use serde_saphyr::Location;

use super::{Faults, check_name};
use crate::config::meaning::Listener;
use crate::config::problem::{Beside, Problem};
use crate::config::spanned::Spanned;
use crate::config::written;
use crate::front::address::{Address, FileMode, MAX_PATH};
use crate::front::proxy_protocol::ProxyProtocol;
use crate::front::tls::{Authorities, Certificate, Clients, MinVersion, Protocols, Settings};

/// How Unix sockets are written.
const UNIX: &str = "unix:";

/// How soon the end of a certificate is worth a word: what is renewed by itself has been by then.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The listeners, and the address of the admin's.
pub(super) fn resolve(
    faults: &mut Faults,
    written: &Spanned<Vec<written::Listener>>,
    admin: Option<&written::Admin>,
    base: &Folder,
) -> (Vec<Listener>, Option<SocketAddr>) {
    if written.value.is_empty() {
        faults.add(written.referenced, "listeners", Problem::Empty);
    }
    let (mut listeners, mut bound) = (Vec::<Listener>::new(), Vec::new());
    for (i, listener) in written.value.iter().enumerate() {
        let name: Option<Arc<str>> = listener.name.as_ref().map(|name| name.value.as_str().into());
        let place = format!("listeners[{i}]");
        let spoken = spoken(faults, listener, &place, base);
        let Some(address) = address(faults, &listener.address, &place, &mut bound) else { continue };
        let mode = mode(faults, listener.mode.as_ref(), &place, &address);
        // A reload knows a listener by its address, which only with port 0 can stand twice.
        let like = |other: &Listener| other.address == address && (other.name.is_some() || name.is_some());
        if listeners.iter().any(like) {
            faults.add(listener.address.referenced, format!("{place}.address"), Problem::NamedTwice(address));
            continue;
        }
        let (tls, proxy_protocol) = spoken;
        listeners.push(Listener { name, address, mode, tls, proxy_protocol });
    }
    (listeners, admin.and_then(|admin| admin_address(faults, admin, &mut bound)))
}

/// The names of the listeners, also of those whose address is no good.
pub(super) fn names(faults: &mut Faults, written: &[written::Listener]) -> Vec<Arc<str>> {
    let mut names: Vec<(Arc<str>, usize)> = Vec::new();
    for (i, name) in written.iter().enumerate().filter_map(|(i, listener)| Some((i, listener.name.as_ref()?)))
    {
        let place = format!("listeners[{i}].name");
        check_name(faults, name, &place);
        if let Some((known, first)) = names.iter().find(|(known, _)| **known == *name.value) {
            let problem = Problem::NameTaken((&**known).into(), format!("listeners[{first}]").into());
            faults.add(name.referenced, place, problem);
            continue;
        }
        names.push((name.value.as_str().into(), i));
    }
    names.into_iter().map(|(name, _)| name).collect()
}

fn admin_address(
    faults: &mut Faults,
    written: &written::Admin,
    bound: &mut Vec<(Address, String)>,
) -> Option<SocketAddr> {
    match address(faults, &written.address, "admin", bound)? {
        Address::Ip(address) => Some(address),
        Address::Unix(_) => {
            let problem = Problem::BadAddress(written.address.value.as_str().into());
            faults.add(written.address.referenced, "admin.address", problem);
            None
        }
    }
}

fn address(
    faults: &mut Faults,
    written: &Spanned<String>,
    owner: &str,
    bound: &mut Vec<(Address, String)>,
) -> Option<Address> {
    let (at, place) = (written.referenced, format!("{owner}.address"));
    let address = faults.keep(at, &*place, parse_address(&written.value))?;
    if let Some((_, other)) = bound.iter().find(|(other, _)| overlap(other, &address)) {
        faults.add(at, place, Problem::AddressTaken(address, other.as_str().into()));
        return None;
    }
    bound.push((address.clone(), owner.to_owned()));
    Some(address)
}

fn parse_address(text: &str) -> Result<Address, Problem> {
    let Some(path) = text.strip_prefix(UNIX) else {
        let parsed: Result<SocketAddr, _> = text.parse();
        return parsed.map(Address::Ip).map_err(|_| Problem::BadAddress(text.into()));
    };
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(Problem::BadAddress(text.into()));
    }
    if path.len() > MAX_PATH {
        return Err(Problem::LongSocketPath(MAX_PATH));
    }
    Ok(Address::Unix(Path::new(path).into()))
}

/// Whether both cannot be bound. The kernel chooses a free port for port 0.
fn overlap(a: &Address, b: &Address) -> bool {
    let (Address::Ip(a), Address::Ip(b)) = (a, b) else { return a == b };
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && (any || a.ip() == b.ip())
}

fn mode(faults: &mut Faults, written: Option<&Spanned<String>>, place: &str, address: &Address) -> FileMode {
    let Some(written) = written else { return FileMode::default() };
    let place = format!("{place}.mode");
    if matches!(address, Address::Ip(_)) {
        let problem = Problem::Meaningless { key: "mode", beside: Beside::IpAddress };
        faults.add(written.referenced, &*place, problem);
    }
    let parsed = parse_mode(&written.value).ok_or_else(|| Problem::BadMode(written.value.as_str().into()));
    faults.keep(written.referenced, place, parsed).unwrap_or_default()
}

/// Four digits, as in 0660. The owner must be able to read and write: that is we.
fn parse_mode(text: &str) -> Option<FileMode> {
    let octal = text.len() == 4 && text.starts_with('0') && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && mode & 0o600 == 0o600)?;
    Some(FileMode(mode))
}

/// What is spoken: TLS, and the PROXY protocol before it.
fn spoken(
    faults: &mut Faults,
    written: &written::Listener,
    place: &str,
    base: &Folder,
) -> (Option<Settings>, Option<ProxyProtocol>) {
    let http2 = written.http2.as_ref().is_some_and(|http2| http2.value);
    let tls = written.tls.as_ref().and_then(|tls| {
        let protocols = if http2 { Protocols::Http2 } else { Protocols::Http1 };
        Tls { faults: &mut *faults, place: format!("{place}.tls"), base }.resolve(tls, protocols)
    });
    if let Some(switch) = written.http2.as_ref().filter(|_| written.tls.is_none()) {
        let problem = Problem::Meaningless { key: "http2", beside: Beside::NoTls };
        faults.add(switch.referenced, format!("{place}.http2"), problem);
    }
    let proxy_protocol = written.proxy_protocol.as_ref().and_then(|proxy_protocol| {
        let written::ProxyProtocol { from, timeout } = &proxy_protocol.value;
        let networks = WrittenNetworks { addresses: from.clone(), file: None };
        let from = networks.read(base).map_err(|_| Problem::Empty);
        let from = faults.keep(proxy_protocol.referenced, format!("{place}.proxy_protocol.from"), from)?;
        let timeout = timeout.map_or(Duration::from_secs(5), |timeout| timeout.0);
        Some(ProxyProtocol { from: Arc::new(from), timeout })
    });
    (tls, proxy_protocol)
}

/// What reads the settings of one listener's TLS.
struct Tls<'a> {
    faults: &'a mut Faults,
    place: String,
    base: &'a Folder,
}

impl Tls<'_> {
    fn resolve(mut self, written: &Spanned<written::Tls>, protocols: Protocols) -> Option<Settings> {
        let certificates = self.certificates(written);
        let clients = self.clients(&written.value);
        let certificates: Option<Vec<Certificate>> = certificates.into_iter().collect();
        Some(Settings {
            certificates: certificates.filter(|all| !all.is_empty())?.into(),
            clients: clients?,
            min_version: written.value.min_version.unwrap_or(MinVersion::Tls12),
            handshake_timeout: written.value.handshake_timeout.map_or(Duration::from_secs(5), |t| t.0),
            protocols,
        })
    }

    fn certificates(&mut self, written: &Spanned<written::Tls>) -> Vec<Option<Certificate>> {
        let tls = &written.value;
        match (&tls.certificate, &tls.key, &tls.certificates) {
            (Some(certificate), Some(key), None) => vec![self.certificate(certificate, key, None)],
            (None, None, Some(list)) if !list.value.is_empty() => {
                let pairs = list.value.iter().enumerate();
                pairs.map(|(i, pair)| self.certificate(&pair.certificate, &pair.key, Some(i))).collect()
            }
            _ => {
                self.faults.add(written.referenced, &*self.place, Problem::NoCertificate);
                Vec::new()
            }
        }
    }

    fn certificate(
        &mut self,
        chain: &Spanned<PathBuf>,
        key: &Spanned<PathBuf>,
        index: Option<usize>,
    ) -> Option<Certificate> {
        let place = match index {
            Some(i) => format!("{}.certificates[{i}]", self.place),
            None => format!("{}.certificate", self.place),
        };
        let loaded = Certificate::load(self.base, &chain.value, &key.value, UnixTime::now());
        let at = chain.referenced;
        let certificate = self.faults.keep(at, &*place, loaded.map_err(Problem::Certificate))?;
        self.warn_of(at, &place, &certificate, &self.base.path_of(&key.value));
        Some(certificate)
    }

    fn warn_of(&mut self, at: Location, place: &str, certificate: &Certificate, key: &Path) {
        if certificate.not_after.0 < UnixTime::now().0.saturating_add(SOON.as_secs()) {
            self.faults.warn(at, place, Problem::CertificateEnds(certificate.ends()));
        }
        if certificate.names.is_empty() {
            self.faults.warn(at, place, Problem::NamelessCertificate);
        }
        if std::fs::metadata(key).is_ok_and(|key| key.permissions().mode() & 0o004 != 0) {
            self.faults.warn(at, place, Problem::OpenKey(key.into()));
        }
    }

    fn clients(&mut self, written: &written::Tls) -> Option<Clients> {
        let Some(file) = &written.client_ca else {
            if let Some(auth) = written.client_auth.as_ref().filter(|a| a.value != written::ClientAuth::Off) {
                self.faults.add(auth.referenced, format!("{}.client_auth", self.place), Problem::NoClientCa);
            }
            return Some(Clients::Unasked);
        };
        let place = format!("{}.client_ca", self.place);
        let loaded = Authorities::load(self.base, &file.value).map_err(Problem::Authorities);
        let authorities = self.faults.keep(file.referenced, place, loaded)?;
        // Whoever names an authority means it.
        match written.client_auth.as_ref().map(|auth| auth.value) {
            None | Some(written::ClientAuth::Required) => Some(Clients::Required(authorities)),
            Some(written::ClientAuth::Optional) => Some(Clients::Optional(authorities)),
            Some(written::ClientAuth::Off) => Some(Clients::Unasked),
        }
    }
}
