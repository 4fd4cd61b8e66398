//! The host whose kernel is changed: where its files and programs are, seen from this process.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::wire::problem::Error;

/// Where programs are looked for on the host; a container's own `PATH` says nothing about it.
const PROGRAM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How this process sees its host.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// The folder under which the host's root file system is mounted; `None` where this process runs on it directly.
    pub root: Option<PathBuf>,
}

impl Host {
    /// Fails where the root folder is none, which would make every later call fail less clearly.
    pub(crate) fn verify(&self) -> Result<(), Error> {
        match &self.root {
            Some(root) if !root.is_dir() => Err(Error::NoRoot(root.display().to_string())),
            _ => Ok(()),
        }
    }

    /// Where this process finds the host's file of an absolute path.
    pub(crate) fn path(&self, absolute: &str) -> PathBuf {
        let root = self.root.as_deref().unwrap_or_else(|| Path::new("/"));
        root.join(absolute.trim_start_matches('/'))
    }

    /// A command that runs one of the host's own programs on the host's own files, in our network namespace.
    pub(crate) fn command(&self, program: &str) -> io::Result<Command> {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", PROGRAM_PATH).env("LC_ALL", "C").kill_on_drop(true);
        if let Some(root) = &self.root {
            let root = CString::new(root.as_os_str().as_encoded_bytes())?;
            enter_before_exec(&mut command, root);
        }
        Ok(command)
    }
}

/// Makes the child of `command` see only what is below `root`.
#[expect(
    unsafe_code,
    reason = "a child changes its own root between fork and exec, which the standard library has no safe way for"
)]
fn enter_before_exec(command: &mut Command, root: CString) {
    let enter = move || {
        rustix::process::chroot(root.as_c_str())?;
        rustix::process::chdir(c"/")?;
        Ok(())
    };
    // SAFETY: the closure runs in the child after fork. It makes two system calls on strings that were built before,
    // and neither allocates nor takes a lock, so it is sound whatever other threads held at the fork.
    unsafe {
        command.pre_exec(enter);
    }
}

/// Reads a kernel setting of our network namespace, `net/ipv4/ip_forward` for example; `None` where there is none.
pub(crate) fn read_setting(key: &str) -> Option<String> {
    fs::read_to_string(setting_path(key)).ok().map(|text| text.trim().to_owned())
}

/// Writes a kernel setting of our network namespace.
pub(crate) fn write_setting(key: &str, value: &str) -> io::Result<()> {
    fs::write(setting_path(key), value)
}

/// `/proc/sys/net` shows the namespace of the thread that opens it, so the file is opened where the caller runs.
fn setting_path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}
