//! Real Docker engines on one machine, each as if it were on a host of its own: with its own network, mounts, host name,
//! `/etc/docker`, data and containers.
//!
//! Everything a lab makes bears its name: namespaces and links `wl-NAME…`, cgroups `wharf-lab/NAME`, folders
//! `…/wharf-lab/NAME`, firewall rules with the comment `wharf-lab:NAME`. So [`Lab::down`] finds all of it again, whatever
//! happened in between: a crash half way, a `kill -9`, a restart of the machine.

mod cgroup;
mod engine;
mod error;
mod image;
mod lab;
mod lock;
mod name;
mod network;
mod system;

pub use crate::{
    error::Error,
    image::load_busybox,
    lab::{Lab, Node, State},
    name::LabName,
};
