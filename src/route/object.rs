//! Paths that hold the name of an object, which S3 lets be nearly any text.
//!
//! Such a path is forwarded byte by byte as it came, because the client's signature covers it. Behind us
//! some hop may decode it, and decode it again, or take several `/` for one. [`readings`] says what the
//! path would be there, so that it can be refused if that led anywhere else.

use percent_encoding::percent_decode_str;

use super::{PathFault, check_path};

/// How often a path is decoded behind us: by the storage, and by a careless proxy before it.
const DECODED: usize = 2;

/// How else a path can be read; `None` if it holds what no name may hold: a dot segment or a control
/// character in any reading, a malformed escape, a bare delimiter or a bare byte outside visible ASCII.
pub(super) fn readings(path: &str) -> Option<[String; DECODED]> {
    path.strip_prefix('/')?.split('/').all(is_spelled_well).then_some(())?;
    let once = reading(path)?;
    let twice = reading(&once)?;
    Some([once, twice])
}

/// Whether a segment is escaped where it must be. That it may be escaped elsewhere, too, is the point.
fn is_spelled_well(segment: &str) -> bool {
    match check_path(&format!("/{segment}")) {
        Ok(()) | Err(PathFault::Disguise) => has_whole_escapes(segment),
        Err(_) => false,
    }
}

fn has_whole_escapes(segment: &str) -> bool {
    let hex = |digit: Option<&u8>| digit.is_some_and(u8::is_ascii_hexdigit);
    let bytes = segment.as_bytes();
    memchr::memchr_iter(b'%', bytes).all(|at| hex(bytes.get(at + 1)) && hex(bytes.get(at + 2)))
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
