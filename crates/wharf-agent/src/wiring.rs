//! One task that keeps the kernel in step with the latest wish, and the encrypted tunnel with its peers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};

use ipnet::IpNet;
use rustix::fs::{FileType, Mode};
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};
use wharf_model::Pairing;
use wharf_protocol::{SECURE_PORT, State, VXLAN_PORT};
use wharf_tunnel::{Kernel, SecretKey, Tunnel};

use crate::{
    credentials::{self, write},
    wire::{Facts, Host, Network, Peer, SECURE_TUNNEL, Wire, Wish, facts},
};

/// What others have done to the host since, a flushed chain, a deleted route, is put right this often.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// While something is waited for that tells nobody when it is there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The file by which TUN devices are had, and its numbers (the kernel's `Documentation/networking/tuntap.rst`).
const TUN_DEVICE: &str = "/dev/net/tun";
const TUN_NUMBERS: (u32, u32) = (10, 200);

/// What the tunnels put around a packet: VXLAN over IPv4, WireGuard over IPv4.
const VXLAN_OVERHEAD: u32 = 50;
const SECURE_OVERHEAD: u32 = 60;

/// The part of the state that wires are made of, and its number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) number: u64,
    pub(crate) state: Option<State>,
    /// The IPv6 addresses of other nodes' containers, by network.
    pub(crate) neighbours: BTreeMap<String, BTreeSet<Ipv6Addr>>,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wired {
    /// The number of what the kernel agrees with.
    pub(crate) number: u64,
    pub(crate) facts: Option<Facts>,
    /// The public half of the encrypted tunnel's key.
    pub(crate) key: String,
    pub(crate) waiting: Vec<String>,
    pub(crate) problems: Vec<String>,
}

/// Keeps the kernel in step until it is dropped.
pub(crate) struct Wiring {
    wire: Wire,
    host: Host,
    towards: IpAddr,
    key: SecretKey,
    tunnel: Option<Tunnel>,
    wanted: watch::Receiver<Wanted>,
    wired: watch::Sender<Wired>,
}

impl Wiring {
    /// Starts it in a thread of its own: what it asks the kernel is answered at once, and is a lot at a time, which those who
    /// wait for names should not feel. It ends when nobody wants anything any more.
    ///
    /// # Errors
    /// If the kernel's interfaces are not there, for people.
    pub(crate) fn spawn(
        host: Host,
        towards: IpAddr,
        data: &Path,
        wanted: watch::Receiver<Wanted>,
        wired: watch::Sender<Wired>,
    ) -> Result<(), String> {
        let key = secret(data).map_err(|error| error.to_string())?;
        let (started, wait) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("wiring".to_owned());
        let run = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return started.send(Err(error.to_string())).unwrap_or(()),
            };
            runtime.block_on(async {
                match Wire::new(host.clone()) {
                    Ok(wire) => {
                        started.send(Ok(())).ok();
                        Self { wire, host, towards, key, tunnel: None, wanted, wired }.run().await;
                    }
                    Err(error) => started.send(Err(error.to_string())).unwrap_or(()),
                }
            });
        };
        thread.spawn(run).map_err(|error| error.to_string())?;
        wait.recv().map_err(|error| error.to_string())?
    }

    async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut links = match self.wire.watch_links().await {
            Ok(links) => links,
            Err(error) => {
                tracing::warn!("changes of links are seen only every {LOOK_EVERY:?}: {error}");
                mpsc::channel(1).1
            }
        };
        loop {
            let waits = !self.wired.borrow().waiting.is_empty();
            tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                Some(_) = links.recv() => while links.try_recv().is_ok() {},
                _ = look.tick() => {}
                () = tokio::time::sleep(LOOK_AGAIN), if waits => {}
            }
            self.converge().await;
        }
    }

    async fn converge(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        let mut next = Wired { number: wanted.number, ..Wired::default() };
        next.key = self.key.public().to_string();
        match facts(&self.host, self.towards).await {
            Ok(facts) => {
                if let Some(state) = &wanted.state {
                    self.keep_tunnel(state, &facts, &mut next);
                    if let Some(wish) = wish(state, &wanted.neighbours, &facts, self.tunnel.is_some()) {
                        let report = self.wire.converge(&wish).await;
                        for done in &report.done {
                            tracing::debug!("{done}");
                        }
                        next.waiting.extend(report.waiting);
                        next.problems.extend(report.problems.iter().map(ToString::to_string));
                    }
                }
                next.facts = Some(facts);
            }
            Err(error) => next.problems.push(error.to_string()),
        }
        self.wired.send_replace(next);
    }

    /// The encrypted tunnel is there while a network needs it.
    fn keep_tunnel(&mut self, state: &State, facts: &Facts, wired: &mut Wired) {
        if !state.networks.values().any(|network| network.encrypted) {
            self.tunnel = None;
            return;
        }
        // One whose device was taken away has to be made anew.
        if self.tunnel.as_ref().is_some_and(|tunnel| tunnel.status().is_err()) {
            self.tunnel = None;
        }
        if self.tunnel.is_none() {
            let config = wharf_tunnel::Config {
                device: SECURE_TUNNEL.to_owned(),
                mtu: facts.underlay_mtu.saturating_sub(SECURE_OVERHEAD),
                key: self.key.clone(),
                port: SECURE_PORT,
                kernel: Kernel::Auto,
            };
            if let Err(error) = have_tun_device() {
                tracing::debug!("{TUN_DEVICE} cannot be made: {error}");
            }
            match Tunnel::start(config) {
                Ok(tunnel) => self.tunnel = Some(tunnel),
                Err(error) => wired.problems.push(format!("the encrypted tunnel: {error}")),
            }
        }
        if let Some(tunnel) = &self.tunnel
            && let Err(error) = tunnel.set_peers(peers(state))
        {
            wired.problems.push(format!("the encrypted tunnel: {error}"));
        }
    }
}

