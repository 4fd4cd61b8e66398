//! `worker`: see the library.

use std::process::ExitCode;

use dockercoins::worker::{Services, run};

fn main() -> ExitCode {
    let debug = std::env::var_os("DEBUG").is_some_and(|value| value == "y");
    dockercoins::main(async move { match run(Services::default(), debug).await {} })
}
