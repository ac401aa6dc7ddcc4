//! Arguments and environment in, exit code out; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    brokerlet::main(brokerlet::Kinds::standard())
}
