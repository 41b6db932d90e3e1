//! A configuration of any text is refused with its place or understood; what is understood can be built
//! or is refused with its place.

#![no_main]

use std::path::Path;

use imgate::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Config::parse(text, "imgate.yaml", Path::new("/nonexistent")) {
        Ok(config) => {
            assert!(!config.listeners.is_empty());
            assert!(!config.routes.routes().is_empty());
            assert!(!format!("{config:?}").is_empty());
        }
        Err(error) => assert!(error.to_string().contains("imgate.yaml"), "{error}"),
    }
});
