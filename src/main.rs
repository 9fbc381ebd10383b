//! The binary: hands over to the library. Not here: anything else.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = rbuild::sandbox::run_helper_if_asked() {
        return code;
    }
    if let Some(code) = rbuild::container::run_supervisor_if_asked() {
        return code;
    }
    ExitCode::from(rbuild::cli::main(std::env::args_os()))
}
