//! The samples of `clients/` as programs: made once, then asked job by job.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// Where the samples are.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");

/// How long a driver may take for its jobs, in seconds.
const PATIENCE: &str = "60";

/// A sample and the driver beside it.
pub(super) struct Sample {
    pub(super) name: &'static str,
    /// The words that run the driver.
    driver: LazyLock<Result<Vec<String>, String>>,
}

pub(super) static PYTHON: Sample = Sample {
    name: "python",
    driver: LazyLock::new(|| Ok(words(&["python3", "-B", &format!("{FOLDER}/python/driver.py")]))),
};

pub(super) static TYPESCRIPT: Sample = Sample {
    name: "typescript",
    driver: LazyLock::new(|| {
        let out = build("typescript", &["imgate.ts", "tsconfig.json"], |out| {
            // Says that what is compiled is a module; Node would have to guess.
            fs::write(out.join("package.json"), r#"{"type":"module"}"#).unwrap();
            let mut compiler = Command::new("tsc");
            compiler.arg("--outDir").arg(out);
            compiler
        })?;
        let module = out.join("imgate.js");
        Ok(words(&["node", &format!("{FOLDER}/typescript/driver.mjs"), text(&module)]))
    }),
};

pub(super) static GO: Sample = Sample {
    name: "go",
    driver: LazyLock::new(|| {
        let out = build("go", &["imgate.go", "go.mod", "cmd/driver/main.go"], |out| {
            let mut compiler = Command::new("go");
            compiler.args(["build", "-o"]).arg(out.join("driver")).arg("./cmd/driver");
            compiler.env("GOTOOLCHAIN", "local").env("GOPROXY", "off");
            compiler
        })?;
        Ok(words(&[text(&out.join("driver"))]))
    }),
};

pub(super) static KOTLIN: Sample = Sample {
    name: "kotlin",
    driver: LazyLock::new(|| {
        let sources = ["Imgate.kt", "Driver.kt"];
        let out = build("kotlin", &sources, |out| {
            let mut compiler = Command::new("kotlinc");
            compiler.args(sources).arg("-include-runtime").arg("-d").arg(out.join("driver.jar"));
            compiler
        })?;
        Ok(words(&["java", "-jar", text(&out.join("driver.jar"))]))
    }),
};

impl Sample {
    /// Does jobs, each a list of fields, one after the other; gives the fields of each result.
    pub(super) fn run(&self, jobs: &[Vec<String>]) -> Vec<Vec<String>> {
        let driver = self.driver.as_ref().unwrap_or_else(|needs| panic!("{needs}"));
        let mut child = Command::new("timeout")
            .arg(PATIENCE)
            .args(driver)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines: String = jobs.iter().map(|fields| fields.join("\t") + "\n").collect();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}: the driver failed: {}", self.name, output.status);
        writer.join().unwrap().unwrap();
        let results = String::from_utf8(output.stdout).unwrap();
        let results: Vec<Vec<String>> =
            results.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
        assert_eq!(results.len(), jobs.len(), "{}", self.name);
        results
    }
}

/// Compiles a sample into a folder of its own, unless what is there was made of the same sources.
fn build(name: &str, sources: &[&str], compiler: impl FnOnce(&Path) -> Command) -> Result<PathBuf, String> {
    let from = Path::new(FOLDER).join(name);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name);
    let wanted: String = sources.iter().map(|file| fs::read_to_string(from.join(file)).unwrap()).collect();
    let stamp = out.join("built-from");
    if fs::read_to_string(&stamp).is_ok_and(|built| built == wanted) {
        return Ok(out);
    }
    fs::create_dir_all(&out).unwrap();
    let mut command = compiler(&out);
    let tool = command.get_program().to_string_lossy().into_owned();
    let needs = |why: String| format!("this test needs {tool} ({why}); `make packages` installs it");
    let output = command.current_dir(&from).output().map_err(|error| needs(error.to_string()))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        return Err(format!("{tool} failed on clients/{name}:\n{}", String::from_utf8_lossy(&said)));
    }
    // Last, so that what broke off is made again.
    fs::write(&stamp, wanted).unwrap();
    Ok(out)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
