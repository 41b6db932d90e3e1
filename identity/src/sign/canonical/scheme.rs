//! A scheme that makes sense: what [`Config`] says, checked and ready to read requests by.

use super::bad::BadScheme;
use super::config::{Config, KeyForm};
use super::encoding::Encoding;
use super::field::{Field, Forms};
use super::template::Template;

/// Headers by their names in lower case, each with its form.
type Headers = Box<[(Box<str>, Template)]>;

/// Names of headers, in lower case.
type Names = Box<[Box<str>]>;

/// How clients sign, checked.
#[derive(Clone, Debug)]
pub struct Scheme {
    pub(super) headers: Headers,
    pub(super) signed_headers: Names,
    pub(super) text: Template,
    pub(super) forms: Forms,
    pub(super) key: KeyForm,
    pub(super) has: Has,
    gaps: Box<[Field]>,
}

/// What of the scheme each request would have to be asked again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Has {
    /// A header carries a nonce.
    pub(super) nonce: bool,
    /// A header carries the body's digest.
    pub(super) digest: bool,
    /// The body's digest is signed.
    signed_digest: bool,
    /// A request may have a query.
    query: bool,
}

/// The fields that `string_to_sign` may leave out only if it says so. The authority is not among
/// them: a request for a host that is not ours is refused anyway.
const NEEDED: [Field; 5] = [Field::Method, Field::Path, Field::Query, Field::Timestamp, Field::Digest];

impl Scheme {
    /// Checks what the configuration says.
    ///
    /// # Errors
    /// A template is none, two requests could have the same text, a header carries what it cannot, or
    /// something that must be signed is not.
    pub fn new(config: &Config) -> Result<Self, BadScheme> {
        let forms = Forms {
            signature: config.encoding,
            // Without {digest} nothing is ever written in this form.
            digest: config.digest.unwrap_or(Encoding::Hex),
            timestamp: config.timestamp,
        };
        let (text, signed_headers) = string_to_sign(&config.string_to_sign)?;
        text.check_unique(&forms)?;
        let headers = headers(config, &forms)?;
        check_sent(&headers, &text)?;
        check_digest_form(config, &headers, &text)?;
        let gaps = gaps(&text, config.weak)?;
        let sends = |field| headers.iter().any(|(_, form)| form.has(field));
        let has = Has {
            nonce: sends(Field::Nonce),
            digest: sends(Field::Digest),
            signed_digest: text.has(Field::Digest),
            query: !gaps.is_empty() || covers(&text, Field::Query),
        };
        Ok(Self { headers, signed_headers, text, forms, key: config.key, has, gaps })
    }

    /// The headers that carry the credential, in lower case. All of them must be in a request, once.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|(name, _)| &**name)
    }

    /// The headers of the app's that are signed, in lower case. All of them must be in a request, once.
    pub fn signed_headers(&self) -> impl Iterator<Item = &str> {
        self.signed_headers.iter().map(|name| &**name)
    }

    /// What is not signed and can therefore be changed by whoever sees a request. Empty unless the
    /// configuration accepts it, but for the query: without [`Scheme::allows_query`] there can be none.
    pub fn gaps(&self) -> &[Field] {
        &self.gaps
    }

    /// Whether a request may have a query: one that is signed, or one that is knowingly not.
    pub fn allows_query(&self) -> bool {
        self.has.query
    }

    /// Whether the signed text has the digest, but no header carries it: the body must be there before
    /// anything can be decided.
    pub fn needs_body(&self) -> bool {
        self.has.signed_digest && !self.has.digest
    }
}

fn string_to_sign(text: &str) -> Result<(Template, Names), BadScheme> {
    let mut names: Vec<Box<str>> = Vec::new();
    let template = Template::parse(text, |name| match name.strip_prefix("header:") {
        Some(header) => signed_header(&mut names, header),
        None => match Field::named(name).ok_or(BadScheme::Placeholder)? {
            Field::Signature => Err(BadScheme::SelfSigned),
            field => Ok(field),
        },
    })?;
    template.check_literals(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\n')?;
    Ok((template, names.into()))
}

fn signed_header(names: &mut Vec<Box<str>>, name: &str) -> Result<Field, BadScheme> {
    let name = header_name(name)?;
    // The host is {authority}, in one spelling; most of the others never reach a filter.
    if is_reserved(&name) && &*name != "content-type" {
        return Err(BadScheme::ReservedHeader);
    }
    let place = names.iter().position(|known| *known == name).unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    });
    if place < 8 { Ok(Field::Header(place as u8)) } else { Err(BadScheme::ManyHeaders) }
}

