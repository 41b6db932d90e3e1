//! Paths that every hop reads in the same way.
//!
//! A path that means one thing here and could mean another behind us is refused, whether a client sends
//! it or a configuration names it.

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// It does not begin with `/`.
    #[error("a path begins with `/`")]
    NotAbsolute,
    /// It has two `/` in a row, which some hops take for one.
    #[error("a path has no empty segment")]
    EmptySegment,
    /// It has a segment `.` or `..`, which some hops resolve.
    #[error("a path has no segment `.` or `..`")]
    DotSegment,
    /// It has a byte that is not visible ASCII.
    #[error("a path is visible ASCII")]
    Byte,
    /// It has a `\`, `;`, `#` or `?`, which some hops take for a delimiter.
    #[error("a path has no `\\`, `;`, `#` or `?`")]
    Delimiter,
    /// It has a `%` without two hexadecimal digits behind it.
    #[error("a `%` in a path has two hexadecimal digits behind it")]
    BadEscape,
    /// It has an escape of something that needs none or that a hop could take for a delimiter.
    #[error("a path escapes no letter, digit, `-`, `.`, `_`, `~`, `/`, `\\`, `%`, `;` or control character")]
    Disguise,
    /// Its escapes are no UTF-8, which some hops read as `.` or `/` all the same.
    #[error("the escapes of a path are UTF-8")]
    NotUtf8,
}

impl PathFault {
    /// A stable word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAbsolute => "path_not_absolute",
            Self::EmptySegment => "path_empty_segment",
            Self::DotSegment => "path_dot_segment",
            Self::Byte => "path_byte",
            Self::Delimiter => "path_delimiter",
            Self::BadEscape => "path_bad_escape",
            Self::Disguise => "path_disguise",
            Self::NotUtf8 => "path_not_utf8",
        }
    }
}

/// Refuses a path that means one thing here and could mean another behind us.
///
/// # Errors
/// The path, as sent and without its query, is not absolute, has empty or dot segments, a delimiter or
/// a byte outside visible ASCII, or an escape that is malformed, hides something or is no UTF-8.
pub fn check_path(path: &str) -> Result<(), PathFault> {
    let Some(segments) = path.strip_prefix('/') else { return Err(PathFault::NotAbsolute) };
    if segments.is_empty() {
        return Ok(());
    }
    // Only the last segment may be empty: a path may end in `/`.
    let mut rest = Some(segments);
    while let Some(text) = rest {
        let (segment, behind) = match text.split_once('/') {
            Some((segment, behind)) => (segment, Some(behind)),
            None => (text, None),
        };
        if segment.is_empty() && behind.is_some() {
            return Err(PathFault::EmptySegment);
        }
        check_segment(segment)?;
        rest = behind;
    }
    Ok(())
}

fn check_segment(segment: &str) -> Result<(), PathFault> {
    if segment == "." || segment == ".." {
        return Err(PathFault::DotSegment);
    }
    let bytes = segment.as_bytes();
    let mut is_ascii = true;
    for (i, byte) in bytes.iter().enumerate() {
        match byte {
            b'\\' | b';' | b'#' | b'?' => return Err(PathFault::Delimiter),
            b'%' => is_ascii &= escaped(bytes.get(i + 1..i + 3))?.is_ascii(),
            byte if !byte.is_ascii_graphic() => return Err(PathFault::Byte),
            _ => {}
        }
    }
    if is_ascii || std::str::from_utf8(&decode(bytes)).is_ok() { Ok(()) } else { Err(PathFault::NotUtf8) }
}

/// The bytes that a segment stands for; its escapes are well formed.
fn decode(segment: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let [first, behind @ ..] = rest {
        let escape = (*first == b'%').then(|| escaped(behind.get(..2)).ok()).flatten();
        decoded.push(escape.unwrap_or(*first));
        rest = if escape.is_some() { &behind[2..] } else { behind };
    }
    decoded
}

/// The byte that these two digits stand for, if it may be escaped.
fn escaped(digits: Option<&[u8]>) -> Result<u8, PathFault> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let Some(&[high, low]) = digits else { return Err(PathFault::BadEscape) };
    let (Some(high), Some(low)) = (value(high), value(low)) else { return Err(PathFault::BadEscape) };
    let Ok(decoded) = u8::try_from(high * 16 + low) else { return Err(PathFault::BadEscape) };
    let hides = decoded.is_ascii_alphanumeric()
        || decoded.is_ascii_control()
        || matches!(decoded, b'-' | b'.' | b'_' | b'~' | b'/' | b'\\' | b'%' | b';');
    if hides { Err(PathFault::Disguise) } else { Ok(decoded) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_paths_are_refused() {
        use PathFault::{
            BadEscape, Byte, Delimiter, Disguise, DotSegment, EmptySegment, NotAbsolute, NotUtf8,
        };
        let cases = [
            ("", NotAbsolute),
            ("*", NotAbsolute),
            ("a/b", NotAbsolute),
            ("http://h/a", NotAbsolute),
            ("//", EmptySegment),
            ("//a", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a//", EmptySegment),
            ("/.", DotSegment),
            ("/a/../b", DotSegment),
            ("/a/./b", DotSegment),
            ("/a/..", DotSegment),
            ("/a b", Byte),
            ("/%c0%ae%c0%ae/a", NotUtf8),
            ("/%ff", NotUtf8),
            ("/%e5/%9b%be", NotUtf8),
            ("/%e5a%9b%be", NotUtf8),
            ("/a\tb", Byte),
            ("/a\0", Byte),
            ("/a\u{7f}", Byte),
            ("/é", Byte),
            ("/a\\b", Delimiter),
            ("/a;b", Delimiter),
            ("/a#b", Delimiter),
            ("/a?b", Delimiter),
            ("/%", BadEscape),
            ("/%4", BadEscape),
            ("/%zz", BadEscape),
            ("/%+1", BadEscape),
            ("/%2/5", BadEscape),
            ("/%é", BadEscape),
            ("/%61", Disguise),
            ("/%2e%2e", Disguise),
            ("/%2E", Disguise),
            ("/a%2fb", Disguise),
            ("/a%5Cb", Disguise),
            ("/a%25", Disguise),
            ("/a%3bb", Disguise),
            ("/a%00", Disguise),
            ("/a%7f", Disguise),
            ("/a%7E", Disguise),
            ("/a%5F", Disguise),
        ];
        for (path, fault) in cases {
            assert_eq!(check_path(path), Err(fault), "{path:?}");
        }
    }

    #[test]
    fn plain_paths_are_accepted() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c",
            "/...",
            "/.a",
            "/a..b",
            "/a%20b",
            "/%E6%96%87",
            "/a:b@c!$&'()*+,=",
            "/[1]|^~",
        ] {
            assert_eq!(check_path(path), Ok(()), "{path:?}");
        }
    }
}
