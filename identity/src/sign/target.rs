//! What a signature is for: the request line's parts and the host, as the client sent them.

use super::base::Line;

/// The parts of a request that every signature covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// The host, lower case, with the port unless it is the default one of the public scheme.
    pub authority: &'a str,
    /// The path as sent, escapes untouched; an empty one counts as `/`.
    pub path: &'a str,
    /// The query as sent, without its `?`. A bare `?` is `Some("")` and cannot be verified, because the
    /// signature base does not tell it from no query at all.
    pub query: Option<&'a str>,
}

/// The signature was not made by this key for this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature does not match the request")]
pub struct Mismatch;

impl<'a> Target<'a> {
    /// Whether the base spells this target and no other. A line feed could pose as another line.
    pub(super) fn is_unambiguous(&self) -> bool {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        let query = self.query.is_none_or(|query| !query.is_empty() && plain(query));
        query && plain(self.method) && plain(self.authority) && plain(self.path)
    }

    /// The lines of the signature base, in the order of the profile.
    pub(super) fn lines(self, content_digest: Option<&'a str>) -> impl Iterator<Item = Line<'a>> {
        let path = if self.path.is_empty() { "/" } else { self.path };
        let covered = [
            Line::new("\"@method\"", self.method),
            Line::new("\"@authority\"", self.authority),
            Line::new("\"@path\"", path),
            // An absent query counts as an empty one. Source: RFC 9421 section 2.2.7.
            Line { id: "\"@query\"", value: ["?", self.query.unwrap_or_default()] },
        ];
        covered.into_iter().chain(content_digest.map(|value| Line::new("\"content-digest\"", value)))
    }
}
