//! The manager that is measured.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use wharf_model::Endpoint;

/// The kernel counts processor time in these: `sysconf(_SC_CLK_TCK)` on every Linux.
const TICKS: u64 = 100;

/// A manager in a process of its own, which ends with this.
pub(crate) struct Manager {
    child: Child,
    socket: PathBuf,
}

impl Manager {
    /// Starts it, with `more` options, and waits until it serves.
    pub(crate) fn start(binary: &Path, folder: &Path, discovery: &str, more: &[&str]) -> anyhow::Result<Self> {
        let socket = folder.join("docker.sock");
        // It goes with the bench, however that ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(binary)
            .args(["serve", "--data", &folder.join("data").display().to_string()])
            .args(more)
            .args(["--host", &format!("unix://{}", socket.display()), discovery])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log"))?)
            .spawn()
            .with_context(|| binary.display().to_string())?;
        let manager = Self { child, socket };
        for _ in 0..600 {
            if std::os::unix::net::UnixStream::connect(&manager.socket).is_ok() {
                return Ok(manager);
            }
            pause(Duration::from_millis(50));
        }
        bail!("the manager does not serve: {}", std::fs::read_to_string(folder.join("log"))?)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.socket.clone())
    }

    /// Memory that it holds, in MiB.
    pub(crate) fn resident(&self) -> anyhow::Result<f64> {
        status_mib(self.child.id(), "VmRSS:")
    }

    /// The most memory that it ever held, in MiB.
    pub(crate) fn peak(&self) -> anyhow::Result<f64> {
        status_mib(self.child.id(), "VmHWM:")
    }

    /// Processor time that it has used.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(self.child.id())
    }
}

/// A process's memory of this kind, in MiB.
pub(crate) fn status_mib(pid: u32, what: &'static str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)).context(what)?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}

/// Processor time that a process has used.
pub(crate) fn cpu_of(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name, which may hold blanks: fields 14 and 15 are user and system time.
    let fields: Vec<_> = stat.rsplit(')').next().context("stat")?.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "another process starts")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
