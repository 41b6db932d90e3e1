//! placeholder
use super::Failure;
use clap::Args;
use std::process::ExitCode;
/// Demo.
#[derive(Debug, Args)]
pub(super) struct Demo {
    #[arg(long)]
    once: bool,
}
impl Demo {
    /// x
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let _ = self.once;
        Ok(ExitCode::SUCCESS)
    }
}
