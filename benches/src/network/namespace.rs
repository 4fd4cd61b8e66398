//! The network of a container, entered from outside: what runs in it is this machine's own program, and costs what it would
//! in the container.

use std::{fs::File, os::fd::AsFd, process::Command, thread::JoinHandle};

use anyhow::Context;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

/// A container's network, while the container runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Namespace {
    pub(super) pid: u64,
}

impl Namespace {
    /// That of a container, of its inspection.
    pub(super) fn of(inspected: &Value) -> anyhow::Result<Self> {
        let pid = inspected["State"]["Pid"].as_u64().filter(|pid| *pid > 0);
        Ok(Self { pid: pid.with_context(|| format!("{} does not run", inspected["Name"]))? })
    }

    fn path(self) -> String {
        format!("/proc/{}/ns/net", self.pid)
    }

    /// A command that runs in it, and ends with this process.
    pub(super) fn command(self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).args(["setpriv", "--pdeathsig", "KILL", program]);
        command
    }

    /// Has a thread work in it. Threads that it starts are in it, too.
    pub(super) fn spawn<T: Send + 'static>(
        self,
        work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> JoinHandle<anyhow::Result<T>> {
        std::thread::spawn(move || {
            let namespace = File::open(self.path())?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        })
    }
}

/// What a thread came to.
pub(super) fn join<T>(thread: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread has panicked")))
}
