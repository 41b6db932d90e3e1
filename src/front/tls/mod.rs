//! TLS as listeners speak it: rustls with *ring*, TLS 1.2 and 1.3, and tickets for resumption.
//!
//! A reload puts new settings in force for handshakes from then on; connections keep what they have.
//! Ticket keys live in the process and are renewed by rustls every six hours. They outlive reloads, but
//! not a change of whose client certificates are taken: a ticket lets a client in without showing one.

mod by_name;
mod certificate;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use imgate_filters::folder::Folder;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    NoClientAuth, NoServerSessionStorage, ProducesTickets, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::{InvalidMessage, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
pub use tokio_rustls::server::TlsStream;

use self::by_name::ByName;
pub use self::certificate::{BadCertificate, Certificate, UnixDate};

/// HTTP/2, as ALPN spells it. Source: RFC 9113 section 3.1.
pub const H2: &[u8] = b"h2";

/// HTTP/1.1, as ALPN spells it. Source: RFC 7301 section 6.
pub const HTTP_1_1: &[u8] = b"http/1.1";

/// What a listener speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its certificates; at least one, and the first serves whoever asks for no known name.
    pub certificates: Arc<[Certificate]>,
    /// Whose certificates clients may or must show.
    pub clients: Clients,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// The protocols offered by ALPN.
    pub protocols: Protocols,
}

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(transform = as_number_too)]
pub enum MinVersion {
    /// TLS 1.2.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// An unquoted 1.2 is a number to editors.
fn as_number_too(schema: &mut Schema) {
    let versions = [json!("1.2"), json!("1.3"), json!(1.2), json!(1.3)];
    *schema = json_schema!({ "description": "The oldest version that is spoken.", "enum": versions });
}

/// The protocols offered by ALPN. A client that names none speaks HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2, and HTTP/1.1 for whoever does not know it.
    Http2,
}

/// Whether clients show certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// They are not asked.
    Unasked,
    /// They may; what they show must be good.
    Optional(Authorities),
    /// They must.
    Required(Authorities),
}

/// Who vouches for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities(Arc<[CertificateDer<'static>]>);

/// Why nobody vouches for clients.
#[derive(Debug, thiserror::Error)]
pub enum BadAuthorities {
    /// Its file is no good.
    #[error(transparent)]
    File(#[from] BadCertificate),
    /// A certificate in it is none of an authority.
    #[error("certificate {0} in it cannot vouch for others")]
    Root(usize),
}

impl Authorities {
    /// Reads the certificates of a PEM file.
    ///
    /// # Errors
    /// The file cannot be read or holds something else.
    pub fn load(base: &Folder, name: &Path) -> Result<Self, BadAuthorities> {
        let certificates = certificate::read_certificates(base, name)?;
        let mut store = RootCertStore::empty();
        for (i, certificate) in certificates.iter().enumerate() {
            store.add(certificate.clone()).map_err(|_| BadAuthorities::Root(i + 1))?;
        }
        Ok(Self(certificates.into()))
    }

    fn verifier(&self, must: bool) -> Result<Arc<dyn ClientCertVerifier>, BadSettings> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.0.iter().cloned());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider());
        let builder = if must { builder } else { builder.allow_unauthenticated() };
        Ok(builder.build()?)
    }
}

