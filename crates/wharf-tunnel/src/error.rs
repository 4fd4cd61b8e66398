//! What can go wrong with a tunnel.

use std::io;

/// Why a tunnel could not be started or told something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is empty, too long, or has bytes that no device's name has.
    #[error("{device:?} is no name for a network device")]
    Name {
        /// The name.
        device: String,
    },
    /// A device of that name exists that is no tunnel, or belongs to a running process.
    #[error("there is a device {device} already, and it is not a tunnel that was left behind")]
    Taken {
        /// The name.
        device: String,
    },
    /// The kernel refused to make, change or remove the device.
    #[error("cannot {action} the device {device}")]
    Device {
        /// What was tried.
        action: &'static str,
        /// The name.
        device: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The UDP socket to the peers cannot be had.
    #[error("cannot listen on UDP port {port}")]
    Socket {
        /// The port.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// The device was removed by somebody else, and nothing passes any more.
    #[error("the tunnel's device is gone")]
    Gone,
    /// A thread, or what wakes it, cannot be had.
    #[error("cannot start the threads of the tunnel {device}")]
    Threads {
        /// The device's name.
        device: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: a step that failed on a device.
    pub(crate) fn device(action: &'static str, device: &str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Device { action, device: device.to_owned(), source }
    }
}
