//! The program: everything is in the library.

use std::process::ExitCode;

/// glibc keeps several times what is in use, once all threads have used much (`tests/churn`); jemalloc's background threads
/// give it back. Not for C code as well: a program that puts its own malloc first does not start under libfaketime.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    narswarm::cli::run()
}