fn headers(config: &Config, forms: &Forms) -> Result<Headers, BadScheme> {
    let mut headers: Vec<(Box<str>, Template)> = Vec::new();
    for (name, form) in &config.headers {
        let name = header_name(name)?;
        if is_reserved(&name) {
            return Err(BadScheme::ReservedHeader);
        }
        if headers.iter().any(|(known, _)| *known == name) {
            return Err(BadScheme::HeaderTwice);
        }
        let form = Template::parse(form, |name| {
            let field = Field::named(name).ok_or(BadScheme::Placeholder)?;
            if field.is_sent() { Ok(field) } else { Err(BadScheme::NotSent(field)) }
        })?;
        form.check_literals(|byte| byte.is_ascii_graphic() || byte == b' ')?;
        form.check_readable(forms)?;
        headers.push((name, form));
    }
    Ok(headers.into())
}

/// The name in lower case. Source: RFC 9110 section 5.6.2, token.
fn header_name(name: &str) -> Result<Box<str>, BadScheme> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(legal) {
        return Err(BadScheme::HeaderName);
    }
    Ok(name.to_ascii_lowercase().into())
}

/// Whether a header of this name never reaches a filter, or must not be taken from a request.
fn is_reserved(name: &str) -> bool {
    const NAMES: [&str; 21] = [
        "accept-encoding",
        "compression",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "operationid",
        "te",
        "trailer",
        "transfer-encoding",
        "true-client-ip",
        "upgrade",
        "x-client-ip",
        "x-real-ip",
        "x-request-api",
    ];
    let prefixes = ["access-control-", "proxy-", "sec-", "x-forwarded-", "x-imgate-"];
    NAMES.contains(&name) || name.contains('_') || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

fn check_sent(headers: &[(Box<str>, Template)], text: &Template) -> Result<(), BadScheme> {
    let sent: Vec<Field> = headers.iter().flat_map(|(_, form)| form.fields()).collect();
    let twice = sent.iter().enumerate().find(|(i, field)| sent[..*i].contains(field));
    if let Some((_, field)) = twice {
        return Err(BadScheme::SentTwice(*field));
    }
    let nonce = text.has(Field::Nonce).then_some(Field::Nonce);
    let needed = [Field::Session, Field::Timestamp, Field::Signature].into_iter().chain(nonce);
    if let Some(field) = needed.into_iter().find(|field| !sent.contains(field)) {
        return Err(BadScheme::Unsent(field));
    }
    // Replays are found by it, so whoever could change it could send a request again.
    if sent.contains(&Field::Nonce) && nonce.is_none() {
        return Err(BadScheme::UnsignedNonce);
    }
    Ok(())
}

fn check_digest_form(
    config: &Config,
    headers: &[(Box<str>, Template)],
    text: &Template,
) -> Result<(), BadScheme> {
    let used = text.has(Field::Digest) || headers.iter().any(|(_, form)| form.has(Field::Digest));
    match (used, config.digest) {
        (true, None) => Err(BadScheme::DigestForm),
        (false, Some(_)) => Err(BadScheme::NeedlessDigestForm),
        _ => Ok(()),
    }
}

fn covers(text: &Template, field: Field) -> bool {
    let whole = matches!(field, Field::Path | Field::Query) && text.has(Field::Target);
    whole || text.has(field)
}

fn gaps(text: &Template, weak: bool) -> Result<Box<[Field]>, BadScheme> {
    let gaps: Vec<Field> = NEEDED.into_iter().filter(|field| !covers(text, *field)).collect();
    if weak {
        return if gaps.is_empty() { Err(BadScheme::NeedlessWeak) } else { Ok(gaps.into()) };
    }
    // Without the query in the text no request may have one, so nothing is left open.
    match gaps.iter().find(|field| **field != Field::Query) {
        Some(field) => Err(BadScheme::Gap(*field)),
        None => Ok([].into()),
    }
}