/// Why settings cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum BadSettings {
    /// Clients could not be verified.
    #[error("client certificates cannot be verified: {0}")]
    Clients(#[from] VerifierBuilderError),
    /// The cryptography says no.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It took too long.
    #[error("the handshake did not end in time")]
    Late,
    /// The client went away.
    #[error("the client went away: {0}")]
    Gone(#[source] io::Error),
    /// The first bytes are no TLS, as of plain HTTP.
    #[error("the client speaks no TLS")]
    NotTls,
    /// There is no version, cipher or protocol that both know.
    #[error("nothing in common: {0}")]
    NothingInCommon(#[source] rustls::Error),
    /// The client showed no certificate, or a bad one.
    #[error("the client's certificate: {0}")]
    ClientCertificate(#[source] rustls::Error),
    /// The client refused, as for a certificate that it does not trust.
    #[error("the client refused: {0}")]
    Refused(#[source] rustls::Error),
    /// The client does what TLS forbids.
    #[error("the client misbehaves: {0}")]
    Misbehaved(#[source] rustls::Error),
}

impl Failure {
    /// The words for metrics.
    pub const WORDS: [&str; 7] = [
        "timeout",
        "closed",
        "not_tls",
        "nothing_in_common",
        "client_certificate",
        "refused_by_client",
        "misbehaved",
    ];

    /// A word for metrics.
    pub fn as_str(&self) -> &'static str {
        Self::WORDS[match self {
            Self::Late => 0,
            Self::Gone(_) => 1,
            Self::NotTls => 2,
            Self::NothingInCommon(_) => 3,
            Self::ClientCertificate(_) => 4,
            Self::Refused(_) => 5,
            Self::Misbehaved(_) => 6,
        }]
    }

    fn of(error: io::Error) -> Self {
        use rustls::Error;
        let Some(cause) = error.get_ref().and_then(|e| e.downcast_ref::<Error>()).cloned() else {
            return Self::Gone(error);
        };
        match cause {
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::NothingInCommon(cause),
            Error::NoCertificatesPresented | Error::InvalidCertificate(_) => Self::ClientCertificate(cause),
            Error::AlertReceived(_) => Self::Refused(cause),
            _ => Self::Misbehaved(cause),
        }
    }
}

/// What makes handshakes on a listener.
pub struct Acceptor {
    settings: Settings,
    tickets: Arc<dyn ProducesTickets>,
    rustls: Arc<ServerConfig>,
}

impl Acceptor {
    /// Makes handshakes by these settings. Tickets that it gave out `before` stay good, unless it takes
    /// other client certificates now.
    ///
    /// # Errors
    /// The cryptography refuses them.
    pub fn new(settings: &Settings, before: Option<&Arc<Self>>) -> Result<Arc<Self>, BadSettings> {
        let tickets = match before {
            Some(same) if same.settings == *settings => return Ok(Arc::clone(same)),
            Some(before) if before.settings.clients == settings.clients => Arc::clone(&before.tickets),
            _ => ring::Ticketer::new()?,
        };
        let rustls = Arc::new(server_config(settings, &tickets)?);
        Ok(Arc::new(Self { settings: settings.clone(), tickets, rustls }))
    }

    /// Makes the handshake of one connection, in the time it may take.
    ///
    /// # Errors
    /// It did not come to an end, or not to a good one. The client was told why, as TLS does.
    pub async fn accept<S>(&self, stream: S) -> Result<TlsStream<S>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsAcceptor::from(Arc::clone(&self.rustls)).accept(stream);
        let ended = tokio::time::timeout(self.settings.handshake_timeout, handshake).await;
        ended.map_err(|_| Failure::Late)?.map_err(Failure::of)
    }
}

fn server_config(
    settings: &Settings,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, BadSettings> {
    let versions: &[&SupportedProtocolVersion] = match settings.min_version {
        MinVersion::Tls12 => &[&version::TLS13, &version::TLS12],
        MinVersion::Tls13 => &[&version::TLS13],
    };
    let verifier: Arc<dyn ClientCertVerifier> = match &settings.clients {
        Clients::Unasked => Arc::new(NoClientAuth),
        Clients::Optional(by) => by.verifier(false)?,
        Clients::Required(by) => by.verifier(true)?,
    };
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions)?;
    let by_name = Arc::new(ByName::new(&settings.certificates));
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(by_name);
    config.alpn_protocols = match settings.protocols {
        Protocols::Http1 => vec![HTTP_1_1.to_vec()],
        Protocols::Http2 => vec![H2.to_vec(), HTTP_1_1.to_vec()],
    };
    config.ticketer = Arc::clone(tickets);
    // A ticket holds all there is to a session, so nothing is kept here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(ring::default_provider())
}

#[cfg(test)]
mod tests;
