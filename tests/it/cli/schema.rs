//! The JSON Schema says of a file what its reader says, as far as a schema can.
//!
//! The judge is the Python package `jsonschema`. Needs `python3` with `venv` and `pip`, and once a package
//! index; without them the tests fail, because a schema nobody checked is none.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use imgate::config::{Config, Problem};
use imgate_filters::step::Configured;
use serde_json::{Value, json};

use crate::support::command::imgate;

const CONF: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conf");

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/cli/schema");

/// A table with every form that an entry can take.
const TABLE: &str = r#"
get: [/a]
head: [/a]
post:
  - /b: { bind: userID }
  - /c: { bind: { check: [a.b], optional: [c], each: [d], any: [e], force: [f], empty: [g] }, timeout: 3s }
  - /d: { bind: none, max_body: 1MiB, roles: [im-admin], platforms: [IOS, android], line: development }
  - /e: { roles: any, bind: none }
put: [/f]
patch: [/g]
delete: [/h]
closed:
  - /i: nobody needs it
  - /j: { why: nobody needs it either, line: released }
"#;

fn schema(arguments: &[&str]) -> Value {
    serde_json::from_str(&imgate(Path::new("."), arguments).ok()).unwrap()
}

fn read(path: &Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The files that are shipped: configurations and tables.
fn shipped() -> (Vec<PathBuf>, Vec<PathBuf>) {
    let files = [CONF.to_owned(), format!("{CONF}/examples")].into_iter().flat_map(|folder| {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
    });
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml");
    files.filter(is_yaml).partition(|path| read(path).get("listeners").is_some())
}

#[test]
fn every_file_in_conf_is_valid_under_its_schema() {
    let (configs, tables) = shipped();
    assert!(configs.len() >= 4 && tables.len() >= 2, "{configs:?} {tables:?}");
    for (files, schema) in [(configs, schema(&["schema"])), (tables, schema(&["schema", "--table"]))] {
        let verdicts = validate(&schema, &files.iter().map(|file| read(file)).collect::<Vec<_>>());
        for (file, verdict) in files.iter().zip(verdicts) {
            assert_eq!(verdict, Value::Null, "{}", file.display());
        }
    }
}

#[test]
fn what_the_reader_refuses_for_its_shape_the_schema_refuses_and_nothing_else() {
    for (file, schema) in [
        (Path::new(CONF).join("openim.yaml"), schema(&["schema"])),
        (Path::new(CONF).join("examples").join("canonical.yaml"), schema(&["schema"])),
    ] {
        if file.exists() {
            agree(&read(&file), &schema, &|document| reads(document, Path::new(CONF)));
        }
    }
}

#[test]
fn tables_are_judged_alike_by_reader_and_schema() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({
        "listeners": [{ "address": "127.0.0.1:0" }], "public_url": "https://im.example.com",
        "identity": { "store": { "memory": {} } },
        "upstreams": { "openim_api": { "servers": ["127.0.0.1:1"] } },
        "chains": { "open": [{ "strip_credentials": {} }] },
        "routes": [{ "table": "table.yaml", "upstream": "openim_api", "chain": "open", "public": true }],
    });
    let table: Value = serde_saphyr::from_str(TABLE).unwrap();
    agree(&table, &schema(&["schema", "--table"]), &|document| {
        fs::write(dir.path().join("table.yaml"), document.to_string()).unwrap();
        reads(&config, dir.path())
    });
}

#[test]
fn every_key_is_described_and_explained_in_a_file() {
    let (configs, tables) = shipped();
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/signing.md");
    let files = configs.into_iter().chain(tables).chain([guide]);
    let text: String = files.map(|file| fs::read_to_string(file).unwrap()).collect();
    let schema = schema(&["schema"]);
    let mut keys = Vec::new();
    collect(&schema, "", &mut keys);
    assert!(keys.len() > 100, "{}", keys.len());
    for (place, key, is_described) in keys {
        assert!(is_described, "{place}.{key} has no comment in the source that could describe it");
        assert!(text.contains(&format!("{key}:")), "{place}.{key} is explained in no file");
    }
}

