//! The configuration: from YAML text to types that cannot be wrong.
//!
//! `written` is what stands in the file, `meaning` what it says, `resolve` the way from one to the
//! other. Nothing is bound, connected or spawned here, but files that the configuration names (tables,
//! secrets) are read and names of servers are resolved, so that a check sees what a start would see.
//! Every fault carries file, line, column, its place (`routes[2].upstream`) and a hint.

mod chains;
mod changes;
mod error;
mod meaning;
mod named;
mod outline;
mod percent;
mod period;
mod place;
mod problem;
mod public_url;
mod resolve;
mod schema;
mod source;
mod spanned;
mod suggest;
mod table;
mod written;
mod yaml;

use std::path::Path;

use imgate_filters::folder::Folder;
pub use imgate_filters::secret::{SecretError, SecretSource};

pub use self::chains::Chains;
pub use self::changes::Changes;
pub use self::error::{ConfigError, Fault};
pub use self::meaning::{
    Chain, Closed, Config, Identity, Limits, Line, Listener, Mode, Paths, Route, Step, StoreSource, Upstream,
};
pub use self::outline::Outline;
pub use self::problem::{Beside, Found, HostForm, Kind, Overlap, Problem};
pub use self::public_url::{BadUrl, PublicUrl};
pub use self::schema::{config_schema, table_schema};
pub use self::source::Mark;
use self::source::Source;
pub use self::suggest::Suggestion;

impl Config {
    /// Reads a file, and the files it names; relative names are sought in its folder.
    ///
    /// # Errors
    /// A file cannot be read or does not make sense; as many faults as could be found at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_in(&Self::folder_of(path), path)
    }

    /// The folder in which a configuration file and the files it names are sought.
    pub fn folder_of(path: &Path) -> Folder {
        Folder::new(path.parent().unwrap_or(Path::new("")))
    }

    /// Like [`Config::load`]; `base` is the file's folder, and notes what was read also if it was in vain.
    ///
    /// # Errors
    /// See [`Config::load`].
    pub fn load_in(base: &Folder, path: &Path) -> Result<Self, ConfigError> {
        let name = path.file_name().map_or(path, Path::new);
        let source = Source::read(base, name).map_err(|problem| {
            let nothing = Source::new(&path.display().to_string(), "");
            Fault::new(Mark::whole(&nothing), "", problem)
        })?;
        resolve::resolve(&source, base)
    }

    /// Reads a text as if it were the file `name` in the folder `base`.
    ///
    /// # Errors
    /// See [`Config::load`].
    pub fn parse(text: &str, name: &str, base: &Path) -> Result<Self, ConfigError> {
        resolve::resolve(&Source::new(name, text), &Folder::new(base))
    }
}

#[cfg(test)]
mod tests;
