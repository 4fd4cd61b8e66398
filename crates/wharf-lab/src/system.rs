//! Running the system's programs, and waiting for what they do.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use crate::Error;

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Programs that a lab drives, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 7] = [
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("containerd", "docker.io"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
];

/// Runs a program to its end; what it wrote.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, Error> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    outcome(program, arguments, output)
}

/// Runs a program to its end, with something to read.
pub(crate) fn run_with(program: &str, arguments: &[&str], input: &[u8]) -> Result<String, Error> {
    let run = || {
        let mut command = Command::new(program);
        let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends without reading tells why itself.
            drop(stdin.write_all(input));
        }
        child.wait_with_output()
    };
    outcome(program, arguments, run())
}

fn outcome(program: &str, arguments: &[&str], output: std::io::Result<Output>) -> Result<String, Error> {
    let command = || format!("{program} {}", arguments.join(" "));
    let output = output.map_err(|error| Error::Command { command: command(), message: error.to_string() })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Command { command: command(), message: if said.is_empty() { output.status.to_string() } else { said } })
}

/// Waits until a condition holds; whether it did in time.
#[expect(clippy::disallowed_methods, reason = "the kernel and the engines have no way to call us back")]
pub(crate) fn wait_until(within: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let looks = within.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        if holds() {
            return true;
        }
        thread::sleep(LOOK_EVERY);
    }
    holds()
}

/// Makes sure that this is root, and that the programs are there.
pub(crate) fn check() -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let found = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|(program, _)| !found(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    Err(Error::Missing { programs: programs.join(", "), packages: packages.join(" ") })
}
