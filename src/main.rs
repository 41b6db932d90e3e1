//! The `imgate` command, with the filters of this repository alone.

use std::process::ExitCode;

// Connections come and go by the thousand; jemalloc gives their memory back, glibc's malloc does not.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    imgate::Builder::new().main()
}
