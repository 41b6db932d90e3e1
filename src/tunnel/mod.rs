//! WebSocket passthrough: the gateway relays the bytes itself.
//!
//! Stock Pingora holds 250 KB per idle socket, ends some at once (its issue 946) and cuts idle ones
//! after a minute. Here the chain runs first, the handshake is sent, and then both connections leave
//! Pingora for [`Relay`], which owns a buffer only while bytes wait for a slow reader. Frames are
//! never parsed: pings, pongs and closes belong to the two ends.

mod relay;

use std::net::IpAddr;

use http::header::{CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Version};
use imgate_filters::{Cause, Reject};
use pingora_http::RequestHeader;

pub use self::relay::{Ended, Relay, Traffic};

/// What of a handshake's head goes upstream. An allow-list: OpenIM echoes no subprotocol and takes no
/// extension, and reads `compression` and tokens from headers as well.
const FORWARDED: [HeaderName; 5] = [HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, ORIGIN, USER_AGENT];

/// What a request to a socket route is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A WebSocket handshake.
    Handshake,
    /// A plain GET, by which SDKs learn why a handshake failed.
    Probe,
}

/// Reads what a request asks for, before hop-by-hop headers are removed.
///
/// # Errors
/// It is neither: another method, a body, another protocol, or a handshake with a part missing.
/// Source: RFC 6455 section 4.2.1.
pub fn ask(head: &RequestHeader, has_body: bool) -> Result<Ask, Reject> {
    let bad = |reason| Err(Reject::new(Cause::BadRequest, reason));
    if has_body {
        return bad("handshake_with_body");
    }
    if head.method != Method::GET {
        return bad("handshake_not_get");
    }
    if !head.headers.contains_key(UPGRADE) {
        return Ok(Ask::Probe);
    }
    if head.version != Version::HTTP_11 || !has_only(head, &UPGRADE, "websocket") {
        return bad("upgrade_unknown");
    }
    if !lists(head, &CONNECTION, "upgrade") || !has_only(head, &SEC_WEBSOCKET_VERSION, "13") {
        return bad("handshake_incomplete");
    }
    let mut keys = head.headers.get_all(SEC_WEBSOCKET_KEY).iter();
    match (keys.next(), keys.next()) {
        (Some(key), None) if key.len() == 24 => Ok(Ask::Handshake),
        _ => bad("handshake_incomplete"),
    }
}

fn has_only(head: &RequestHeader, name: &HeaderName, value: &str) -> bool {
    let mut values = head.headers.get_all(name).iter();
    let first = values.next().is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(value.as_bytes()));
    first && values.next().is_none()
}

fn lists(head: &RequestHeader, name: &HeaderName, option: &str) -> bool {
    head.headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|word| word.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
}

/// Leaves of a probe's head what of a handshake's would go upstream: OpenIM is to judge both alike.
pub fn keep_forwarded(head: &mut RequestHeader) {
    let others: Vec<HeaderName> =
        head.headers.keys().filter(|name| !FORWARDED.contains(name)).cloned().collect();
    for name in &others {
        head.remove_header(name);
    }
}

/// Writes the handshake as it goes upstream.
pub fn write_handshake(head: &RequestHeader, target: &[u8], client: IpAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + target.len());
    out.extend_from_slice(b"GET ");
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\n");
    for name in &FORWARDED {
        if let Some(value) = head.headers.get(name) {
            write_line(&mut out, name, value);
        }
    }
    out.extend_from_slice(format!("x-forwarded-for: {client}\r\nx-real-ip: {client}\r\n\r\n").as_bytes());
    out
}

fn write_line(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake() -> Vec<(&'static str, &'static str)> {
        vec![
            ("Host", "h"),
            ("Upgrade", "websocket"),
            ("Connection", "keep-alive, Upgrade"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ]
    }

    fn head(lines: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/ws?token=x", None).unwrap();
        for (name, value) in lines {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    #[test]
    fn handshakes_and_probes_are_told_apart() {
        assert_eq!(ask(&head(&handshake()), false), Ok(Ask::Handshake));
        assert_eq!(ask(&head(&[("Host", "h")]), false), Ok(Ask::Probe));
    }

    #[test]
    fn what_is_neither_is_refused() {
        let reason = |lines: &[(&'static str, &'static str)]| ask(&head(lines), false).unwrap_err().reason;
        let with = |name: &'static str, value: &'static str| {
            let mut lines = handshake();
            lines.retain(|(n, _)| *n != name);
            lines.push((name, value));
            lines
        };
        assert_eq!(reason(&with("Upgrade", "h2c")), "upgrade_unknown");
        assert_eq!(reason(&with("Upgrade", "websocket, h2c")), "upgrade_unknown");
        assert_eq!(reason(&with("Connection", "close")), "handshake_incomplete");
        assert_eq!(reason(&with("Sec-WebSocket-Version", "8")), "handshake_incomplete");
        assert_eq!(reason(&with("Sec-WebSocket-Key", "short")), "handshake_incomplete");
        assert_eq!(ask(&head(&handshake()), true).unwrap_err().reason, "handshake_with_body");
    }

    #[test]
    fn only_listed_headers_go_upstream() {
        let mut lines = handshake();
        lines.extend([
            ("Sec-WebSocket-Protocol", "app"),
            ("Sec-WebSocket-Extensions", "permessage-deflate"),
            ("Cookie", "secret"),
            ("Authorization", "secret"),
            ("compression", "gzip"),
            ("token", "secret"),
            ("X-Forwarded-For", "6.6.6.6"),
        ]);
        let wire = write_handshake(&head(&lines), b"/ws?token=x", "10.0.0.1".parse().unwrap());
        assert_eq!(
            String::from_utf8(wire).unwrap(),
            "GET /ws?token=x HTTP/1.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\nhost: h\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\
             x-forwarded-for: 10.0.0.1\r\nx-real-ip: 10.0.0.1\r\n\r\n"
        );
    }
}
