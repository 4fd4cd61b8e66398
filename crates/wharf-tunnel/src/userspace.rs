//! WireGuard in this process: one thread for each direction, so that sending and receiving do not wait for each other, and
//! one for the timers.

mod inbound;
mod outbound;
mod timers;

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519;
use parking_lot::{Mutex, RwLock};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::config::{Config, Peer, PeerStatus};
use crate::error::Error;
use crate::key::SecretKey;
use crate::peers::{Node, Peers};
use crate::tun::Tun;
use crate::underlay::Underlay;

/// How many handshake messages per second are answered before senders must prove their address (WireGuard paper §5.3).
/// A handshake costs about 0.1 ms; each is counted twice, on arrival and by its peer's session.
const HANDSHAKES_PER_SECOND: u64 = 2 * 200;

/// The room that any message needs that is not a packet of data.
const LONGEST_HANDSHAKE_MESSAGE: usize = 148;
/// What WireGuard adds to a packet.
const DATA_OVERHEAD: usize = 32;

/// A running tunnel of this process; dropping it ends the threads and with them the device.
pub(crate) struct Engine {
    shared: Arc<Shared>,
    /// Dropped to end the timers' thread.
    timers: Option<mpsc::SyncSender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads have in common.
struct Shared {
    secret: SecretKey,
    public: x25519::PublicKey,
    tun: Tun,
    underlay: Underlay,
    limiter: Arc<RateLimiter>,
    peers: RwLock<Arc<Peers>>,
    /// Peers that have yet to be greeted.
    new: Mutex<Vec<Arc<Node>>>,
    /// Readable once the threads are to end.
    stop: OwnedFd,
}

impl Engine {
    /// Makes the device in the current network namespace and starts the threads.
    pub(crate) fn start(config: Config) -> Result<Engine, Error> {
        let device = config.device;
        let underlay = Underlay::bind(config.port).map_err(|source| Error::Socket { port: config.port, source })?;
        let tun = Tun::create(&device, config.mtu)?;
        let failed = |source| Error::Threads { device: device.clone(), source };
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
        let public = config.key.public().to_dalek();
        let shared = Arc::new(Shared {
            public,
            secret: config.key,
            tun,
            underlay,
            limiter: Arc::new(RateLimiter::new(&public, HANDSHAKES_PER_SECOND)),
            peers: RwLock::default(),
            new: Mutex::default(),
            stop,
        });
        let (timers, ended) = mpsc::sync_channel(0);
        // Threads that were started are ended by the drop, should a later one fail.
        let mut engine = Engine { shared: Arc::clone(&shared), timers: Some(timers), threads: Vec::new() };
        let outbound = Arc::clone(&shared);
        engine.spawn(&device, "out", move || outbound::run(&outbound)).map_err(failed)?;
        let inbound = Arc::clone(&shared);
        engine.spawn(&device, "in", move || inbound::run(&inbound)).map_err(failed)?;
        engine.spawn(&device, "timers", move || timers::run(&shared, &ended)).map_err(failed)?;
        Ok(engine)
    }

    fn spawn(&mut self, device: &str, task: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(Builder::new().name(format!("{device}-{task}")).spawn(run)?);
        Ok(())
    }

    /// Replaces the peers.
    pub(crate) fn set_peers(&self, wanted: &[Peer]) {
        // Only replacing needs the lock: the threads go on with the former peers meanwhile.
        let mut greetings = self.shared.new.lock();
        let (peers, new) = self.shared.peers().replaced(wanted, &self.shared.secret, &self.shared.limiter);
        *self.shared.peers.write() = Arc::new(peers);
        greetings.retain(|node| self.shared.peers().by_key(node.key).is_some_and(|now| Arc::ptr_eq(node, now)));
        greetings.extend(new);
    }

    /// How each peer is doing, by key; an error if a thread has ended.
    pub(crate) fn status(&self) -> Result<Vec<PeerStatus>, Error> {
        if self.threads.iter().any(JoinHandle::is_finished) {
            return Err(Error::Gone);
        }
        let peers = self.shared.peers();
        let status = |node: &Arc<Node>| {
            let link = node.link.lock();
            let (last_handshake, sent, received, _, _) = link.tunn.stats();
            PeerStatus {
                key: node.key,
                endpoint: link.endpoint,
                last_handshake,
                sent: sent as u64,
                received: received as u64,
            }
        };
        Ok(peers.iter().map(status).collect())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.timers = None;
        if let Err(error) = rustix::io::write(&self.shared.stop, &1u64.to_ne_bytes()) {
            tracing::error!(%error, "the threads of a tunnel cannot be ended");
            return;
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of a tunnel panicked");
            }
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    /// The peers as they are now.
    fn peers(&self) -> Arc<Peers> {
        Arc::clone(&self.peers.read())
    }

    /// Waits until there is something to read; `false` if the threads are to end.
    fn wait(&self, readable: &impl std::os::fd::AsFd) -> bool {
        loop {
            let mut descriptors = [PollFd::new(readable, PollFlags::IN), PollFd::new(&self.stop, PollFlags::IN)];
            match poll(&mut descriptors, None) {
                Ok(_) => return descriptors[1].revents().is_empty(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "a tunnel's thread cannot wait and ends");
                    return false;
                }
            }
        }
    }
}
