//! The command line, one file per subcommand.

mod ban;
mod check;
mod demo;
mod doctor;
mod explain;
mod openim;
mod routes;
mod run;
mod schema;
mod seal_key;
mod session;
mod sign;
mod store;
mod token;

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use imgate_identity::secret::Secret;
use imgate_identity::store::Writer;

use crate::config::{Config, StoreSource};
use crate::gateway::Shared;

/// Edge gateway in front of OpenIM: proves who is calling, injects OpenIM's token, forwards.
#[derive(Debug, Parser)]
#[command(name = "imgate", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM; SIGHUP reloads the configuration, SIGUSR2 replaces the binary
    Run(run::Run),
    /// Do all that `run` does, short of opening a port
    Check(check::Check),
    /// Ask Redis, OpenIM and the rest whether they are as the gateway needs them
    Doctor(doctor::Doctor),
    /// Show the route of a request: its chain, what is stripped and what is injected
    Explain(explain::Explain),
    /// List the routes, and compare them with those of OpenIM's source
    #[command(subcommand)]
    Routes(routes::Routes),
    /// Print the JSON Schema of the configuration file, for editors
    Schema(schema::Schema),
    /// Sign a request the way a client does
    Sign(sign::Sign),
    /// Create, show, rotate and revoke sessions; seal them anew, make their tokens
    #[command(subcommand)]
    Session(session::Session),
    /// Mint, show and delete users' OpenIM tokens
    #[command(subcommand)]
    Token(token::Token),
    /// Ban users, show and lift bans
    #[command(subcommand)]
    Ban(ban::Ban),
    /// Vouch for the store
    #[command(subcommand)]
    Store(store::Store),
    /// Make keys that seal the secrets of sessions
    #[command(subcommand)]
    SealKey(seal_key::SealKey),
    /// Show the gateway at work against a small OpenIM of its own; needs nothing installed
    Demo(demo::Demo),
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
struct ConfigFile {
    /// The configuration file
    // Named apart: `explain` has a `path` of its own.
    #[arg(
        id = "config",
        short = 'c',
        long = "config",
        value_name = "FILE",
        env = "IMGATE_CONFIG",
        default_value = "/etc/imgate/imgate.yaml"
    )]
    path: PathBuf,
}

impl ConfigFile {
    fn load(&self) -> Result<Config, Failure> {
        Config::load(&self.path).map_err(Failure::config)
    }

    /// Loads the configuration and opens its store for writing.
    async fn writer(&self) -> Result<Writer, Failure> {
        open(&self.load()?).await
    }
}

/// Opens the store of a configuration for writing.
async fn open(config: &Config) -> Result<Writer, Failure> {
    match &config.identity.store {
        StoreSource::Redis(redis) => {
            let layout = config.identity.layout.clone();
            Writer::connect(redis.clone(), layout).await.map_err(Failure::store)
        }
        StoreSource::Memory => Err(Failure::usage(
            "the configured store is in the gateway's own memory, which nobody else can write\n\
             hint: use another identity.store, or see `imgate demo`",
        )),
    }
}

/// Says so if gateways do not trust the store yet. Marking it along the way would be a trap: after a
/// flush, one new session would turn everybody else's missing one into a verdict.
async fn note_missing_mark(config: &Config, writer: &Writer) -> Result<(), Failure> {
    let StoreSource::Redis(redis) = &config.identity.store else { return Ok(()) };
    if redis.require_mark && !writer.is_marked().await.map_err(Failure::store)? {
        note(
            "the store bears no mark, so gateways answer 503: it is new, was flushed, or is the wrong one\n\
             hint: once its records are complete, run `imgate store mark`",
        );
    }
    Ok(())
}

/// Why a command failed, in words for the person who ran it. It never quotes a secret.
#[derive(Debug)]
pub struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    /// The configuration, or what was asked, does not make sense. Source: sysexits.h, `EX_CONFIG`.
    fn config(why: impl Display) -> Self {
        Self { text: why.to_string(), code: 78 }
    }

    /// The arguments do not make sense. Source: sysexits.h, `EX_USAGE`.
    fn usage(why: impl Display) -> Self {
        Self { text: why.to_string(), code: 64 }
    }

    /// Something the command needs is away. Source: sysexits.h, `EX_UNAVAILABLE`.
    fn unavailable(why: impl Display) -> Self {
        Self { text: why.to_string(), code: 69 }
    }

    fn store(why: impl Display) -> Self {
        Self::unavailable(format!("the store cannot be used: {why}"))
    }

    fn file(path: &Path, error: &io::Error) -> Self {
        Self { text: format!("{}: {error}", path.display()), code: 66 }
    }

    /// Says why, and gives the exit code.
    pub fn report(&self) -> ExitCode {
        // A closed standard error leaves only the exit code to speak.
        let _ = writeln!(io::stderr(), "error: {}", self.text);
        ExitCode::from(self.code)
    }
}

impl Cli {
    /// Runs the command, with the filters and memories of `shared`.
    ///
    /// # Errors
    /// The command failed; the failure says why and how to exit.
    pub fn run(self, shared: Shared) -> Result<ExitCode, Failure> {
        match self.command {
            Command::Run(run) => run.run(shared),
            Command::Check(check) => check.run(&shared),
            Command::Explain(explain) => explain.run(&shared),
            Command::Schema(schema) => schema.run(&shared),
            Command::Sign(sign) => sign.run(),
            Command::Session(session) => block_on(session.run()),
            Command::Token(token) => block_on(token.run()),
            Command::Ban(ban) => block_on(ban.run()),
            Command::Store(store) => block_on(store.run()),
            Command::SealKey(key) => key.run(),
            Command::Doctor(doctor) => return doctor.run(&shared),
            Command::Routes(routes) => return routes.run(&shared),
            Command::Demo(demo) => return demo.run(shared),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

/// Prints a line for the person who asked. A reader that went away is not told.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Says something beside what was asked for.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "note: {text}");
}

/// Runs a short command on a runtime of its own.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    runtime(1)?.block_on(future)
}

fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(|error| Failure::unavailable(format!("no runtime: {error}")))
}

/// Reads a secret from a file; a newline at its end is not part of it.
fn read_secret(path: &Path) -> Result<Secret<String>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, &error))?;
    let text = Secret::new(text);
    Ok(Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned()))
}