/// Makes the file by which TUN devices are had, where there is none: a container's `/dev` has only what it was given.
fn have_tun_device() -> std::io::Result<()> {
    let path = Path::new(TUN_DEVICE);
    if path.exists() {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let (major, minor) = TUN_NUMBERS;
    let device = rustix::fs::makedev(major, minor);
    Ok(rustix::fs::mknodat(rustix::fs::CWD, path, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, device)?)
}

fn peers(state: &State) -> Vec<wharf_tunnel::Peer> {
    let mut allowed: BTreeMap<u32, Vec<IpNet>> = BTreeMap::new();
    for network in state.networks.values().filter(|network| network.encrypted) {
        for (slice, node) in slices(network) {
            allowed.entry(node).or_default().push(slice);
        }
    }
    let peer = |(node, peer): (&u32, &wharf_protocol::Peer)| {
        let mut allowed = allowed.remove(node)?;
        allowed.push(IpAddr::V4(peer.tunnel_address).into());
        let endpoint = SocketAddr::new(peer.underlay.into(), SECURE_PORT);
        Some(wharf_tunnel::Peer { key: peer.key.parse().ok()?, endpoint, allowed })
    };
    state.peers.iter().filter_map(peer).collect()
}

/// A network's blocks of either family, and whose they are.
fn slices(network: &wharf_protocol::Network) -> impl Iterator<Item = (IpNet, u32)> {
    let pairing = network.range6.and_then(|range6| Pairing::new(network.range, range6));
    network.slices.iter().flat_map(move |(slice, node)| {
        let six = pairing.map(|pairing| IpNet::from(pairing.six_block(*slice)));
        [Some(IpNet::from(*slice)), six].into_iter().flatten().map(|slice| (slice, *node))
    })
}

/// What the kernel is to look like; `None` before the node's own place is known.
fn wish(state: &State, neighbours: &BTreeMap<String, BTreeSet<Ipv6Addr>>, facts: &Facts, secure: bool) -> Option<Wish> {
    let me = state.me.as_ref()?;
    let networks = state.networks.iter().map(|(id, network)| {
        let (own, remote): (BTreeMap<IpNet, u32>, BTreeMap<_, _>) =
            slices(network).partition(|(_, node)| *node == me.node);
        let wanted = Network {
            bridge: network.bridge.clone(),
            range: network.range,
            range6: network.range6,
            internal: network.internal,
            encrypted: network.encrypted,
            own: own.into_keys().collect(),
            remote,
            neighbours: neighbours.get(id).cloned().unwrap_or_default(),
        };
        (id.clone(), wanted)
    });
    let peer = |peer: &wharf_protocol::Peer| Peer { tunnel_address: peer.tunnel_address, underlay: peer.underlay };
    Some(Wish {
        tunnel_address: me.tunnel_address,
        underlay: facts.underlay,
        mtu: facts.underlay_mtu.saturating_sub(VXLAN_OVERHEAD),
        vxlan_port: VXLAN_PORT,
        secure_port: secure.then_some(SECURE_PORT),
        peers: state.peers.iter().map(|(node, known)| (*node, peer(known))).collect(),
        networks: networks.collect(),
        dns_bridges: me.bridges.clone(),
    })
}

/// The key of the encrypted tunnel; a new one on the first start.
fn secret(data: &Path) -> Result<SecretKey, credentials::Error> {
    let path = data.join("tunnel.key");
    let known = std::fs::read(&path).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    if let Some(bytes) = known {
        return Ok(SecretKey::from_bytes(bytes));
    }
    let key = SecretKey::generate();
    write(&path, &key.to_bytes())?;
    Ok(key)
}

/// The address that this host has towards the manager.
pub(crate) fn own_address(manager: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if manager.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    // Nothing is sent by this.
    socket.connect(manager).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
