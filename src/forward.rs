//! What of a request is passed on, and what the gateway adds.
//!
//! [`clean`] runs before any filter, so that what a filter sets afterwards cannot be removed by the
//! client naming it in `Connection`. Then each way to the upstream adds the same headers of ours.

use std::net::IpAddr;

use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method};
use pingora_http::RequestHeader;

use imgate_filters::reserved::{
    X_FORWARDED_FOR, X_FORWARDED_PROTO, X_REAL_IP, X_REQUEST_API, is_never_forwarded,
};
use imgate_filters::{Cause, Reject};

/// How many headers a `Connection` may name. Pingora's own limit for what it forwards.
const MAX_NOMINATED: usize = 10;

/// Removes what must not cross the gateway: hop-by-hop headers, those that `Connection` names, forged
/// forwarding and identity headers, and names with an underscore.
///
/// # Errors
/// `Connection` is not a list of header names, names too many, or names one that frames or routes.
pub fn clean(head: &mut RequestHeader) -> Result<(), Reject> {
    let mut doomed: Vec<HeaderName> = Vec::new();
    for value in head.headers.get_all(CONNECTION) {
        nominated(value, &mut doomed)?;
    }
    doomed.extend(head.headers.keys().filter(|name| is_never_forwarded(name)).cloned());
    for name in &doomed {
        head.remove_header(name);
    }
    Ok(())
}

fn nominated(value: &HeaderValue, names: &mut Vec<HeaderName>) -> Result<(), Reject> {
    let bad = |reason| Reject::new(Cause::BadRequest, reason);
    let text = value.to_str().map_err(|_| bad("connection_malformed"))?;
    for option in text.split(',').map(str::trim).filter(|option| !option.is_empty()) {
        if ["close", "keep-alive", "upgrade"].iter().any(|known| option.eq_ignore_ascii_case(known)) {
            continue;
        }
        let name = HeaderName::from_bytes(option.as_bytes()).map_err(|_| bad("connection_malformed"))?;
        if [http::header::HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
            return Err(bad("connection_names_framing"));
        }
        names.push(name);
        if names.len() > MAX_NOMINATED {
            return Err(bad("connection_too_long"));
        }
    }
    Ok(())
}

/// What the gateway tells every upstream about itself and the client.
#[derive(Clone, Debug)]
pub struct Ours {
    api: HeaderValue,
    proto: &'static str,
}

impl Ours {
    /// `api` is `public_url`, `proto` its scheme.
    pub fn new(api: HeaderValue, proto: &'static str) -> Self {
        Self { api, proto }
    }

    /// Sets our headers in a head that Pingora will write.
    pub fn insert(&self, head: &mut RequestHeader, client: IpAddr) {
        let address = HeaderValue::from_str(&client.to_string()).expect("an address is visible ASCII");
        imgate_filters::set_header(head, X_FORWARDED_FOR, address.clone());
        imgate_filters::set_header(head, X_REAL_IP, address);
        imgate_filters::set_header(head, X_FORWARDED_PROTO, HeaderValue::from_static(self.proto));
        imgate_filters::set_header(head, X_REQUEST_API, self.api.clone());
    }

    fn write(&self, out: &mut Vec<u8>, client: IpAddr) {
        use std::io::Write as _;
        // Writing to a Vec cannot fail.
        let _ = write!(
            out,
            "x-forwarded-for: {client}\r\nx-real-ip: {client}\r\nx-forwarded-proto: {}\r\nx-request-api: ",
            self.proto
        );
        out.extend_from_slice(self.api.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Writes a request as it goes upstream, head and body in one piece.
///
/// Framing is ours: one Content-Length for the bytes that are really there. The upstream is asked for
/// identity encoding, because `errCode` must be readable in the answer.
pub fn write_request(
    head: &RequestHeader,
    target: &[u8],
    body: Option<&[u8]>,
    ours: &Ours,
    client: IpAddr,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024 + target.len() + body.map_or(0, <[u8]>::len));
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        if [CONTENT_LENGTH, TRANSFER_ENCODING, ACCEPT_ENCODING].contains(name) {
            continue;
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    ours.write(&mut out, client);
    out.extend_from_slice(b"accept-encoding: identity\r\n");
    let announces = body.is_some() || [Method::POST, Method::PUT, Method::PATCH].contains(&head.method);
    if announces {
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(b"content-length: ");
        out.extend_from_slice(digits.format(body.map_or(0, <[u8]>::len)).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body.unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build("POST", b"/x", None).unwrap();
        for (name, value) in lines {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn names(head: &RequestHeader) -> Vec<&str> {
        head.headers.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn forged_and_hop_by_hop_headers_do_not_cross() {
        let mut head = head(&[
            ("Host", "h"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("X-Forwarded-Prefix", "/evil"),
            ("X_Forwarded_For", "1.2.3.4"),
            ("to_ken", "x"),
            ("X-Imgate-Assertion", "x"),
            ("X-Real-IP", "x"),
            ("X-Request-Api", "x"),
            ("Upgrade", "h2c"),
            ("Connection", "keep-alive, X-App"),
            ("X-App", "x"),
            ("Compression", "gzip"),
            ("Kept", "x"),
        ]);
        clean(&mut head).unwrap();
        assert_eq!(names(&head), ["host", "kept"]);
    }

    #[test]
    fn connection_cannot_touch_routing_or_framing() {
        for value in ["host", "content-length", "\"x\"", "a b", "a,b,c,d,e,f,g,h,i,j,k"] {
            let mut head = head(&[("Connection", value)]);
            assert_eq!(clean(&mut head).unwrap_err().cause, Cause::BadRequest, "{value}");
        }
    }

    #[test]
    fn the_request_leaves_with_our_framing() {
        let head = head(&[("Host", "h"), ("Transfer-Encoding", "chunked"), ("Accept-Encoding", "br")]);
        let ours = Ours::new(HeaderValue::from_static("https://im.example.com"), "https");
        let wire = write_request(&head, b"/y?z", Some(b"{}"), &ours, "10.0.0.1".parse().unwrap());
        assert_eq!(
            String::from_utf8(wire).unwrap(),
            "POST /y?z HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 10.0.0.1\r\nx-real-ip: 10.0.0.1\r\n\
             x-forwarded-proto: https\r\nx-request-api: https://im.example.com\r\n\
             accept-encoding: identity\r\ncontent-length: 2\r\n\r\n{}"
        );
    }
}
