use std::{io::Write, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};

/// Runs a service until it ends by itself, or until SIGTERM or SIGINT, which end it at once: as the first process of a
/// container it would ignore them otherwise.
pub fn main(service: impl Future<Output = std::io::Result<()>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let run = async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            result = service => result,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    };
    match runtime.and_then(|runtime| runtime.block_on(run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("ERROR: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a line of the log.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A log that nobody takes must not stop the service.
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}
