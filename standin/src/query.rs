//! Percent-decoding of paths and queries as Go's `net/url` does it.

/// A parsed query; of duplicates the first wins.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Parses a query; pairs Go cannot decode, and those with a semicolon, are dropped.
    pub(crate) fn parse(raw: &str) -> Self {
        let pairs = raw.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';'));
        let pairs = pairs.filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(name, Plus::Space)?, unescape(value, Plus::Space)?))
        });
        Self { pairs: pairs.collect() }
    }

    /// Returns the first value of a name, empty when there is none.
    pub(crate) fn first(&self, name: &str) -> &str {
        self.pairs.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// Decodes a path; none when Go would refuse the request.
pub(crate) fn decode_path(raw: &str) -> Option<String> {
    unescape(raw, Plus::Plus)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Plus,
    Space,
}

fn unescape(raw: &str, plus: Plus) -> Option<String> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => out.push(hex(bytes.next()?)? << 4 | hex(bytes.next()?)?),
            b'+' if plus == Plus::Space => out.push(b' '),
            other => out.push(other),
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Removes empty, `.` and `..` elements from a path, as Go's mux does before it redirects.
///
/// Source: Go `net/http` cleanPath.
pub(crate) fn clean_path(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for element in path.split('/') {
        match element {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let slash = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{slash}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::{Query, clean_path, decode_path};

    #[test]
    fn queries_are_read_as_go_reads_them() {
        let query = Query::parse("a=1&a=2&b=x+y&c=%7A&d;e=1&f=%zz&&g");
        let found = ["a", "b", "c", "d", "f", "g"].map(|name| query.first(name));
        assert_eq!(found, ["1", "x y", "z", "", "", ""]);
    }

    #[test]
    fn paths_are_decoded_once() {
        assert_eq!(decode_path("/%61uth/a+b%2f%252e").as_deref(), Some("/auth/a+b/%2e"));
        assert_eq!(decode_path("/%zz"), None);
    }

    #[test]
    fn paths_are_cleaned_as_the_mux_cleans_them() {
        for (path, clean) in
            [("/", "/"), ("//ws", "/ws"), ("/a/../ws", "/ws"), ("/ws/", "/ws/"), ("/..", "/")]
        {
            assert_eq!(clean_path(path), clean);
        }
    }
}
