//! The `imgate` command: arguments, configuration, run. The only place that exits.

use std::process::ExitCode;

use clap::Parser as _;
use imgate::cli::Cli;

// Connections come and go by the thousand; jemalloc gives their memory back, glibc's malloc does not.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
