//! A fleet to test on: a lab, and a manager in front of it.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail, ensure};
use wharf_lab::{Lab, LabName, load_busybox};

/// The binary under test.
pub(crate) const WHARF: &str = env!("CARGO_BIN_EXE_wharf");

/// Conditions are waited for so long on a machine that has much else to do.
const WAIT: Duration = Duration::from_secs(60);

/// Three engines and a manager; both go with it.
pub(crate) struct Fleet {
    pub(crate) lab: Lab,
    folder: tempfile::TempDir,
    manager: std::sync::Mutex<Child>,
}

impl Fleet {
    /// Brings it up.
    pub(crate) fn up(name: &str) -> anyhow::Result<Self> {
        let name: LabName = name.parse()?;
        // What an interrupted run has left.
        Lab::down(&name)?;
        let lab = Lab::up(name, 3, |_| {})?;
        let folder = tempfile::tempdir()?;
        let manager = serve_lab(folder.path(), &lab, Path::new(WHARF))?;
        let fleet = Self { lab, folder, manager: std::sync::Mutex::new(manager) };
        load_busybox(&fleet.host())?;
        Ok(fleet)
    }

    /// A folder of its own.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The manager's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// `DOCKER_HOST` for the fleet.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// `DOCKER_HOST` for one engine, from 1.
    pub(crate) fn node(&self, number: usize) -> String {
        let nodes = self.lab.nodes().expect("a lab knows its nodes");
        nodes[number - 1].endpoint.clone()
    }

    /// Kills the manager without a warning, and starts it again.
    pub(crate) fn restart_manager(&self) -> anyhow::Result<()> {
        self.kill_manager()?;
        self.start_manager()
    }

    /// Kills the manager without a warning.
    pub(crate) fn kill_manager(&self) -> anyhow::Result<()> {
        let mut manager = self.manager.lock().expect("no test panics with it");
        manager.kill()?;
        manager.wait()?;
        Ok(())
    }

    /// Starts a manager where none is there.
    pub(crate) fn start_manager(&self) -> anyhow::Result<()> {
        let mut manager = self.manager.lock().expect("no test panics with it");
        if manager.try_wait()?.is_none() {
            return Ok(());
        }
        *manager = serve_lab(self.folder.path(), &self.lab, Path::new(WHARF))?;
        Ok(())
    }

    /// Kills the manager, and starts one of another build of the program.
    pub(crate) fn renew_manager(&self) -> anyhow::Result<()> {
        let other = self.folder.path().join("wharf-other");
        std::fs::copy(WHARF, &other)?;
        // Whatever follows a program in its file is no part of it.
        std::fs::File::options().append(true).open(&other)?.write_all(b"other")?;
        self.kill_manager()?;
        let mut manager = self.manager.lock().expect("no test panics with it");
        *manager = serve_lab(self.folder.path(), &self.lab, &other)?;
        Ok(())
    }

    /// Runs the `docker` client on the fleet; what it printed, without the last line's end.
    pub(crate) fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.docker_output(arguments)?;
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        ensure!(output.status.success(), "docker {}: {} {out} {error}", arguments.join(" "), output.status);
        Ok(out)
    }

    /// Runs the `docker` client, which has to fail; what it says.
    pub(crate) fn docker_fails(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.docker_output(arguments)?;
        ensure!(!output.status.success(), "docker {} did not fail", arguments.join(" "));
        Ok(text(&output.stderr))
    }

    /// Runs the `docker` client, however it ends.
    pub(crate) fn docker_output(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.client("docker", arguments).output().context("docker")
    }

    /// A client of the fleet.
    pub(crate) fn client(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env("DOCKER_HOST", self.host()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a container that sleeps, and removes it with the guard.
    pub(crate) fn sleeper(&self, name: &str, more: &[&str]) -> anyhow::Result<Container<'_>> {
        let guard = Container::of(self, name);
        let run = [&["run", "-d", "--name", name][..], more, &["busybox", "sleep", "1000"]].concat();
        self.docker(&run)?;
        Ok(guard)
    }

    /// The node of a container.
    pub(crate) fn node_of(&self, container: &str) -> anyhow::Result<String> {
        self.docker(&["inspect", "--format", "{{.Node.Name}}", container])
    }

    /// Waits for a condition, with a bound.
    pub(crate) fn wait(&self, what: &str, holds: impl FnMut() -> bool) -> anyhow::Result<Duration> {
        wait(what, holds)
    }

    /// A request as it is written, and the whole answer: its status and its body.
    pub(crate) fn request(&self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<(u16, String)> {
        request(&self.host(), method, path, body)
    }

    /// The end of the manager's log.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        format!("the manager's log:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let manager = self.manager.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        manager.kill().and_then(|()| manager.wait()).ok();
        if let Err(error) = Lab::down(self.lab.name()) {
            panic!("lab {} stays: {error}", self.lab.name());
        }
    }
}

