//! The daemon with fail points, which `FAILPOINTS` sets. See `crates/base/src/failpoint.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let _scenario = tallyd_base::failpoint::set_up();
    tallyd::main()
}