/// The keys of a schema, each with its place and whether it is described.
fn collect(schema: &Value, place: &str, keys: &mut Vec<(String, String, bool)>) {
    match schema {
        Value::Object(object) => {
            for (name, inner) in object {
                if name == "properties" {
                    for (key, value) in inner.as_object().unwrap() {
                        // The one key of an alternative names the alternative.
                        let is_choice =
                            object.get("required").is_some_and(|required| *required == json!([key]));
                        let described = is_choice || value["description"].is_string();
                        keys.push((place.to_owned(), key.clone(), described));
                        collect(value, &format!("{place}.{key}"), keys);
                    }
                } else {
                    collect(inner, place, keys);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| collect(inner, place, keys)),
        _ => {}
    }
}

/// How a document was changed, and the outcome.
struct Case {
    name: String,
    document: Value,
    /// Whether what is wrong, if anything is, may be a matter of the text of a value.
    is_value: bool,
}

/// Changes `original` in every place, one at a time, and compares the verdicts.
fn agree(original: &Value, schema: &Value, reads: &dyn Fn(&Value) -> Result<(), String>) {
    assert_eq!(reads(original), Ok(()));
    let mut places = Vec::new();
    walk(original, &mut String::new(), &mut places);
    let cases: Vec<Case> = places.iter().flat_map(|place| changes(original, place)).collect();
    let documents: Vec<Value> = cases.iter().map(|case| case.document.clone()).collect();
    let (mut refused, mut accepted) = (0, 0);
    let mut wrong = Vec::new();
    for (case, verdict) in cases.iter().zip(validate(schema, &documents)) {
        let read = reads(&case.document);
        match (&read, verdict.is_null()) {
            (Ok(()), true) => accepted += 1,
            (Err(_), false) => refused += 1,
            // Words and formats inside a text are the reader's alone, as far as no pattern says them.
            (Err(_), true) if case.is_value => accepted += 1,
            _ => wrong.push(format!("{}: reader {read:?}, schema {verdict}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(refused > 20 && accepted > 5, "{refused} refused, {accepted} accepted");
}

/// The JSON pointers of all values but the whole.
fn walk(value: &Value, at: &mut String, places: &mut Vec<String>) {
    let step = |key: &str, inner: &Value, places: &mut Vec<String>| {
        let mut place = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        places.push(place.clone());
        walk(inner, &mut place, places);
    };
    match value {
        Value::Object(object) => object.iter().for_each(|(key, inner)| step(key, inner, places)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, inner)| step(&i.to_string(), inner, places));
        }
        _ => {}
    }
}

/// The original without this value, with its key misspelled, and with values of other kinds in its place.
fn changes(original: &Value, place: &str) -> Vec<Case> {
    let (parent, key) = place.rsplit_once('/').unwrap();
    let key = key.replace("~1", "/").replace("~0", "~");
    let mut cases = Vec::new();
    let mut add = |name: &str, is_value: bool, change: &dyn Fn(&mut Value)| {
        let mut document = original.clone();
        change(&mut document);
        cases.push(Case { name: format!("{name} {place}"), document, is_value });
    };
    let value = original.pointer(place).unwrap();
    if original.pointer(parent).unwrap().is_object() {
        add("without", false, &|document| {
            document.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(&key);
        });
        add("misspelled", false, &|document| {
            let object = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            let value = object.remove(&key).unwrap();
            object.insert(format!("{key}x"), value);
        });
    }
    // An unquoted number or word is read as text where text is wanted, as YAML has it.
    let other_kinds =
        [json!([]), json!({ "zzz": 1 }), json!([["zzz"]]), json!(-1.5), json!("zzz zzz"), json!(true)];
    for other in other_kinds {
        let is_text = value.is_string() && !other.is_object() && !other.is_array();
        let is_empty = other == json!([]);
        if !is_text || other.is_string() {
            add(&format!("{other} for"), is_text || is_empty, &|document| {
                *document.pointer_mut(place).unwrap() = other.clone();
            });
        }
    }
    cases
}

/// Whether a document has the shape of a configuration, whatever it says.
fn reads(document: &Value, base: &Path) -> Result<(), String> {
    let config = match Config::parse(&document.to_string(), "imgate.yaml", base) {
        Ok(config) => config,
        Err(error) => {
            let shape = |problem: &Problem| {
                matches!(
                    problem,
                    Problem::Yaml(_)
                        | Problem::NotA(_)
                        | Problem::SeveralKeys
                        | Problem::UnknownKey(..)
                        | Problem::UnknownWord(..)
                        | Problem::MissingKey(_)
                )
            };
            let fault = error.faults().iter().find(|fault| shape(&fault.problem));
            return fault.map_or(Ok(()), |fault| Err(fault.problem.to_string()));
        }
    };
    let steps = config.chains.iter().flat_map(|chain| &chain.steps);
    match steps.map(|step| &step.step.filter).find(|filter| matches!(filter, Configured::Custom { .. })) {
        Some(filter) => Err(format!("unknown filter {}", filter.name())),
        None => Ok(()),
    }
}

/// Says of each document what the judge finds wrong with it; null is nothing.
fn validate(schema: &Value, documents: &[Value]) -> Vec<Value> {
    let python = PYTHON.as_ref().unwrap_or_else(|needs| panic!("{needs}"));
    let mut child = Command::new(python)
        .args(["-B", &format!("{FOLDER}/validate.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let asked = json!({ "schema": schema, "documents": documents });
    child.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let verdicts: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdicts.len(), documents.len());
    verdicts
}

/// The interpreter of a virtual environment with the pinned packages, made on first use, or what it lacks.
static PYTHON: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-schema");
    let python = home.join("bin/python");
    let (wanted, installed) = (format!("{FOLDER}/requirements.txt"), home.join("requirements.txt"));
    if fs::read(&wanted).unwrap() == fs::read(&installed).unwrap_or_default() {
        return Ok(python);
    }
    must("python3", Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", &wanted];
    must("pip", Command::new(&python).args(pip))?;
    // Last, so that a broken installation is made again.
    fs::copy(&wanted, &installed).unwrap();
    Ok(python)
});

fn must(what: &str, command: &mut Command) -> Result<(), String> {
    let outcome = match command.status() {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Err(format!(
        "this test needs {what} ({outcome}): install python3 with venv and pip, and let pip reach an index"
    ))
}
