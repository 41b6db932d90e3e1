//! Runs a stand-in until Ctrl-C, printing where it listens.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use openim_standin::{Line, Options, Standin};

/// A small, faithful OpenIM for demos, tests and benches.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where the REST server listens.
    #[arg(long, default_value = "127.0.0.1:10002")]
    api: SocketAddr,
    /// Where the message gateway listens.
    #[arg(long, default_value = "127.0.0.1:10001")]
    ws: SocketAddr,
    /// The release line to imitate.
    #[arg(long, value_enum, default_value = "head")]
    line: Line,
    /// A file with the shared secret; without it the secret is OpenIM's default.
    #[arg(long)]
    secret_file: Option<PathBuf>,
    /// An admin user; may be given several times.
    #[arg(long = "admin", default_value = "imAdmin")]
    admins: Vec<String>,
    /// Users to register at the start; may be given several times.
    #[arg(long = "user")]
    users: Vec<String>,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let args = Args::parse();
    let mut options = Options { api: args.api, ws: args.ws, line: args.line, ..Options::default() };
    // Nobody reads the records of a stand-alone process.
    options.record = false;
    options.admins = args.admins;
    if let Some(path) = args.secret_file {
        options.secret = fs::read_to_string(path)?.trim_end().to_owned();
    }
    let standin = Standin::start(options).await?;
    for user in &args.users {
        standin.register(user);
    }
    writeln!(io::stdout(), "api http://{}\nws ws://{}", standin.api(), standin.ws())?;
    tokio::signal::ctrl_c().await?;
    standin.stop().await;
    Ok(())
}
