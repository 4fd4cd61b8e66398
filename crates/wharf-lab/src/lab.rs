//! A lab as a whole.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    Error, LabName,
    cgroup::{self, Cgroup},
    engine::{Engine, PORT},
    lock::Lock,
    network, system,
};

/// Nodes that fit into a lab's /24.
const NODES: std::ops::RangeInclusive<usize> = 1..=200;

/// What outlives a restart of the machine.
const DATA: &str = "/var/lib/wharf-lab";

/// What does not.
const RUN: &str = "/run/wharf-lab";

/// Real engines on this machine, joined by a private network.
#[derive(Debug, Clone)]
pub struct Lab {
    name: LabName,
    plan: Plan,
}

/// What a lab is to be: written before anything of it is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    network: Ipv4Net,
    nodes: usize,
}

/// A node of a lab.
#[derive(Debug, Clone, Serialize)]
pub struct Node {
    /// `node1`, …
    pub name: String,
    /// Its address on the lab's network.
    pub address: String,
    /// Where its engine listens: `tcp://ADDRESS:2375`.
    pub endpoint: String,
    /// How it is.
    pub state: State,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its engine answers.
    Running,
    /// Its engine runs, and does not answer.
    Silent,
    /// All of its processes are frozen.
    Paused,
    /// Its network is cut.
    Cut,
    /// Nothing of it runs.
    Stopped,
}

impl State {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Silent => "silent",
            Self::Paused => "paused",
            Self::Cut => "cut",
            Self::Stopped => "stopped",
        }
    }
}

// === making and finding ===

impl Lab {
    /// Brings a lab up: makes what is missing of it, keeps what is there. Tells of each node as its engine answers.
    ///
    /// # Errors
    /// See [`Error`]. What was made stays, for another try or for [`Lab::down`].
    pub fn up(name: LabName, nodes: usize, mut tell: impl FnMut(&Node)) -> Result<Self, Error> {
        system::check()?;
        if !NODES.contains(&nodes) {
            return Err(Error::Count(nodes));
        }
        let _lock = Lock::take(&lock_path(&name))?;
        let lab = Self::plan(name, nodes)?;
        network::make_bridge(&lab.name, lab.plan.network)?;
        let mut started = Vec::new();
        for number in 1..=lab.plan.nodes {
            let engine = lab.engine(number)?;
            network::make_node(&lab.name, lab.plan.network, number)?;
            engine.ensure_started()?;
            started.push(engine);
        }
        for (engine, number) in started.iter().zip(1..) {
            engine.wait_ready()?;
            tell(&lab.describe(number)?);
        }
        Ok(lab)
    }

    /// Reads what the lab is, or decides it and writes it down.
    fn plan(name: LabName, nodes: usize) -> Result<Self, Error> {
        let _all = Lock::take(&Path::new(RUN).join("lock"))?;
        let plan = match read(&name)? {
            Some(plan) => Plan { nodes: plan.nodes.max(nodes), ..plan },
            None => {
                let others: Vec<_> =
                    names().iter().filter_map(|name| read(name).ok()?).map(|plan| plan.network).collect();
                Plan { network: network::free(&others)?, nodes }
            }
        };
        let folder = data(&name);
        fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        let text = serde_json::to_string(&plan).unwrap_or_default();
        // Written whole or not at all.
        let (draft, path) = (folder.join("lab.json.new"), folder.join("lab.json"));
        fs::write(&draft, text).map_err(Error::file(&draft))?;
        fs::rename(&draft, &path).map_err(Error::file(&path))?;
        Ok(Self { name, plan })
    }

    /// A lab that is there.
    ///
    /// # Errors
    /// [`Error::NoLab`], naming those there are.
    pub fn open(name: LabName) -> Result<Self, Error> {
        if let Some(plan) = read(&name)? {
            return Ok(Self { name, plan });
        }
        let known: Vec<_> = names().iter().map(ToString::to_string).collect();
        let known = match known.is_empty() {
            true => "make one with wharf lab up".to_owned(),
            false => format!("there are {}", known.join(", ")),
        };
        Err(Error::NoLab { name: name.to_string(), known })
    }

