//! The tunnel, whoever carries it.

use crate::config::{Config, Kernel, Peer, PeerStatus};
use crate::error::Error;
use crate::kernel::Device;
use crate::userspace::Engine;

/// The longest name of a network device (`IFNAMSIZ` less the zero at the end).
const LONGEST_NAME: usize = 15;

/// A running tunnel. Dropping it removes the device.
#[derive(Debug)]
pub struct Tunnel {
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    Kernel(Device),
    Userspace(Engine),
}

impl Tunnel {
    /// Makes the device in the network namespace of the calling thread, brings it up and listens for peers, of which there
    /// are none yet. It takes a few system calls and does not wait for anybody. The device has no address and no routes:
    /// they are the caller's.
    ///
    /// A device that an earlier process left behind is taken over.
    ///
    /// # Errors
    /// The name is unusable or taken, the port is taken, or the process lacks `CAP_NET_ADMIN`.
    pub fn start(config: Config) -> Result<Tunnel, Error> {
        let is_name = |byte: u8| byte.is_ascii_graphic() && !b"/:%".contains(&byte);
        let device = &config.device;
        if device.is_empty() || device.len() > LONGEST_NAME || device.starts_with('.') || !device.bytes().all(is_name) {
            return Err(Error::Name { device: config.device });
        }
        let in_kernel = match config.kernel {
            Kernel::Auto => Device::start(&config)?,
            Kernel::Never => None,
        };
        let backend = match in_kernel {
            Some(device) => Backend::Kernel(device),
            None => Backend::Userspace(Engine::start(config)?),
        };
        Ok(Tunnel { backend })
    }

    /// Whether the kernel carries the packets.
    #[must_use]
    pub fn is_in_kernel(&self) -> bool {
        matches!(self.backend, Backend::Kernel(_))
    }

    /// Replaces the peers. Who is among them before and after keeps its sessions, and where it was last heard from unless
    /// its configured endpoint changed. This node's own key among them is passed over.
    ///
    /// # Errors
    /// The kernel refused; this process itself never does.
    pub fn set_peers(&self, peers: Vec<Peer>) -> Result<(), Error> {
        match &self.backend {
            Backend::Kernel(device) => device.set_peers(peers),
            Backend::Userspace(engine) => {
                engine.set_peers(&peers);
                Ok(())
            }
        }
    }

    /// How each peer is doing, ordered by key.
    ///
    /// # Errors
    /// The kernel refused; or the device is gone, and the tunnel must be started again.
    pub fn status(&self) -> Result<Vec<PeerStatus>, Error> {
        match &self.backend {
            Backend::Kernel(device) => device.status(),
            Backend::Userspace(engine) => engine.status(),
        }
    }

    /// Removes the device and ends the threads. Dropping does the same.
    pub fn stop(self) {}
}
