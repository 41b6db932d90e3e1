//! Paths that hold the name of an object, which S3 lets be nearly any text.
//!
//! Such a path is forwarded byte by byte as it came, because the client's signature covers it. Behind us
//! some hop may decode it, and decode it again, or take several `/` for one. [`readings`] says what the
//! path would be there, so that it can be refused if that led anywhere else.

use percent_encoding::percent_decode_str;

/// How often a path is decoded behind us: by the storage, and by a careless proxy before it.
const DECODED: usize = 2;

/// How else a path can be read; `None` if it holds what no name may hold: a dot segment or a control
/// character in any reading, a malformed escape, a bare delimiter or a bare byte outside visible ASCII.
pub(super) fn readings(path: &str) -> Option<[String; DECODED]> {
    is_spelled_well(path).then_some(())?;
    let once = reading(path)?;
    let twice = reading(&once)?;
    Some([once, twice])
}

/// Whether all is escaped that must be. That more may be escaped is the point.
fn is_spelled_well(path: &str) -> bool {
    let hex = |digit: Option<&u8>| digit.is_some_and(u8::is_ascii_hexdigit);
    let bytes = path.as_bytes();
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => hex(bytes.get(at + 1)) && hex(bytes.get(at + 2)),
        b'\\' | b';' | b'#' | b'?' => false,
        byte => byte.is_ascii_graphic(),
    })
}

/// The path as somebody sees it who decodes it and skips empty segments.
fn reading(path: &str) -> Option<String> {
    let decoded = percent_decode_str(path).decode_utf8_lossy().replace('\\', "/");
    if decoded.contains(|c: char| c.is_ascii_control()) || decoded.split('/').any(is_dots) {
        return None;
    }
    let mut read = String::with_capacity(decoded.len());
    for segment in decoded.split('/').filter(|segment| !segment.is_empty()) {
        read.push('/');
        read.push_str(segment);
    }
    if decoded.ends_with('/') {
        read.push('/');
    }
    Some(read)
}

/// Some servers cut a segment at its first `;` before they resolve it.
fn is_dots(segment: &str) -> bool {
    let name = segment.split_once(';').map_or(segment, |(name, _)| name);
    name == "." || name == ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_hops_behind_us_could_read_it() {
        let cases = [
            ("/b/plain", "/b/plain", "/b/plain"),
            ("/b//a///c//", "/b/a/c/", "/b/a/c/"),
            ("/b/%61%2Fc%5cd", "/b/a/c/d", "/b/a/c/d"),
            ("/b/%2561%252f/", "/b/%61%2f/", "/b/a/"),
            ("/b/100%25.png", "/b/100%.png", "/b/100%.png"),
            ("/b/%E5%9B%BE%ff", "/b/\u{56fe}\u{fffd}", "/b/\u{56fe}\u{fffd}"),
            ("/b/a%3Bx/...", "/b/a;x/...", "/b/a;x/..."),
            ("/", "/", "/"),
        ];
        for (path, once, twice) in cases {
            assert_eq!(readings(path), Some([once.to_owned(), twice.to_owned()]), "{path}");
        }
    }

    #[test]
    fn what_no_name_may_hold_has_no_reading() {
        for path in [
            "/b/..",
            "/b/./a",
            "/b/%2e%2E/a",
            "/b/a%2f.%2e",
            "/b/%252e%252e",
            "/b/..%3bx",
            "/b/%5c..",
            "/b/%00",
            "/b/%250a",
            "/b/%7f",
            "/b/%",
            "/b/%4",
            "/b/%41%zz",
            "/b/%41;x",
            "/b/%41\\x",
            "/b/%41 x",
            "/b/%41\u{e9}",
        ] {
            assert_eq!(readings(path), None, "{path}");
        }
    }
}