    /// The names of all labs of this machine, also of those of which only traces are left.
    pub fn names() -> Vec<LabName> {
        let namespaces = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let of_namespace = |name: String| name.strip_prefix("wl-")?.rsplit_once("-node")?.0.parse().ok();
        let traces = namespaces.filter_map(|entry| of_namespace(entry.file_name().into_string().ok()?));
        let mut names: Vec<_> = names().into_iter().chain(names_in(RUN)).chain(traces).collect();
        names.sort();
        names.dedup();
        names
    }

    /// All labs of this machine.
    ///
    /// # Errors
    /// [`Error::File`]
    pub fn all() -> Result<Vec<Self>, Error> {
        let labs = names().into_iter().map(|name| Ok(read(&name)?.map(|plan| Self { name, plan })));
        Ok(labs.collect::<Result<Vec<_>, Error>>()?.into_iter().flatten().collect())
    }

    /// Takes a lab down, whatever is left of it: processes, namespaces, links, rules, cgroups, files.
    ///
    /// # Errors
    /// See [`Error`]. May be tried again.
    pub fn down(name: &LabName) -> Result<(), Error> {
        system::check()?;
        let lock = Lock::take(&lock_path(name))?;
        let of_plan = read(name).ok().flatten().map_or(0, |plan| plan.nodes);
        // A plan may be lost; what it made bears the lab's name all the same.
        let found = (1..=*NODES.end()).filter(|node| *node <= of_plan || exists(name, *node));
        let cgroups: Vec<_> = found.map(|node| Cgroup::of(name, node)).collect::<Result<_, _>>()?;
        for cgroup in &cgroups {
            cgroup.kill()?;
        }
        network::remove(name)?;
        cgroups.iter().for_each(Cgroup::remove);
        cgroup::remove_parents(name);
        for folder in [data(name), run(name)] {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::file(folder)(error)),
                _ => {}
            }
        }
        lock.remove();
        // The last lab takes the common folders along; others keep them.
        if names().is_empty() {
            Lock::take(&Path::new(RUN).join("lock"))?.remove();
        }
        // Where engines' own folders were mounted over; kept if this machine's engine uses them.
        for folder in [
            DATA,
            RUN,
            "/run/docker",
            "/run/containerd",
            "/opt/containerd/bin",
            "/opt/containerd/lib",
            "/opt/containerd",
        ] {
            drop(fs::remove_dir(folder));
        }
        Ok(())
    }
}

// === using ===

impl Lab {
    /// Its name.
    pub fn name(&self) -> &LabName {
        &self.name
    }

    /// Its nodes, and how they are.
    ///
    /// # Errors
    /// [`Error::Kernel`]
    pub fn nodes(&self) -> Result<Vec<Node>, Error> {
        (1..=self.plan.nodes).map(|number| self.describe(number)).collect()
    }

    /// What `wharf serve` takes: `nodes://ADDRESS:2375,…`.
    pub fn discovery(&self) -> String {
        let addresses =
            (1..=self.plan.nodes).map(|node| format!("{}:{PORT}", network::address(self.plan.network, node)));
        format!("nodes://{}", addresses.collect::<Vec<_>>().join(","))
    }

