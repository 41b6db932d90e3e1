//! What the YAML of `verify_jwt` says, and what is wrong with it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use imgate_identity::jwt::{
    Algorithm, BadVerifier, KeyFault, KeySet, MAX_SET_LEN, Policy, TokenType, Verifier,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::VerifyJwt;
use super::keys::{BadUrl, JwksUrl, Keys, Source};
use crate::folder::{Content, Folder};
use crate::rules::Roles;
use crate::secret::SecretSource;
use crate::{BuildError, Deps};

/// The least time between two fetches. A token with a made-up key id can cause one each time.
const MIN_COOLDOWN: Duration = Duration::from_secs(10);

/// The YAML of this filter.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The algorithms a token may be signed with; EdDSA and ES256 if nothing is said.
    pub algorithms: Option<Vec<Algorithm>>,
    /// The file of a JWKS, read when the configuration is loaded.
    pub jwks_file: Option<PathBuf>,
    /// The URL of a JWKS, fetched again and again.
    pub jwks_url: Option<String>,
    /// Where the secret of HS256 is; its text is the key.
    pub secret: Option<SecretSource>,
    /// How often `jwks_url` is fetched.
    #[serde(default, deserialize_with = "some_duration")]
    #[schemars(schema_with = "crate::duration::schema")]
    pub refresh: Option<Duration>,
    /// The shortest time between two attempts to fetch `jwks_url`; at least 10 s.
    #[serde(default, deserialize_with = "some_duration")]
    #[schemars(schema_with = "crate::duration::schema")]
    pub cooldown: Option<Duration>,
    /// The exact `iss`.
    pub issuer: Box<str>,
    /// What `aud` must be or list.
    pub audience: Box<str>,
    /// The exact `typ`; without it a token has none, or `JWT`.
    #[serde(rename = "type")]
    pub token_type: Option<Box<str>>,
    /// How far the issuer's clock may be from ours; at most 10 s.
    #[serde(default = "default_leeway", deserialize_with = "crate::duration::deserialize")]
    #[schemars(schema_with = "crate::duration::schema")]
    pub leeway: Duration,
    /// The longest life of a token, from `iat` to `exp`.
    #[serde(default = "default_max_age", deserialize_with = "crate::duration::deserialize")]
    #[schemars(schema_with = "crate::duration::schema")]
    pub max_age: Duration,
    /// The roles of which a caller needs one, whatever the route.
    pub roles: Option<Roles>,
}

fn default_leeway() -> Duration {
    Duration::from_secs(5)
}

fn default_max_age() -> Duration {
    Duration::from_secs(3600)
}

fn some_duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    crate::duration::deserialize(deserializer).map(Some)
}

/// What is wrong with the configuration of `verify_jwt`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadJwt {
    /// None or several of `jwks_file`, `jwks_url` and `secret`.
    #[error("keys come from exactly one of jwks_file, jwks_url and secret")]
    Source,
    /// HS256 with public keys, or another algorithm with a secret.
    #[error(
        "algorithms do not fit where the keys come from\nhint: [HS256] goes with secret; EdDSA, ES256 and RS256 with a JWKS"
    )]
    Algorithms,
    /// The policy makes no sense, or this build cannot verify.
    #[error(transparent)]
    Verifier(#[from] BadVerifier),
    /// The keys are refused.
    #[error("{0}")]
    Keys(#[from] KeyFault),
    /// The URL is refused.
    #[error(transparent)]
    Url(#[from] BadUrl),
    /// The file of the JWKS cannot be read.
    #[error("jwks_file {} cannot be read: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: Box<str>,
    },
    /// The secret cannot be had.
    #[error("secret: {0}")]
    Secret(Box<str>),
    /// The issuer would be asked too often.
    #[error("cooldown is below 10 s, or longer than refresh")]
    Cooldown,
    /// A rhythm without anything to fetch.
    #[error("refresh and cooldown go with jwks_url alone")]
    NothingToFetch,
}

impl Config {
    pub(crate) fn build(&self, deps: &Deps) -> Result<VerifyJwt, BuildError> {
        Ok(self.verify_jwt(deps)?)
    }

    fn verify_jwt(&self, deps: &Deps) -> Result<VerifyJwt, BadJwt> {
        let verifier = Verifier::new(Policy {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            token_type: self.token_type.clone().map_or(TokenType::Plain, TokenType::Explicit),
            leeway: self.leeway,
            max_age: self.max_age,
        })?;
        let algorithms = self.algorithms()?;
        let keys = self.keys(&algorithms, deps)?;
        Ok(VerifyJwt { verifier, algorithms, keys, roles: self.roles.clone() })
    }

    fn algorithms(&self) -> Result<Box<[Algorithm]>, BadJwt> {
        let by_secret = self.secret.is_some();
        let default =
            || if by_secret { vec![Algorithm::Hs256] } else { vec![Algorithm::EdDsa, Algorithm::Es256] };
        let algorithms = self.algorithms.clone().unwrap_or_else(default);
        let fit = algorithms.iter().all(|algorithm| algorithm.is_symmetric() == by_secret);
        if algorithms.is_empty() || !fit { Err(BadJwt::Algorithms) } else { Ok(algorithms.into()) }
    }

    fn keys(&self, algorithms: &[Algorithm], deps: &Deps) -> Result<Keys, BadJwt> {
        if self.jwks_url.is_none() && (self.refresh.is_some() || self.cooldown.is_some()) {
            return Err(BadJwt::NothingToFetch);
        }
        match (&self.jwks_file, &self.jwks_url, &self.secret) {
            (Some(path), None, None) => {
                let jwks = read(&deps.base, path)?;
                Ok(Keys::File(Arc::new(KeySet::from_jwks(&jwks, algorithms)?)))
            }
            (None, None, Some(source)) => {
                let secret = source.read(&deps.base).map_err(|why| BadJwt::Secret(why.to_string().into()))?;
                Ok(Keys::Secret(Arc::new(KeySet::from_secret(secret.expose().as_bytes())?)))
            }
            (None, Some(url), None) => {
                let source = self.source(JwksUrl::parse(url)?, algorithms)?;
                Ok(Keys::Fed { feed: deps.jwks.follow(&source), url: source.url })
            }
            _ => Err(BadJwt::Source),
        }
    }

    fn source(&self, url: JwksUrl, algorithms: &[Algorithm]) -> Result<Source, BadJwt> {
        let cooldown = self.cooldown.unwrap_or(MIN_COOLDOWN);
        let refresh = self.refresh.unwrap_or(Duration::from_secs(300));
        if cooldown < MIN_COOLDOWN || refresh < cooldown {
            return Err(BadJwt::Cooldown);
        }
        Ok(Source { url, algorithms: algorithms.into(), refresh, cooldown })
    }
}

/// Reads no more than is needed to see that a file is too long.
fn read(base: &Folder, name: &Path) -> Result<Vec<u8>, BadJwt> {
    let fault = |error: io::Error| BadJwt::File { path: base.path_of(name), why: error.to_string().into() };
    base.read(name, MAX_SET_LEN, Content::Plain).map_err(fault)
}
