//! Where a secret is: in a file, in the environment or with systemd, never in the YAML itself.
//!
//! ```text
//! password: { file: /etc/imgate/redis.password }
//! password: { env: REDIS_PASSWORD }
//! password: { credential: redis }      # $CREDENTIALS_DIRECTORY/redis
//! ```

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::{env, fmt};

use imgate_identity::secret::Secret;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use crate::folder::{Content, Folder};

/// The longest secret that is read, in bytes.
const MAX_LEN: usize = 64 * 1024;

/// Where systemd puts credentials. Source: systemd.exec(5), `LoadCredential=`.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

const KINDS: [&str; 3] = ["file", "env", "credential"];

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file.
    File(PathBuf),
    /// In a variable of the environment.
    Env(String),
    /// Among the credentials that systemd loads for the service.
    Credential(String),
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be opened or read.
    #[error("secret file {} cannot be read: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The variable is not set, or not text.
    #[error("environment variable {0} is not set")]
    Unset(String),
    /// The service was started without credentials.
    #[error(
        "there are no credentials\nhint: systemd sets CREDENTIALS_DIRECTORY for units with LoadCredential="
    )]
    NoCredentials,
    /// A credential's name that leads elsewhere.
    #[error("a credential is named without `/`")]
    CredentialName,
    /// There is nothing in it.
    #[error("the secret is empty")]
    Empty,
    /// There is too much in it.
    #[error("the secret is longer than 64 KiB")]
    TooLong,
    /// It is not UTF-8.
    #[error("the secret is not UTF-8 text")]
    NotText,
}

impl SecretSource {
    /// Reads the secret; a line break at its end does not count. A relative file is sought in `base`.
    ///
    /// # Errors
    /// The secret is not there, cannot be read, is empty, too long or not UTF-8.
    pub fn read(&self, base: &Folder) -> Result<Secret<String>, SecretError> {
        let text = match self {
            Self::File(path) => read_file(base, path)?,
            Self::Env(name) => env::var(name).map_err(|_| SecretError::Unset(name.clone()))?,
            Self::Credential(name) => read_credential(base, name)?,
        };
        let text = Secret::new(text);
        let trimmed = text.expose().trim_end_matches(['\n', '\r']);
        if trimmed.is_empty() {
            return Err(SecretError::Empty);
        }
        Ok(Secret::new(trimmed.to_owned()))
    }
}

fn read_credential(base: &Folder, name: &str) -> Result<String, SecretError> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(SecretError::CredentialName);
    }
    let folder = env::var_os(CREDENTIALS_DIRECTORY).ok_or(SecretError::NoCredentials)?;
    read_file(base, &Path::new(&folder).join(name))
}

fn read_file(base: &Folder, name: &Path) -> Result<String, SecretError> {
    let unreadable = |cause| SecretError::Unreadable { path: base.path_of(name), cause };
    let bytes = base.read(name, MAX_LEN, Content::Secret).map_err(unreadable)?;
    if bytes.len() > MAX_LEN {
        return Err(SecretError::TooLong);
    }
    String::from_utf8(bytes).map_err(|_| SecretError::NotText)
}

impl JsonSchema for SecretSource {
    fn schema_name() -> Cow<'static, str> {
        "SecretSource".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let kind = |kind: &str| {
            json_schema!({
                "type": "object",
                "properties": { kind: { "type": "string" } },
                "required": [kind],
                "additionalProperties": false
            })
        };
        json_schema!({ "anyOf": KINDS.map(kind) })
    }
}

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourceVisitor)
    }
}

/// Written out, because what a derived one says of a secret that stands inline would quote it.
struct SourceVisitor;

fn inline<E: de::Error>() -> E {
    E::custom(
        "a secret does not stand in the YAML\nhint: write { file: ... }, { env: ... } or { credential: ... }",
    )
}

impl<'de> Visitor<'de> for SourceVisitor {
    type Value = SecretSource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{ file: ... }, { env: ... } or { credential: ... }")
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<SecretSource, E> {
        Err(inline())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<SecretSource, E> {
        Err(inline())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretSource, E> {
        Err(inline())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<SecretSource, E> {
        Err(inline())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretSource, E> {
        Err(inline())
    }

    fn visit_unit<E: de::Error>(self) -> Result<SecretSource, E> {
        Err(inline())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretSource, A::Error> {
        let Some(kind) = map.next_key::<String>()? else { return Err(inline()) };
        let source = match kind.as_str() {
            "file" => SecretSource::File(map.next_value()?),
            "env" => SecretSource::Env(map.next_value()?),
            "credential" => SecretSource::Credential(map.next_value()?),
            _ => return Err(unknown_kind(&kind)),
        };
        match map.next_key::<de::IgnoredAny>()? {
            None => Ok(source),
            Some(_) => Err(de::Error::custom("a secret has one source")),
        }
    }
}

fn unknown_kind<E: de::Error>(kind: &str) -> E {
    // The key might be the secret itself, so it is answered only if it is a slip of the pen.
    let distance = |known: &str| strsim::damerau_levenshtein(&kind.to_ascii_lowercase(), known);
    match KINDS.into_iter().find(|known| distance(known) <= (kind.chars().count() / 3).max(1)) {
        Some(near) => E::custom(format!("unknown source of a secret\nhint: did you mean `{near}`?")),
        None => inline(),
    }
}
