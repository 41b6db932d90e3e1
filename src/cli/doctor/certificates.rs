//! Whether certificates last, and are for the hosts that clients ask for.
//!
//! That a key goes with its certificate, and that today is between its dates, is asked when it is read.

use std::path::Path;

use imgate_filters::folder::Folder;
use imgate_identity::time::UnixTime;

use super::report::Finding;
use crate::config::Config;
use crate::front::tls::Certificate;

const CERTIFICATE: &str = "certificate";

/// How long before its end a certificate calls for a new one, in days.
const SOON: u64 = 30;

const DAY: u64 = 24 * 60 * 60;

/// Looks at the certificates of all listeners, and at one that somebody else shows to clients.
pub(super) fn examine(config: &Config, shown: Option<(&Path, &Path)>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for listener in &config.listeners {
        if let Some(tls) = &listener.tls {
            findings.extend(listened(config, &tls.certificates));
        }
    }
    if let Some((chain, key)) = shown {
        // Named on the command line: relative to where it was typed.
        match Certificate::load(&Folder::new(Path::new("")), chain, key, UnixTime::now()) {
            Ok(certificate) => findings.extend(listened(config, std::slice::from_ref(&certificate))),
            Err(why) => {
                let found = format!("{} cannot be used", chain.display());
                findings.push(Finding::fail(CERTIFICATE, found, why.to_string()));
            }
        }
    }
    if findings.is_empty() {
        findings.push(without(config));
    }
    findings
}

/// What is to be said where no certificate is at hand.
fn without(config: &Config) -> Finding {
    if config.public_url.scheme() == "https" {
        return Finding::skip(
            CERTIFICATE,
            "TLS ends in front of the gateway; name its certificate with --certificate and --key",
        );
    }
    Finding::warn(
        CERTIFICATE,
        format!("clients reach {} without TLS", config.public_url),
        "whoever is on the way reads messages and tokens; give clients an https:// URL",
    )
}

/// The certificates of one place: how long each lasts, and whether one is for each of our hosts.
fn listened(config: &Config, certificates: &[Certificate]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = certificates.iter().map(dates).collect();
    let hosts = config.hosts.iter().map(|host| bare(host)).filter(|host| !is_address(host));
    for host in hosts {
        findings.push(if certificates.iter().any(|certificate| covers(&certificate.names, host)) {
            Finding::ok(CERTIFICATE, format!("one is for {host}"))
        } else {
            Finding::fail(
                CERTIFICATE,
                format!("none is for {host}, which clients ask for"),
                "clients refuse others: get one that lists this name, or correct public_url and hosts",
            )
        });
    }
    findings
}

fn dates(certificate: &Certificate) -> Finding {
    let (name, ends) = (certificate.file.display(), certificate.ends());
    let days = UnixTime::now().until(certificate.not_after).as_secs() / DAY;
    if days < SOON {
        let found = format!("{name} expires in {days} days, at {ends}");
        return Finding::warn(
            CERTIFICATE,
            found,
            "renew it before it does; does whatever renews it still run?",
        );
    }
    Finding::ok(CERTIFICATE, format!("{name} and its key are good for {days} days"))
}

/// The host without a port.
fn bare(host: &str) -> &str {
    host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(host, |(host, _)| host)
}

fn is_address(host: &str) -> bool {
    host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()
}

/// Whether a certificate of these names is for the host. Source: RFC 6125 section 6.4.3.
fn covers(names: &[Box<str>], host: &str) -> bool {
    let parent = host.split_once('.').map(|(_, parent)| parent);
    names
        .iter()
        .any(|name| **name == *host || name.strip_prefix("*.").is_some_and(|name| Some(name) == parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        let names: [Box<str>; 2] = ["im.example.com".into(), "*.example.org".into()];
        for (host, is_covered) in [
            ("im.example.com", true),
            ("a.example.org", true),
            ("example.org", false),
            ("a.b.example.org", false),
            ("example.com", false),
        ] {
            assert_eq!(covers(&names, host), is_covered, "{host}");
        }
        assert_eq!(
            (bare("im.example.com:8443"), bare("[::1]"), bare("[::1]:80")),
            ("im.example.com", "[::1]", "[::1]")
        );
    }
}
