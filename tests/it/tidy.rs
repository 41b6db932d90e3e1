//! Rules of the repository that are worth having are tests.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        ["src", "filters", "identity", "standin", "tests", "benches", "examples", "fuzz"]
            .map(|f| root().join(f))
            .into();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() && entry.file_name().unwrap() != "target" {
                folders.push(entry);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                files.push(entry);
            }
        }
    }
    assert!(files.len() > 100);
    files
}

#[test]
fn every_file_says_what_it_is_for() {
    for file in rust_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{} does not open with `//! `", file.display());
    }
}

/// The names of all functions.
pub(crate) fn functions() -> HashSet<String> {
    rust_files()
        .iter()
        .flat_map(|file| {
            let text = std::fs::read_to_string(file).unwrap();
            let names = text
                .split("fn ")
                .skip(1)
                .filter_map(|rest| rest.split_once('('))
                .map(|(name, _)| name.to_owned());
            names.collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn the_tests_that_hold_the_invariants_exist() {
    let tests = functions();
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, invariants) = text.split_once("## Invariants").unwrap();
    let named: Vec<&str> = invariants
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.matches('_').count() >= 2 && !word.contains('/'))
        .collect();
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        assert!(tests.contains(name), "ARCHITECTURE.md names the test {name}, which is not there");
    }
    assert!(text.lines().count() < 150);
}

#[test]
fn files_and_links_named_in_the_documents_exist() {
    for document in
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/signing.md", "clients/README.md"]
    {
        let folder = root().join(document).parent().unwrap().to_owned();
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            assert!(link.starts_with("http") || folder.join(link).exists(), "{document} links to {link}");
        }
    }
}

#[test]
fn what_a_configuration_names_is_read_through_its_folder_alone() {
    // Whatever else opens a file is not watched for changes.
    for file in rust_files() {
        let place = file.strip_prefix(root()).unwrap().to_owned();
        let reads_config = ["src/config", "filters/src"].iter().any(|folder| place.starts_with(folder));
        let exempt =
            place.ends_with("folder.rs") || place.components().any(|part| part.as_os_str() == "tests");
        if !reads_config || exempt {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let (code, _tests) = text.split_once("#[cfg(test)]\nmod tests").unwrap_or((&text, ""));
        for opens in ["File::open", "fs::read(", "fs::read_to_string", "OpenOptions"] {
            let found = code.contains(opens) && !place.ends_with("testing.rs");
            assert!(!found, "{} opens a file with {opens}", place.display());
        }
    }
}
