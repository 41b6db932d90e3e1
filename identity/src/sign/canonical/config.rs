//! What the YAML says of a scheme.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::date::TimestampForm;
use super::encoding::Encoding;

/// How clients sign. Nothing has a default that could be wrong in silence.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The headers that carry the credential, each with its exact form: literal text, and
    /// `{session}`, `{timestamp}`, `{nonce}`, `{digest}` and `{signature}` where they stand. All of
    /// them must be in a request.
    pub headers: BTreeMap<String, String>,
    /// The text that is signed: literal text, the five names above but `{signature}`, and `{method}`,
    /// `{authority}`, `{path}`, `{query}`, `{target}` (the path, and `?` and the query if there is one)
    /// and `{header:name}`. A line feed is a line feed, the last one included.
    pub string_to_sign: String,
    /// How the signature is written.
    pub encoding: Encoding,
    /// How the SHA-256 of the body is written, where `{digest}` stands.
    pub digest: Option<Encoding>,
    /// What of a session's secret is the key.
    pub key: KeyForm,
    /// How the time is written.
    pub timestamp: TimestampForm,
    /// Accepts a text that leaves out the method, the path, the query, the time or the body, and with
    /// it that those can be changed by whoever sees a request.
    #[serde(default)]
    pub weak: bool,
}

/// What of a session's secret is the HMAC key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyForm {
    /// The 32 bytes.
    Raw,
    /// The 44 characters of standard base64 in which the secret is handed out, as text.
    Base64,
    /// The 64 characters of lower-case hex, as text.
    Hex,
    /// 32 bytes of HKDF-SHA256 without salt, info `imgate/v1/canonical`.
    Hkdf,
}
