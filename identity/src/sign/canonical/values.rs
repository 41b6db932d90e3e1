//! What the placeholders of one request stand for.

use super::field::Field;
use crate::sign::target::Target;

/// The values of one request, for either side.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) target: Target<'a>,
    pub(super) sent: Sent<'a>,
    /// The headers of the app's that are signed, in the order of the scheme.
    pub(super) headers: &'a [&'a str],
}

/// The fields that a client sends in headers.
#[derive(Clone, Copy, Default)]
pub(super) struct Sent<'a> {
    pub(super) timestamp: &'a str,
    pub(super) nonce: &'a str,
    pub(super) digest: &'a str,
    pub(super) session: &'a str,
    pub(super) signature: &'a str,
}

impl<'a> Values<'a> {
    /// The value, in up to three pieces so that nobody has to join them.
    pub(super) fn of(&self, field: Field) -> [&'a str; 3] {
        let Self { target, sent, headers } = *self;
        let path = if target.path.is_empty() { "/" } else { target.path };
        let one = |text| [text, "", ""];
        match field {
            Field::Method => one(target.method),
            Field::Authority => one(target.authority),
            Field::Path => one(path),
            Field::Query => one(target.query.unwrap_or_default()),
            Field::Target => target.query.map_or(one(path), |query| [path, "?", query]),
            Field::Timestamp => one(sent.timestamp),
            Field::Nonce => one(sent.nonce),
            Field::Digest => one(sent.digest),
            Field::Session => one(sent.session),
            Field::Signature => one(sent.signature),
            Field::Header(place) => one(headers.get(usize::from(place)).copied().unwrap_or_default()),
        }
    }
}

impl<'a> Sent<'a> {
    /// Takes what a header says of a field.
    pub(super) fn set(&mut self, field: Field, text: &'a str) {
        match field {
            Field::Timestamp => self.timestamp = text,
            Field::Nonce => self.nonce = text,
            Field::Digest => self.digest = text,
            Field::Session => self.session = text,
            Field::Signature => self.signature = text,
            // No header has these: `Scheme::new` refuses such a scheme.
            Field::Method
            | Field::Authority
            | Field::Path
            | Field::Query
            | Field::Target
            | Field::Header(_) => {}
        }
    }
}
