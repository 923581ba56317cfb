//! The `tallyd` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    tallyd::cli::main()
}
