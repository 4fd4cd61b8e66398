//! The lab with real engines. One test after the other: they look at what is on the machine before and after.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use wharf_lab::{Error, Lab, LabName, State, load_busybox};

/// A lab that is taken down with its guard.
struct Guard(LabName);

impl Guard {
    fn up(name: &str, nodes: usize) -> (Self, Lab) {
        let name: LabName = name.parse().unwrap();
        let guard = Self(name.clone());
        let lab = Lab::up(name, nodes, |_| {}).unwrap();
        (guard, lab)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        Lab::down(&self.0).unwrap();
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn docker(endpoint: &str, arguments: &[&str]) -> String {
    let output = Command::new("docker").args(["-H", endpoint]).args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Everything on this machine that bears a lab's name.
fn traces(name: &str) -> BTreeSet<String> {
    let mut traces = BTreeSet::new();
    let mut keep = |text: String, needle: &str| {
        traces.extend(text.lines().filter(|line| line.contains(needle)).map(str::to_owned));
    };
    let link = format!("wl-{name}");
    keep(output("ip", &["netns"]), &link);
    keep(output("ip", &["-o", "link"]), &link);
    keep(output("ip", &["route"]), &link);
    keep(output("iptables-save", &[]), &format!("wharf-lab:{name}"));
    keep(std::fs::read_to_string("/proc/mounts").unwrap(), &format!("wharf-lab/{name}"));
    keep(output("find", &["/sys/fs/cgroup", "-type", "d", "-path", "*wharf-lab*"]), &format!("wharf-lab/{name}"));
    // What has ended and waits to be reaped by whoever started it is no process any more.
    keep(output("sh", &["-c", "ps -eo stat=,args= | grep -v '^Z'"]), &format!("wharf-lab/{name}/"));
    for folder in ["/var/lib/wharf-lab", "/run/wharf-lab"] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            if file == name || file == format!("{name}.lock") {
                traces.insert(format!("{folder}/{file}"));
            }
        }
    }
    traces
}

/// Whether an engine answers a ping in a second; `None` if it does not take the connection.
fn ping(address: &str) -> Option<bool> {
    let address = format!("{address}:2375").parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = [0; 12];
    Some(stream.read_exact(&mut answer).is_ok())
}

/// Whether an engine that could not be reached answers again. It may take seconds after a cut: the kernel asks once a
/// second who has the address, says that there is no such host after three questions, and looks at links once a second.
fn answers_again(address: &str) -> bool {
    (0..100).any(|_| {
        let answers = ping(address) == Some(true);
        if !answers {
            wait(Duration::from_millis(100));
        }
        answers
    })
}

#[test]
fn engines_live_side_by_side_break_on_command_and_leave_nothing() {
    for name in ["laba", "labb"] {
        Lab::down(&name.parse().unwrap()).unwrap();
        assert_eq!(traces(name), BTreeSet::new());
    }
    let (guard, lab) = Guard::up("laba", 2);
    let nodes = lab.nodes().unwrap();
    assert!(nodes.iter().all(|node| node.state == State::Running), "{nodes:?}");

    // Two engines, each with a name and an identity of its own.
    let [one, two] = [&nodes[0], &nodes[1]];
    assert_eq!(docker(&one.endpoint, &["info", "--format", "{{.Name}}"]), "node1");
    assert_eq!(docker(&two.endpoint, &["info", "--format", "{{.Name}}"]), "node2");
    let id = |endpoint: &str| docker(endpoint, &["info", "--format", "{{.ID}}"]);
    assert_ne!(id(&one.endpoint), id(&two.endpoint));
    let mut on_node = lab.command("node2", "sh").unwrap();
    let said = on_node.args(["-c", "hostname; echo $DOCKER_HOST; exit 3"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), format!("node2\n{}\n", two.endpoint));
    assert_eq!(said.status.code(), Some(3));

    // What a command leaves in the background ends with its node.
    let mut in_background = lab.command("node2", "sh").unwrap();
    in_background.args(["-c", "sleep 4711 >/dev/null 2>&1 &"]).output().unwrap();
    assert!(output("pgrep", &["-f", "sleep 4711"]).lines().count() == 1);

    // Their containers reach the other nodes, with br_netfilter or without.
    load_busybox(&one.endpoint).unwrap();
    docker(&one.endpoint, &["run", "--rm", "busybox", "ping", "-c", "1", "-W", "5", &two.address]);

    // Again: nothing changes; with more nodes: one is added.
    let before = id(&one.endpoint);
    let lab = Lab::up("laba".parse().unwrap(), 1, |_| {}).unwrap();
    assert_eq!((lab.nodes().unwrap().len(), id(&one.endpoint)), (2, before.clone()));
    let lab = Lab::up("laba".parse().unwrap(), 3, |_| {}).unwrap();
    assert_eq!(lab.nodes().unwrap().len(), 3);
    assert_eq!(lab.nodes().unwrap()[0].address, one.address);

    // A second lab has a network of its own, and does not reach the first.
    let (other_guard, other) = Guard::up("labb", 1);
    let other = &other.nodes().unwrap()[0];
    assert_ne!(other.address, one.address);
    load_busybox(&other.endpoint).unwrap();
    let mut across = Command::new("docker");
    across.args(["-H", &other.endpoint, "run", "--rm", "busybox", "ping", "-c", "1", "-W", "1", &one.address]);
    assert!(!across.output().unwrap().status.success(), "labs must not meet");
    drop(other_guard);
    assert_eq!(traces("labb"), BTreeSet::new());

    // Frozen: takes connections, answers nothing; goes on as if nothing had been.
    docker(&one.endpoint, &["run", "-d", "--name", "stays", "busybox", "sleep", "1000"]);
    for go_on in [Lab::resume, Lab::start] {
        lab.pause("node1").unwrap();
        assert_eq!(lab.nodes().unwrap()[0].state, State::Paused);
        assert_eq!(ping(&one.address), Some(false));
        go_on(&lab, "node1").unwrap();
    }
    assert_eq!(docker(&one.endpoint, &["ps", "--format", "{{.Names}}"]), "stays");

    // Cut: packets vanish.
    lab.cut("node1").unwrap();
    assert_eq!((lab.nodes().unwrap()[0].state, ping(&one.address)), (State::Cut, None));
    lab.mend("node1").unwrap();
    assert!(answers_again(&one.address));

    // Killed, and started with its data; stopped in good order.
    lab.kill("node1").unwrap();
    assert_eq!((lab.nodes().unwrap()[0].state, ping(&one.address)), (State::Stopped, None));
    lab.start("node1").unwrap();
    assert_eq!(id(&one.endpoint), before);
    assert_eq!(docker(&one.endpoint, &["ps", "-a", "--format", "{{.Names}}"]), "stays");
    docker(&one.endpoint, &["start", "stays"]);
    lab.stop("node1").unwrap();
    assert_eq!(lab.nodes().unwrap()[0].state, State::Stopped);

    // A frozen node can be taken down, too.
    lab.pause("node2").unwrap();
    assert!(matches!(lab.stop("node9"), Err(Error::NoNode { .. })));
    drop(guard);
    assert_eq!(traces("laba"), BTreeSet::new());
    assert_eq!(output("pgrep", &["-f", "sleep 4711"]), "");
    assert!(matches!(Lab::open("laba".parse().unwrap()), Err(Error::NoLab { .. })));

    what_was_killed_half_way_is_taken_down();
    a_lost_plan_hides_nothing();
}

/// `up` may be killed at any moment: this same test binary is the one that is killed.
fn what_was_killed_half_way_is_taken_down() {
    for milliseconds in [20, 100, 250, 600] {
        let mut up = Command::new(std::env::current_exe().unwrap());
        let mut up = up.args(["--exact", "up_for_another_test"]).env("UP", "laba").spawn().unwrap();
        wait(Duration::from_millis(milliseconds));
        up.kill().unwrap();
        up.wait().unwrap();
        Lab::down(&"laba".parse().unwrap()).unwrap();
        assert_eq!(traces("laba"), BTreeSet::new(), "killed after {milliseconds} ms");
    }
}

#[expect(clippy::disallowed_methods, reason = "what is killed is killed at a moment, not on a condition")]
fn wait(duration: Duration) {
    std::thread::sleep(duration);
}

/// Does nothing of itself: see [`what_was_killed_half_way_is_taken_down`].
#[test]
fn up_for_another_test() {
    if let Ok(name) = std::env::var("UP") {
        Lab::up(name.parse().unwrap(), 3, |_| {}).unwrap();
    }
}

/// What a lab has made bears its name: it is found without the lab's own memory.
fn a_lost_plan_hides_nothing() {
    let (guard, _) = Guard::up("laba", 2);
    std::fs::remove_dir_all("/var/lib/wharf-lab/laba").unwrap();
    assert!(Lab::names().contains(&guard.0));
    drop(guard);
    assert_eq!(traces("laba"), BTreeSet::new());
}
