//! A gateway with a filter of its own: apps below a configured version are refused.
//!
//! ```sh
//! cargo run --example own_filter -- explain -c examples/own_filter.yaml POST /friend/get_friend_list
//! ```

use std::convert::Infallible;
use std::fmt;
use std::process::ExitCode;

use imgate::filters::step::BadName;
use imgate::prelude::*;
use serde::Deserialize;

/// The header in which the app says its version.
const APP_VERSION: &str = "x-app-version";

/// What stands in the YAML: `- min_app_version: { at_least: 7.4.0 }`.
#[derive(Deserialize)]
// A slip of the pen is refused, with its place in the file.
#[serde(deny_unknown_fields)]
struct Config {
    at_least: Version,
}

/// A version; newer is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Version([u16; 3]);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        let version = Self([parts.next()??, parts.next()??, parts.next()??]);
        parts.next().is_none().then_some(version)
    }
}

impl TryFrom<String> for Version {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a version is three numbers, as in 7.4.0")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([major, minor, patch]) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// The filter itself. One of it serves all requests of a chain.
struct MinAppVersion(Version);

#[async_trait]
impl Filter for MinAppVersion {
    /// It does nothing but refuse, so `shadow: true` may stand beside it.
    fn shadow(&self) -> Shadow {
        Shadow::Allowed
    }

    fn summary(&self) -> String {
        format!("refuses apps below {}", self.0)
    }

    async fn request(&self, request: &mut Request<'_>, _cx: &mut Context) -> Result<Flow, Reject> {
        let mut values = request.head.headers.get_all(APP_VERSION).iter();
        // What could be read in two ways is refused, like what is not there.
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(Reject::new(Cause::BadRequest, "app_version_missing"));
        };
        match value.to_str().ok().and_then(Version::parse) {
            None => Err(Reject::new(Cause::BadRequest, "app_version_malformed")),
            Some(version) if version < self.0 => Err(Reject::new(Cause::Forbidden, "app_too_old")),
            Some(_) => Ok(Flow::Continue),
        }
    }
}

fn main() -> Result<ExitCode, BadName> {
    let make = |config: Config, _: &Deps| Ok::<_, Infallible>(MinAppVersion(config.at_least));
    Ok(Builder::new().filter("min_app_version", make)?.main())
}
