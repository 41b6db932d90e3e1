//! Whether clients can reach what they upload and download.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::admins::any_token;
use super::probe::post;
use super::report::Finding;
use super::targets::Targets;
use crate::cli::open;
use crate::config::{Config, PublicUrl};
use crate::gateway::Snapshot;
use crate::route::Found;

const OBJECTS: &str = "objects";

/// The path of OpenIM's that gives the address of the object storage and stores nothing.
/// Source: open-im-server `internal/rpc/third/s3.go`, `InitiateFormData`.
const FORM: &str = "/object/initiate_form_data";

/// How long the object storage may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks OpenIM where uploads go, and looks whether clients get there.
pub(super) async fn examine(
    config: &Config,
    snapshot: &Snapshot,
    targets: &Targets<'_>,
    is_usable: bool,
) -> Vec<Finding> {
    let mut findings = vec![links(config, snapshot)];
    let url = if is_usable { storage(config, targets).await } else { None };
    match url.as_deref().map(parse) {
        Some(Some((url, path))) => findings.extend(judge(config, snapshot, &url, &path).await),
        Some(None) => findings.push(Finding::fail(
            OBJECTS,
            "OpenIM gives clients an address of its object storage that is no URL",
            "set externalAddress in OpenIM's config/minio.yml, with its scheme",
        )),
        None => findings.push(Finding::skip(
            OBJECTS,
            "where uploads go is not known: it takes an admin's token in the store to ask OpenIM",
        )),
    }
    findings
}

/// Whether links in messages, which begin with the public URL, lead to OpenIM.
fn links(config: &Config, snapshot: &Snapshot) -> Finding {
    let path = format!("{}/object/imgate/doctor", path_of(&config.public_url));
    let host = config.public_url.host();
    let mut listeners = config.listeners.iter().map(|listener| listener.name.as_deref());
    let leads =
        |listener| matches!(snapshot.table.find(listener, host, &Method::GET, &path), Found::Route(_));
    if listeners.any(leads) {
        return Finding::ok(
            OBJECTS,
            format!("links in messages begin with {}/object/, which has a route", config.public_url),
        );
    }
    Finding::warn(
        OBJECTS,
        format!("links in messages begin with {}/object/, which has no route", config.public_url),
        "images and files in messages are answered 404: add\n\
         - { prefix: /object/, methods: [GET], upstream: openim_api, stream: true, public: true, chain: open }",
    )
}

/// Asks OpenIM where a client would upload to.
async fn storage(config: &Config, targets: &Targets<'_>) -> Option<String> {
    let writer = open(config).await.ok()?;
    let (admin, token) = any_token(config, &writer).await?;
    let body = json!({
        "name": format!("{admin}/imgate-doctor"), "size": 1, "contentType": "text/plain",
        "group": "", "millisecond": 1000,
    });
    for target in targets.api() {
        if let Ok(said) = post(&target.upstream, FORM, Some(&token), &body).await
            && let Some(url) = said.data["url"].as_str()
        {
            return Some(url.to_owned());
        }
    }
    None
}

/// The URL without its query, and its path.
fn parse(url: &str) -> Option<(PublicUrl, String)> {
    let url = PublicUrl::parse(url.split('?').next()?).ok()?;
    let path = path_of(&url).to_owned();
    Some((url, path))
}

fn path_of(url: &PublicUrl) -> &str {
    let whole = url.header().to_str().unwrap_or_default();
    let rest = whole.split_once("://").map_or("", |(_, rest)| rest);
    rest.find('/').map_or("", |slash| &rest[slash..])
}

async fn judge(config: &Config, snapshot: &Snapshot, url: &PublicUrl, path: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.public_url.scheme() == "https" && url.scheme() == "http" {
        findings.push(Finding::warn(
            OBJECTS,
            format!("clients upload to {url}, without TLS"),
            "web pages loaded by https refuse that: give OpenIM's externalAddress an https:// URL",
        ));
    }
    findings.push(if config.hosts.iter().any(|host| **host == *url.authority()) {
        behind_us(snapshot, url, path)
    } else {
        elsewhere(config, url).await
    });
    findings
}

/// Uploads come to the gateway: it has to let them through, to the storage, with their host and path.
fn behind_us(snapshot: &Snapshot, url: &PublicUrl, path: &str) -> Finding {
    let path = format!("{path}/imgate-doctor");
    let mut names = snapshot.listeners.iter().map(|listener| listener.name.as_deref());
    let leads =
        |listener| matches!(snapshot.table.find(listener, url.host(), &Method::PUT, &path), Found::Route(_));
    if names.any(leads) {
        return Finding::ok(OBJECTS, format!("clients upload to {url}, which has a route here"));
    }
    Finding::fail(
        OBJECTS,
        format!("clients upload to {url}, which is this gateway, and no route takes it"),
        "add a route to the object storage that streams, with the bucket as its prefix, and keeps host and path",
    )
}

/// Uploads go past the gateway: clients have to get there by themselves.
async fn elsewhere(config: &Config, url: &PublicUrl) -> Finding {
    let is_test = is_local(config.public_url.host());
    if is_local(url.host()) && !is_test {
        return Finding::fail(
            OBJECTS,
            format!("clients are sent to {url} for uploads, which only this machine reaches"),
            "set externalAddress in OpenIM's config/minio.yml to an address that clients reach",
        );
    }
    let default = if url.scheme() == "https" { ":443" } else { ":80" };
    let authority = url.authority();
    let has_port =
        authority.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let server = if has_port { authority.to_owned() } else { format!("{authority}{default}") };
    let connected = match timeout(PATIENCE, TcpStream::connect(&server)).await {
        Ok(Ok(stream)) => stream.peer_addr().ok(),
        _ => None,
    };
    match connected {
        None => Finding::warn(
            OBJECTS,
            format!("clients are sent to {url} for uploads, which cannot be reached from here"),
            "start the object storage, or correct externalAddress in OpenIM's config/minio.yml",
        ),
        Some(peer) if is_private(peer) && !is_test => Finding::warn(
            OBJECTS,
            format!("clients are sent to {url} for uploads, an address of a private network ({peer})"),
            "clients outside that network cannot upload: set externalAddress to a public name",
        ),
        Some(_) => Finding::ok(OBJECTS, format!("clients upload to {url}, which accepts connections")),
    }
}

/// A host that means another machine to everybody.
fn is_local(host: &str) -> bool {
    let ip: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    ip.map_or(host == "localhost", |ip| ip.is_loopback() || ip.is_unspecified())
}

fn is_private(peer: SocketAddr) -> bool {
    match peer.ip() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}
