//! A node's processes as one group: the engine, its helpers and all containers, however they daemonize. They are found,
//! frozen and killed together.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, LabName, system::wait_until};

const ROOT: &str = "/sys/fs/cgroup";

/// Freezing waits for the end of what the processes do in the kernel.
const FREEZE_WITHIN: Duration = Duration::from_secs(20);

/// Killed processes end as soon as the kernel lets them.
const KILL_WITHIN: Duration = Duration::from_secs(30);

/// The cgroups of one node, in whichever of the kernel's two forms this machine has.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    /// Where the processes are found.
    processes: PathBuf,
    /// `wharf-lab/NAME/nodeN`
    path: PathBuf,
    unified: bool,
}

impl Cgroup {
    /// The group of a node. Nothing is made yet.
    pub(crate) fn of(lab: &LabName, node: usize) -> Result<Self, Error> {
        let path = Path::new("wharf-lab").join(lab.as_str()).join(format!("node{node}"));
        let unified = Path::new(ROOT).join("cgroup.controllers").exists();
        let base = if unified { PathBuf::from(ROOT) } else { Path::new(ROOT).join("freezer") };
        if !base.is_dir() {
            return Err(Error::Kernel(format!("{} is missing: mount the cgroup file systems", base.display())));
        }
        Ok(Self { processes: base.join(&path), path, unified })
    }

    /// Makes the group; the file into which the engine writes itself, and the parent for its containers.
    pub(crate) fn make(&self) -> Result<(PathBuf, String), Error> {
        // Unified groups hold processes or groups, not both.
        let engine = if self.unified { self.processes.join("engine") } else { self.processes.clone() };
        fs::create_dir_all(&engine).map_err(Error::file(&engine))?;
        let containers = if self.unified { self.path.join("containers") } else { self.path.clone() };
        Ok((engine.join("cgroup.procs"), format!("/{}", containers.display())))
    }

    /// Whether any process is in it.
    pub(crate) fn is_alive(&self) -> bool {
        !pids(&self.processes).is_empty()
    }

    /// Whether it is frozen.
    pub(crate) fn is_frozen(&self) -> bool {
        let (file, frozen) = if self.unified { ("cgroup.freeze", "1") } else { ("freezer.state", "FROZEN") };
        fs::read_to_string(self.processes.join(file)).is_ok_and(|state| state.trim() == frozen)
    }

    /// Stops all processes where they stand.
    pub(crate) fn freeze(&self) -> Result<(), Error> {
        self.set_frozen(true)?;
        let settled = || match self.unified {
            true => {
                fs::read_to_string(self.processes.join("cgroup.events")).is_ok_and(|text| text.contains("frozen 1"))
            }
            false => self.is_frozen(),
        };
        if wait_until(FREEZE_WITHIN, settled) {
            Ok(())
        } else {
            Err(Error::Late("the processes cannot be frozen".to_owned()))
        }
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) -> Result<(), Error> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let (file, value) = match (self.unified, frozen) {
            (true, true) => ("cgroup.freeze", "1"),
            (true, false) => ("cgroup.freeze", "0"),
            (false, true) => ("freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED"),
        };
        let path = self.processes.join(file);
        fs::write(&path, value).map_err(Error::file(path))
    }

    /// Kills every process in it, those that are made meanwhile included.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        if !self.processes.exists() {
            return Ok(());
        }
        let ended = wait_until(KILL_WITHIN, || {
            let pids = pids(&self.processes);
            for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                // It may have ended by itself just now.
                kill_process(pid, Signal::KILL).ok();
            }
            // Frozen processes die when they are thawed.
            drop(self.thaw());
            pids.is_empty()
        });
        if ended {
            return Ok(());
        }
        Err(Error::Late(format!("processes {:?} cannot be killed", pids(&self.processes))))
    }

    /// Removes the group from every hierarchy; its processes have ended.
    pub(crate) fn remove(&self) {
        for hierarchy in hierarchies() {
            remove_tree(&hierarchy.join(&self.path));
        }
    }
}

/// Removes what is left of a lab's groups, and of all labs' if this was the last.
pub(crate) fn remove_parents(lab: &LabName) {
    for hierarchy in hierarchies() {
        let all = hierarchy.join("wharf-lab");
        drop(fs::remove_dir(all.join(lab.as_str())));
        drop(fs::remove_dir(all));
    }
}

/// The roots of all hierarchies: one, or one per controller.
fn hierarchies() -> Vec<PathBuf> {
    let below = fs::read_dir(ROOT).into_iter().flatten().flatten().map(|entry| entry.path());
    [PathBuf::from(ROOT)].into_iter().chain(below.filter(|path| path.join("cgroup.procs").exists())).collect()
}

fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    drop(fs::remove_dir(path));
}

/// The processes in a group and in the groups below.
fn pids(path: &Path) -> Vec<i32> {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<_> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(pids(&entry.path()));
        }
    }
    found
}
