//! One GET of a key set: bounded in time and size, over TLS that is verified, no redirect followed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::header::{ACCEPT, CONNECTION, CONTENT_ENCODING, HOST, USER_AGENT};
use imgate_filters::verify_jwt::JwksUrl;
use imgate_identity::jwt::{KeyFault, MAX_SET_LEN};
use pingora_core::connectors::http::v1::Connector;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use tokio::time::timeout;

/// How long an attempt may take, from the name's lookup to the last byte.
const DEADLINE: Duration = Duration::from_secs(10);

/// Of that, how long one address may take to be connected to, if there are others.
const CONNECT: Duration = Duration::from_secs(3);

/// How many addresses of a host are tried.
const MAX_ADDRESSES: usize = 3;

/// Why there is no new key set.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The host's name cannot be looked up.
    #[error("the host cannot be looked up: {0}")]
    Lookup(#[source] io::Error),
    /// The host has no address that may be used.
    #[error("the host has no address")]
    NoAddress,
    /// It cannot be connected to, or the connection broke.
    #[error("{0}")]
    Connection(#[from] Box<pingora_error::Error>),
    /// It took too long.
    #[error("it took longer than 10 s")]
    Timeout,
    /// Not 200.
    #[error("the answer has status {0}")]
    Status(u16),
    /// Compressed although we did not ask for that.
    #[error("the answer is compressed")]
    Compressed,
    /// Not a set of keys that we take.
    #[error("{0}")]
    Keys(#[from] KeyFault),
}

/// Gets what is at `url`.
///
/// # Errors
/// It cannot be had in time, is too large, or is no plain answer of status 200.
pub(super) async fn fetch(connector: &Connector, url: &JwksUrl) -> Result<Vec<u8>, FetchError> {
    timeout(DEADLINE, get(connector, url)).await.map_err(|_| FetchError::Timeout)?
}

async fn get(connector: &Connector, url: &JwksUrl) -> Result<Vec<u8>, FetchError> {
    let mut session = connect(connector, url).await?;
    session.write_request_header(Box::new(request(url)?)).await?;
    session.read_response().await?;
    let head = session.resp_header().ok_or(FetchError::Status(0))?;
    if head.status != http::StatusCode::OK {
        return Err(FetchError::Status(head.status.as_u16()));
    }
    if head.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(FetchError::Compressed);
    }
    let mut json = Vec::new();
    while let Some(bytes) = session.read_body_bytes().await? {
        json.extend_from_slice(&bytes);
        if json.len() > MAX_SET_LEN {
            return Err(KeyFault::TooLong.into());
        }
    }
    Ok(json)
}

async fn connect(connector: &Connector, url: &JwksUrl) -> Result<HttpSession, FetchError> {
    let mut outcome = Err(FetchError::NoAddress);
    for address in addresses(url).await?.into_iter().take(MAX_ADDRESSES) {
        let mut peer = HttpPeer::new(address, url.is_tls(), url.host().to_owned());
        peer.options.total_connection_timeout = Some(CONNECT);
        outcome = match connector.get_http_session(&peer).await {
            Ok((session, _)) => return Ok(session),
            Err(error) => Err(error.into()),
        };
    }
    outcome
}

async fn addresses(url: &JwksUrl) -> Result<Vec<SocketAddr>, FetchError> {
    if let Ok(address) = url.host().parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, url.port())]);
    }
    let found = tokio::net::lookup_host((url.host(), url.port())).await;
    Ok(found.map_err(FetchError::Lookup)?.collect())
}

fn request(url: &JwksUrl) -> Result<RequestHeader, FetchError> {
    let mut head = RequestHeader::build("GET", url.target().as_bytes(), Some(4))?;
    head.insert_header(HOST, url.authority())?;
    head.insert_header(USER_AGENT, concat!("imgate/", env!("CARGO_PKG_VERSION")))?;
    head.insert_header(ACCEPT, "application/jwk-set+json, application/json")?;
    head.insert_header(CONNECTION, "close")?;
    Ok(head)
}