/// Removes a container when it is dropped.
pub(crate) struct Container<'a> {
    fleet: &'a Fleet,
    pub(crate) name: String,
}

impl<'a> Container<'a> {
    /// The guard of a container that others make.
    pub(crate) fn of(fleet: &'a Fleet, name: &str) -> Self {
        Self { fleet, name: name.to_owned() }
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.fleet.docker(&["rm", "-f", &self.name]).ok();
    }
}

/// A manager of a lab. Agents find it at a port that no other lab's has: it is free again while a killed manager is away.
fn serve_lab(folder: &Path, lab: &Lab, program: &Path) -> anyhow::Result<Child> {
    let nodes = lab.nodes()?;
    let number = nodes.first().and_then(|node| node.address.split('.').nth(2)?.parse::<u16>().ok());
    let port = 23_780 + number.context("a lab's address")?;
    serve_with(program, folder, &lab.discovery(), &["--advertise", &format!("0.0.0.0:{port}")])
}

/// A manager that serves `docker.sock` in a folder.
pub(crate) fn serve(folder: &Path, discovery: &str) -> anyhow::Result<Child> {
    serve_with(Path::new(WHARF), folder, discovery, &[])
}

fn serve_with(program: &Path, folder: &Path, discovery: &str, more: &[&str]) -> anyhow::Result<Child> {
    let (out, log) = (folder.join("out"), folder.join("log"));
    // It goes with the test run, however that ends.
    let mut manager = Command::new("setpriv");
    manager
        .args(["--pdeathsig", "KILL"])
        .arg(program)
        .args(["serve", "--data", &folder.join("data").display().to_string()])
        .args(["--host", &format!("unix://{}", folder.join("docker.sock").display()), discovery])
        .args(more)
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .stderr(File::options().create(true).append(true).open(&log)?);
    let mut manager = spawn_for_the_run(manager)?;
    let serves = || std::fs::read_to_string(&out).is_ok_and(|text| text.contains("Serving"));
    if let Err(error) = wait("the manager serves", serves) {
        manager.kill()?;
        manager.wait()?;
        bail!("{error}: {}", std::fs::read_to_string(&log)?);
    }
    Ok(manager)
}

/// Starts a program from a thread that lives as long as this process: the kernel takes the end of the thread that started a
/// program for the parent's death, and tests' threads end before the tests do.
fn spawn_for_the_run(mut command: Command) -> anyhow::Result<Child> {
    let (started, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        started.send(command.spawn()).ok();
        loop {
            std::thread::park();
        }
    });
    Ok(wait.recv()??)
}

/// A request as it is written to a `DOCKER_HOST`, and the whole answer: its status and its body.
pub(crate) fn request(host: &str, method: &str, path: &str, body: &[u8]) -> anyhow::Result<(u16, String)> {
    trait Stream: Read + Write {}
    impl<T: Read + Write> Stream for T {}
    let mut stream: Box<dyn Stream> = if let Some(address) = host.strip_prefix("tcp://") {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(WAIT))?;
        Box::new(stream)
    } else {
        let stream = UnixStream::connect(host.trim_start_matches("unix://"))?;
        stream.set_read_timeout(Some(WAIT))?;
        Box::new(stream)
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    // In one piece: an answer may come, and the connection end, before a second one is sent.
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// Waits for a condition, with a bound; how long it took.
#[expect(clippy::disallowed_methods, reason = "clients and engines are other processes")]
pub(crate) fn wait(what: &str, mut holds: impl FnMut() -> bool) -> anyhow::Result<Duration> {
    let began = SystemTime::now();
    while !holds() {
        ensure!(began.elapsed()? < WAIT, "not within {WAIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(began.elapsed()?)
}

/// What a program printed, without the last line's end.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}
