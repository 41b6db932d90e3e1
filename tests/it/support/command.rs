//! The `imgate` command, run to its end.

use std::path::Path;
use std::process::{Command, Stdio};

use super::leaks;

/// How long a command may take, in seconds; one that takes longer is ended and its code is 124.
const PATIENCE: &str = "20";

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Panics unless it went well; gives what it said.
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }
}

/// Runs `imgate` in a folder; no secret may be in what it says.
pub(crate) fn imgate(dir: &Path, arguments: &[&str]) -> Ran {
    let ran = imgate_telling(dir, arguments);
    leaks::none_in("standard output", &ran.stdout);
    ran
}

/// Runs `imgate` where it may print a secret, if only on standard output.
pub(crate) fn imgate_telling(dir: &Path, arguments: &[&str]) -> Ran {
    program(Path::new(env!("CARGO_BIN_EXE_imgate")), dir, arguments)
}

/// Runs a binary that may be `imgate`'s or an embedder's.
pub(crate) fn program(program: &Path, dir: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new("timeout");
    command.arg(PATIENCE).arg(program).args(arguments).current_dir(dir).env_remove("IMGATE_CONFIG");
    run(command)
}

/// Runs a line in a shell.
pub(crate) fn shell(line: &str) -> Ran {
    let mut command = Command::new("timeout");
    command.args([PATIENCE, "sh", "-c", line]);
    run(command)
}

fn run(mut command: Command) -> Ran {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let ran = Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    };
    leaks::none_in("standard error", &ran.stderr);
    ran
}
