//! Network namespaces for a test, and work in them.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wharf_tunnel::{Config, Kernel, Peer, PublicKey, SecretKey, Tunnel};

/// The underlay's port in every namespace.
pub(crate) const PORT: u16 = 51820;
/// The MTU in the tunnel, over an underlay of 1500.
pub(crate) const MTU: u32 = 1420;

/// A network namespace; it is removed on drop.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    pub(crate) fn new() -> Namespace {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("wht-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(&["ip", "netns", "add", &name]);
        let namespace = Namespace { name };
        namespace.run("ip link set lo up");
        namespace
    }

    /// Runs a command line in it, which must succeed.
    pub(crate) fn run(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command line in it.
    pub(crate) fn output(&self, line: &str) -> Output {
        let words: Vec<&str> = line.split_whitespace().collect();
        output(Command::new("ip").args(["netns", "exec", &self.name]).args(words))
    }

    /// Does something on a thread in it.
    pub(crate) fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        thread.join().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        output(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

/// A node: a namespace with a tunnel.
pub(crate) struct Node {
    // The tunnel goes before its namespace does.
    pub(crate) tunnel: Tunnel,
    pub(crate) namespace: Namespace,
    pub(crate) key: PublicKey,
    pub(crate) underlay: IpAddr,
    pub(crate) number: u8,
    /// What it is spoken to by: one of its addresses in the tunnel.
    pub(crate) address: IpAddr,
}

impl Node {
    /// A node with the addresses `10.99.NUMBER.1` and `fd99::NUMBER` in the tunnel, and routes for all of `10.99.0.0/16` and
    /// `fd99::/64` into it. It is spoken to by IPv4.
    pub(crate) fn start(namespace: Namespace, underlay: IpAddr, number: u8) -> Node {
        let secret = SecretKey::generate();
        let key = secret.public();
        let tunnel = start(&namespace, secret);
        let [four, six] = addresses(number);
        namespace.run(&format!("ip address add {four}/16 dev wharf1"));
        namespace.run(&format!("ip address add {six}/64 dev wharf1 nodad"));
        Node { tunnel, namespace, key, underlay, number, address: four }
    }

    /// The node, spoken to by IPv6.
    pub(crate) fn by_ipv6(self) -> Node {
        let [_, address] = addresses(self.number);
        Node { address, ..self }
    }

    /// Whether a datagram of that many bytes reaches `other` and returns as it was, within that time.
    pub(crate) fn reaches(&self, other: &Node, length: usize, within: Duration) -> bool {
        let open = |node: &Node| {
            let address = (node.address, 0);
            let socket = node.namespace.inside(move || UdpSocket::bind(address).unwrap());
            socket.set_read_timeout(Some(within)).unwrap();
            socket
        };
        let (here, there) = (open(self), open(other));
        let sent: Vec<u8> = (0..length).map(|index| index as u8).collect();
        here.send_to(&sent, there.local_addr().unwrap()).unwrap();
        let mut buffer = vec![0; length + 1];
        let Ok((count, source)) = there.recv_from(&mut buffer) else { return false };
        there.send_to(&buffer[..count], source).unwrap();
        here.recv(&mut buffer).is_ok_and(|count| buffer[..count] == sent)
    }

    /// This node as others know it.
    pub(crate) fn as_peer(&self) -> Peer {
        let allowed = addresses(self.number).map(IpNet::from).to_vec();
        Peer { key: self.key, endpoint: SocketAddr::new(self.underlay, PORT), allowed }
    }
}

/// The addresses of a node in the tunnel.
fn addresses(number: u8) -> [IpAddr; 2] {
    let six = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, number.into());
    [Ipv4Addr::new(10, 99, number, 1).into(), six.into()]
}

/// Starts a tunnel of this process in a namespace.
pub(crate) fn start(namespace: &Namespace, key: SecretKey) -> Tunnel {
    let config = Config { device: "wharf1".to_owned(), mtu: MTU, key, port: PORT, kernel: Kernel::Never };
    namespace.inside(|| Tunnel::start(config)).unwrap()
}

/// Stops a tunnel; its port and its name are free afterwards.
pub(crate) fn stop(tunnel: Tunnel) {
    let _nobody_spawns = SPAWNING.write().unwrap();
    tunnel.stop();
}

/// Two namespaces that a cable connects, as 192.0.2.1 and 192.0.2.2.
pub(crate) fn connected() -> [Namespace; 2] {
    let pair = [Namespace::new(), Namespace::new()];
    run(&["ip", "-n", &pair[0].name, "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", &pair[1].name]);
    for (index, namespace) in pair.iter().enumerate() {
        let number = index + 1;
        namespace.run(&format!("ip address add 192.0.2.{number}/24 dev eth0"));
        namespace.run(&format!("ip address add 2001:db8::{number}/64 dev eth0 nodad"));
        namespace.run("ip link set eth0 up");
    }
    pair
}

/// Two nodes that know each other.
pub(crate) fn nodes() -> [Node; 2] {
    nodes_at(["192.0.2.1", "192.0.2.2"])
}

/// Two nodes that know each other by these addresses of the cable.
pub(crate) fn nodes_at(addresses: [&str; 2]) -> [Node; 2] {
    let [one, two] = connected();
    let [a, b] = addresses.map(|address| address.parse().unwrap());
    let nodes = [Node::start(one, a, 1), Node::start(two, b, 2)];
    nodes[0].tunnel.set_peers(vec![nodes[1].as_peer()]).unwrap();
    nodes[1].tunnel.set_peers(vec![nodes[0].as_peer()]).unwrap();
    nodes
}

/// Held while a program is being started: until it is, the new process has all descriptors of this one, and what is closed
/// here meanwhile (by another test) stays open there.
static SPAWNING: RwLock<()> = RwLock::new(());

/// Runs a program to its end.
fn output(command: &mut Command) -> Output {
    let child = {
        let _nothing_closes = SPAWNING.read().unwrap();
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    child.wait_with_output().unwrap()
}

fn run(words: &[&str]) {
    let output = output(Command::new(words[0]).args(&words[1..]));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
