//! One node's engine.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, cgroup::Cgroup, system::wait_until};

/// The port where engines listen without TLS: Docker's own.
pub(crate) const PORT: u16 = 2375;

/// A cold engine on a busy machine loads a lot.
const START_WITHIN: Duration = Duration::from_secs(90);

/// A shell and a few system calls.
const JOIN_WITHIN: Duration = Duration::from_secs(3);

/// Containers get ten seconds to end, see `--shutdown-timeout`.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// An engine that is well answers a ping at once.
const PING_WITHIN: Duration = Duration::from_secs(2);

/// Lines of an engine's log that go into an error.
const TAIL: usize = 12;

/// What the engine is started by, in its namespaces: gives it a host name and folders of its own, and becomes it. An engine
/// that sees the host's containerd would use that one, with every other engine: it is to bring its own.
const SCRIPT: &str = r#"set -e
echo $$ >"$PROCS"
hostname "$NAME"
mkdir -p /run/docker /run/containerd /etc/docker
mount -t tmpfs tmpfs /run/containerd
mount --bind "$RUN/docker" /run/docker
mount --bind "$ETC" /etc/docker
exec dockerd "$@""#;

/// What is not there need not be removed.
fn gone(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Where things of a node are.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) namespace: String,
    /// What outlives a restart of the machine: images, containers, the log.
    pub(crate) data: PathBuf,
    /// What does not: sockets, pid.
    pub(crate) run: PathBuf,
    pub(crate) cgroup: Cgroup,
}

impl Engine {
    /// Has the engine run: starts it, or lets it go on where it is frozen. Does not wait until it answers.
    pub(crate) fn ensure_started(&self) -> Result<(), Error> {
        if self.cgroup.is_frozen() {
            self.cgroup.thaw()?;
        }
        if self.cgroup.is_alive() { Ok(()) } else { self.start() }
    }

    /// Starts the engine; it outlives us. Does not wait until it answers.
    fn start(&self) -> Result<(), Error> {
        let (containers, etc) = (self.data.join("docker"), self.data.join("etc"));
        // A host that starts finds nothing there: sockets and state of what was killed would only mislead.
        fs::remove_dir_all(&self.run).or_else(gone).map_err(Error::file(&self.run))?;
        for folder in [&containers, &etc, &self.run.join("docker"), &self.run.join("exec")] {
            fs::create_dir_all(folder).map_err(Error::file(folder))?;
        }
        let pid_file = self.run.join("pid");
        let log = self.log();
        let out = File::options().create(true).append(true).open(&log).map_err(Error::file(&log))?;
        let err = out.try_clone().map_err(Error::file(&log))?;
        let (procs, cgroup_parent) = self.cgroup.make()?;
        let mut command = Command::new("setsid");
        command
            .args(["nsenter", &format!("--net=/run/netns/{}", self.namespace)])
            .args(["unshare", "--mount", "--uts", "sh", "-c", SCRIPT, "dockerd"])
            .arg(format!("--data-root={}", containers.display()))
            .arg(format!("--exec-root={}", self.run.join("exec").display()))
            .arg(format!("--pidfile={}", pid_file.display()))
            .arg(format!("--host=unix://{}", self.run.join("docker.sock").display()))
            .arg(format!("--host=tcp://{}:{PORT}", self.address))
            // The network is private; saying so spares the engine's pause for thought.
            .args(["--tls=false", "--shutdown-timeout=10", "--exec-opt=native.cgroupdriver=cgroupfs"])
            .arg(format!("--cgroup-parent={cgroup_parent}"))
            .env("PROCS", procs)
            .env("NAME", &self.name)
            .env("RUN", &self.run)
            .env("ETC", &etc)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        let mut child = command
            .spawn()
            .map_err(|error| Error::Command { command: "dockerd".into(), message: error.to_string() })?;
        // Whoever outlives us has a new parent; as long as we live its end must not leave a zombie.
        std::thread::spawn(move || child.wait());
        Ok(())
    }

    /// Waits until the engine answers.
    pub(crate) fn wait_ready(&self) -> Result<(), Error> {
        // Its first process joins the group at once; afterwards an empty group is an engine that has ended.
        wait_until(JOIN_WITHIN, || self.cgroup.is_alive());
        let mut alive = true;
        let ready = wait_until(START_WITHIN, || {
            alive = self.cgroup.is_alive();
            !alive || self.answers()
        });
        if ready && alive { Ok(()) } else { Err(self.failure("start")) }
    }

    /// Whether the engine answers a ping.
    pub(crate) fn answers(&self) -> bool {
        let ping = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::from((self.address, PORT)), PING_WITHIN)?;
            stream.set_read_timeout(Some(PING_WITHIN))?;
            stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
            let mut head = [0; 12];
            stream.read_exact(&mut head)?;
            Ok(head.ends_with(b" 200"))
        };
        ping().unwrap_or(false)
    }

    /// The engine's process.
    pub(crate) fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.run.join("pid")).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }

    /// Asks the engine to end its containers and itself, and waits until nothing of it is left.
    pub(crate) fn stop(&self) -> Result<(), Error> {
        if self.cgroup.is_frozen() {
            self.cgroup.thaw()?;
        }
        if let Some(pid) = self.pid().filter(|_| self.cgroup.is_alive()) {
            // It may have ended by itself just now.
            kill_process(pid, Signal::TERM).ok();
            if !wait_until(STOP_WITHIN, || !self.cgroup.is_alive()) {
                return Err(self.failure("stop"));
            }
        }
        self.cgroup.kill()
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.data.join("dockerd.log")
    }

    fn failure(&self, what: &'static str) -> Error {
        let log = self.log();
        let text = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        Error::Engine { node: self.name.clone(), what, log, tail }
    }
}