    /// A command that runs on a node: in its namespaces, with its engine as `DOCKER_HOST`.
    ///
    /// # Errors
    /// [`Error::NoNode`]
    pub fn command(&self, node: &str, program: &str) -> Result<Command, Error> {
        let number = self.number(node)?;
        let engine = self.engine(number)?;
        // Into the node's group first, so that what it leaves in the background ends with the node.
        let (procs, _) = engine.cgroup.make()?;
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0\" && exec nsenter \"$@\""]).arg(procs);
        match engine.pid().filter(|_| engine.cgroup.is_alive()) {
            Some(pid) => command.args(["--target", &pid.as_raw_nonzero().to_string(), "--net", "--mount", "--uts"]),
            None => command.arg(format!("--net=/run/netns/{}", engine.namespace)),
        };
        command.arg("--").arg(program).env("DOCKER_HOST", format!("tcp://{}:{PORT}", engine.address));
        Ok(command)
    }

    /// Ends a node's containers and its engine in good order.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn stop(&self, node: &str) -> Result<(), Error> {
        self.change(node, Engine::stop)
    }

    /// Starts a node's engine, and waits until it answers.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn start(&self, node: &str) -> Result<(), Error> {
        let number = self.number(node)?;
        self.change(node, |engine| {
            // After a restart of the machine there is no network.
            network::make_bridge(&self.name, self.plan.network)?;
            network::make_node(&self.name, self.plan.network, number)?;
            engine.ensure_started()?;
            engine.wait_ready()
        })
    }

    /// Kills a node: its engine and all that it runs, at once, as a power failure does.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn kill(&self, node: &str) -> Result<(), Error> {
        self.change(node, |engine| engine.cgroup.kill())
    }

    /// Freezes a node: connections are still accepted (by the kernel), nothing answers.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn pause(&self, node: &str) -> Result<(), Error> {
        self.change(node, |engine| engine.cgroup.freeze())
    }

    /// Lets a frozen node go on.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn resume(&self, node: &str) -> Result<(), Error> {
        self.change(node, |engine| engine.cgroup.thaw())
    }

    /// Cuts a node's network: packets vanish.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn cut(&self, node: &str) -> Result<(), Error> {
        network::set_link(&self.name, self.number(node)?, "down")
    }

    /// Mends a node's network.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn mend(&self, node: &str) -> Result<(), Error> {
        network::set_link(&self.name, self.number(node)?, "up")
    }

    fn change(&self, node: &str, change: impl FnOnce(&Engine) -> Result<(), Error>) -> Result<(), Error> {
        system::check()?;
        let engine = self.engine(self.number(node)?)?;
        let _lock = Lock::take(&lock_path(&self.name))?;
        change(&engine)
    }

    fn number(&self, node: &str) -> Result<usize, Error> {
        let number = node.strip_prefix("node").and_then(|number| number.parse().ok());
        number.filter(|number| (1..=self.plan.nodes).contains(number)).ok_or_else(|| Error::NoNode {
            lab: self.name.to_string(),
            node: node.to_owned(),
            known: format!("node1 to node{}", self.plan.nodes),
        })
    }

    fn engine(&self, number: usize) -> Result<Engine, Error> {
        let name = format!("node{number}");
        Ok(Engine {
            address: network::address(self.plan.network, number),
            namespace: self.name.namespace(number),
            data: data(&self.name).join(&name),
            run: run(&self.name).join(&name),
            cgroup: Cgroup::of(&self.name, number)?,
            name,
        })
    }

    fn describe(&self, number: usize) -> Result<Node, Error> {
        let engine = self.engine(number)?;
        let state = match () {
            () if !engine.cgroup.is_alive() => State::Stopped,
            () if engine.cgroup.is_frozen() => State::Paused,
            () if network::is_cut(&self.name, number) => State::Cut,
            () if engine.answers() => State::Running,
            () => State::Silent,
        };
        let (address, endpoint) = (engine.address.to_string(), format!("tcp://{}:{PORT}", engine.address));
        Ok(Node { name: engine.name, address, endpoint, state })
    }
}

fn data(name: &LabName) -> PathBuf {
    Path::new(DATA).join(name.as_str())
}

fn run(name: &LabName) -> PathBuf {
    Path::new(RUN).join(name.as_str())
}

fn lock_path(name: &LabName) -> PathBuf {
    Path::new(RUN).join(format!("{name}.lock"))
}

/// Whether anything of a node is there: its cgroup or its namespace.
fn exists(name: &LabName, node: usize) -> bool {
    let namespace = Path::new("/run/netns").join(name.namespace(node));
    namespace.exists() || Cgroup::of(name, node).is_ok_and(|cgroup| cgroup.is_alive())
}

fn read(name: &LabName) -> Result<Option<Plan>, Error> {
    let path = data(name).join("lab.json");
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| Error::file(path)(error.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(path)(error)),
    }
}

/// The labs that have a folder of their own for their data.
fn names() -> Vec<LabName> {
    let mut names = names_in(DATA);
    names.sort();
    names
}

fn names_in(folder: &str) -> Vec<LabName> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| entry.file_name().into_string().ok()?.parse().ok()).collect()
}
