//! The files in conf/.

use std::path::{Path, PathBuf};

use http::Method;
use imgate_identity::store::Lookups;

use super::deps;
use crate::config::{Config, StoreSource};
use crate::route::Found;

/// The files that list routes.
const TABLES: [&str; 2] = ["openim-user.yaml", "openim-admin.yaml"];

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name)
}

#[test]
fn every_file_in_conf_loads() {
    let mut seen = 0;
    for folder in ["", "examples"] {
        for entry in std::fs::read_dir(conf(folder)).unwrap() {
            let path = entry.unwrap().path();
            // A table is loaded by the file that names it.
            if path.is_file() && !TABLES.iter().any(|table| path.ends_with(table)) {
                let config = Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
                assert!(config.warnings.is_empty(), "{}: {:?}", path.display(), config.warnings);
                config.build_chains(&deps()).unwrap_or_else(|error| panic!("{error}"));
                seen += 1;
            }
        }
    }
    assert!(seen >= 5);
}

fn lookups(config: &Config) -> &Lookups {
    match &config.identity.store {
        StoreSource::Redis(redis) => &redis.lookups,
        StoreSource::Memory => panic!("it is Redis"),
    }
}

#[test]
fn the_full_file_spells_out_the_defaults() {
    let (full, small) =
        (Config::load(&conf("openim.yaml")).unwrap(), Config::load(&conf("imgate.yaml")).unwrap());
    assert_eq!(full.limits, small.limits);
    assert_eq!(full.identity.layout, small.identity.layout);
    assert_eq!(lookups(&full), lookups(&small));
    assert_eq!(full.identity.cache, small.identity.cache);
    assert_eq!(full.identity.admin_users, small.identity.admin_users);
    assert_eq!(full.answers, small.answers);
    assert_eq!(format!("{:?}", full.cors), format!("{:?}", small.cors));
    assert_eq!(format!("{:?}", full.upstreams[0].options), format!("{:?}", small.upstreams[0].options));
    let mode = |config: &Config, path: &str| match config.routes.find(None, "", &Method::POST, path) {
        Found::Route(route) => (route.mode, route.timeout),
        other => panic!("{other:?}"),
    };
    assert_eq!(mode(&full, "/friend/get_friend_list"), mode(&small, "/friend/get_friend_list"));
}
