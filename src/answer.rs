//! From an upstream's answer to the client's: what is dropped, what is set, what is compressed.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora_http::ResponseHeader;

use imgate_filters::cors;

/// Answers below this are sent as they are, in bytes.
const GZIP_FROM: usize = 1024;

/// Whether an upstream's header stays behind: hop-by-hop ones, and the cross-origin ones that are ours.
pub fn is_dropped(name: &HeaderName) -> bool {
    [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
        || cors::is_cors_header(name)
}

/// Compresses a body if the client takes gzip and it is worth it. OpenIM's SDKs know no other coding.
pub fn compress(head: &mut ResponseHeader, body: Bytes, request: &HeaderMap) -> Bytes {
    let worth_it = body.len() >= GZIP_FROM && !head.headers.contains_key(CONTENT_ENCODING) && is_text(head);
    if !worth_it {
        return body;
    }
    let _ = head.append_header(VARY, HeaderValue::from_static("Accept-Encoding"));
    if !accepts_gzip(request) {
        return body;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
    // Writing to a Vec cannot fail; if it did, the body goes out as it is.
    match encoder.write_all(&body).and_then(|()| encoder.finish()) {
        Ok(packed) => {
            let _ = head.insert_header(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            packed.into()
        }
        Err(_) => body,
    }
}

fn is_text(head: &ResponseHeader) -> bool {
    let kind = head.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    kind.starts_with("application/json") || kind.starts_with("text/")
}

/// Source: RFC 9110 section 12.5.3; a quality of 0 is a refusal.
fn accepts_gzip(request: &HeaderMap) -> bool {
    request.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).any(
        |coding| {
            let (name, params) = coding.split_once(';').unwrap_or((coding, ""));
            let refused = params
                .split_once('=')
                .and_then(|(_, q)| q.trim().parse::<f32>().ok())
                .is_some_and(|q| q <= 0.0);
            name.trim().eq_ignore_ascii_case("gzip") && !refused
        },
    )
}

/// Sets the length of a body that is known whole. An answer without a body keeps what it says: to a
/// HEAD it is the length there would be. A 204 says nothing; source: RFC 9110 section 8.6.
pub fn set_length(head: &mut ResponseHeader, method: &http::Method, body: &Bytes) {
    let bodiless = *method == http::Method::HEAD || matches!(head.status.as_u16(), 204 | 304);
    if head.status == http::StatusCode::NO_CONTENT {
        head.remove_header(&CONTENT_LENGTH);
    }
    if !bodiless {
        let _ = head.insert_header(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn compressed(length: usize, accept: &str, kind: &str) -> Option<Vec<u8>> {
        let mut head = ResponseHeader::build(200, None).unwrap();
        head.insert_header(CONTENT_TYPE, kind).unwrap();
        let mut request = HeaderMap::new();
        request.insert(ACCEPT_ENCODING, HeaderValue::from_str(accept).unwrap());
        let body = compress(&mut head, vec![b'x'; length].into(), &request);
        head.headers.contains_key(CONTENT_ENCODING).then(|| body.to_vec())
    }

    #[test]
    fn large_text_is_compressed_for_those_who_take_gzip() {
        let packed = compressed(5000, "br, gzip", "application/json; charset=utf-8").unwrap();
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, vec![b'x'; 5000]);
        for (length, accept, kind) in [
            (1023, "gzip", "application/json"),
            (5000, "br", "application/json"),
            (5000, "gzip;q=0", "application/json"),
            (5000, "gzip", "image/png"),
        ] {
            assert!(compressed(length, accept, kind).is_none(), "{length} {accept} {kind}");
        }
    }
}
