//! Network namespaces that stand for nodes, containers and strangers, and an emulation of what an engine sets up.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wharf_agent::wire::{Host, Network, Peer, Report, Wire, Wish};
use wharf_model::Pairing;

/// How long a packet that is to be dropped is waited for.
const PATIENCE: Duration = Duration::from_millis(400);
/// The port that the emulated services listen on.
const SERVICE_PORT: u16 = 8000;
/// The tunnel's port in all tests.
pub(crate) const VXLAN_PORT: u16 = 4790;

static LABS: AtomicU32 = AtomicU32::new(0);

/// A set of namespaces that vanish with it.
pub(crate) struct Lab {
    prefix: String,
    namespaces: Mutex<Vec<String>>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in self.namespaces.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
            // A namespace that is gone already is as good.
            drop(Command::new("ip").args(["netns", "del", name]).output());
        }
    }
}

impl Lab {
    /// A lab with an underlay that nodes can be joined to.
    pub(crate) fn new() -> Self {
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let lab = Self { prefix: format!("wire{}-{number}", std::process::id()), namespaces: Mutex::default() };
        let underlay = lab.namespace("u");
        shell(&underlay, "ip link add br0 type bridge; ip link set br0 up");
        lab
    }

    /// Makes an empty namespace.
    pub(crate) fn namespace(&self, suffix: &str) -> String {
        let name = format!("{}-{suffix}", self.prefix);
        // Noted before it is made, so that a failure in between leaves nothing.
        self.namespaces.lock().unwrap().push(name.clone());
        run(Command::new("ip").args(["netns", "add", &name]));
        shell(&name, "ip link set lo up");
        name
    }

    /// Joins a namespace to the underlay as 172.31.0.NUMBER.
    pub(crate) fn join_underlay(&self, name: &str, number: u8) {
        let underlay = format!("{}-u", self.prefix);
        let script =
            format!("ip link add p{number} type veth peer name eth0 netns {name}; ip link set p{number} master br0 up");
        shell(&underlay, &script);
        shell(name, &format!("ip addr add 172.31.0.{number}/24 dev eth0; ip link set eth0 up"));
    }

    /// Makes a node: on the underlay, forwarding, with the chains of an engine.
    pub(crate) fn node(&self, number: u8) -> Node {
        let name = self.namespace(&format!("n{number}"));
        self.join_underlay(&name, number);
        shell(
            &name,
            "echo 1 > /proc/sys/net/ipv4/ip_forward
             iptables -P FORWARD DROP
             iptables -N DOCKER-USER
             iptables -A DOCKER-USER -j RETURN
             iptables -A FORWARD -j DOCKER-USER
             iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
        );
        Node { name, number }
    }

    /// Makes a container on some networks of a node; the first network gives it its default route.
    pub(crate) fn container(&self, node: &Node, suffix: &str, places: &[(&Net, Ipv4Addr)]) -> String {
        let name = self.namespace(suffix);
        for (index, (net, address)) in places.iter().enumerate() {
            let port = format!("v{suffix}{index}");
            shell(
                &node.name,
                &format!(
                    "ip link add {port} type veth peer name eth{index} netns {name}
                     ip link set {port} master {} up",
                    net.bridge
                ),
            );
            let length = net.range.prefix_len();
            shell(&name, &format!("ip addr add {address}/{length} dev eth{index}; ip link set eth{index} up"));
            if index == 0 && !net.internal {
                shell(&name, &format!("ip route add default via {}", net.gateway(node)));
            }
            if let Some(range6) = net.range6 {
                let length = range6.prefix_len();
                shell(&name, &format!("ip addr add {}/{length} dev eth{index} nodad", net.pair(*address)));
                if index == 0 && !net.internal {
                    shell(&name, &format!("ip -6 route add default via {}", net.pair(net.gateway(node))));
                }
            }
        }
        name
    }
}

/// A node: a namespace with an address on the underlay and one on the tunnels.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) number: u8,
}

impl Node {
    pub(crate) fn underlay(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 31, 0, self.number)
    }

    pub(crate) fn tunnel(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 255, 0, self.number)
    }

    /// What an engine sets up for `docker network create --subnet RANGE --ip-range SLICE --gateway GATEWAY`.
    pub(crate) fn engine_creates(&self, net: &Net) {
        let Net { bridge, range, internal, .. } = net;
        let gateway = net.gateway(self);
        let length = range.prefix_len();
        let mut script = format!(
            "ip link add {bridge} type bridge
             ip addr add {gateway}/{length} dev {bridge}
             ip link set {bridge} up
             iptables -A FORWARD -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
             iptables -A FORWARD -i {bridge} -o {bridge} -j ACCEPT\n"
        );
        script += &if *internal {
            format!(
                "iptables -I FORWARD 2 ! -d {range} -i {bridge} -j DROP
                 iptables -I FORWARD 2 ! -s {range} -o {bridge} -j DROP"
            )
        } else {
            format!("iptables -A FORWARD -i {bridge} ! -o {bridge} -j ACCEPT")
        };
        shell(&self.name, &script);
        // As engines before 27: no rules for IPv6 at all.
        if let Some(range6) = net.range6 {
            let (gateway, length) = (net.pair(gateway), range6.prefix_len());
            let script = format!(
                "ip addr add {gateway}/{length} dev {bridge} nodad
                 echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
            );
            shell(&self.name, &script);
        }
    }
}

/// A fleet network of a test: 10.192+INDEX.0.0/16, with the slice 10.X.NODE.0/25 on each node.
#[derive(Debug, Clone)]
pub(crate) struct Net {
    pub(crate) id: String,
    pub(crate) bridge: String,
    pub(crate) range: Ipv4Net,
    /// fd00:INDEX::/64, in pairs with the others.
    pub(crate) range6: Option<Ipv6Net>,
    pub(crate) internal: bool,
}

impl Net {
    pub(crate) fn new(index: u8) -> Self {
        Self {
            id: format!("net{index}"),
            bridge: format!("wh-net{index}"),
            range: format!("10.{}.0.0/16", 192 + index).parse().unwrap(),
            range6: None,
            internal: false,
        }
    }

    /// One that has IPv6 addresses, too.
    pub(crate) fn dual(index: u8) -> Self {
        Self { range6: Some(format!("fd00:{index}::/64").parse().unwrap()), ..Self::new(index) }
    }

    /// The IPv6 address that goes with another.
    pub(crate) fn pair(&self, address: Ipv4Addr) -> Ipv6Addr {
        Pairing::new(self.range, self.range6.unwrap()).unwrap().six(address)
    }

    /// A node's slice, of both families.
    fn slices(&self, node: &Node) -> Vec<IpNet> {
        let slice = self.slice(node);
        let six = self.range6.and_then(|range6| Some(Pairing::new(self.range, range6)?.six_block(slice)));
        [Some(IpNet::from(slice)), six.map(IpNet::from)].into_iter().flatten().collect()
    }

    pub(crate) fn slice(&self, node: &Node) -> Ipv4Net {
        Ipv4Net::new(self.address(node, 0), 25).unwrap()
    }

    pub(crate) fn gateway(&self, node: &Node) -> Ipv4Addr {
        self.address(node, 1)
    }

    /// The HOSTth address of a node's slice.
    pub(crate) fn address(&self, node: &Node, host: u8) -> Ipv4Addr {
        let [a, b, ..] = self.range.addr().octets();
        Ipv4Addr::new(a, b, node.number, host)
    }
}

/// The wish of one of some nodes that all have some networks.
pub(crate) fn wish(node: &Node, nodes: &[Node], nets: &[Net]) -> Wish {
    let others = || nodes.iter().filter(|other| other.number != node.number);
    let peer = |other: &Node| Peer { tunnel_address: other.tunnel(), underlay: other.underlay() };
    let network = |net: &Net| Network {
        bridge: net.bridge.clone(),
        range: net.range,
        range6: net.range6,
        internal: net.internal,
        encrypted: false,
        own: net.slices(node),
        remote: others()
            .flat_map(|other| net.slices(other).into_iter().map(|slice| (slice, u32::from(other.number))))
            .collect(),
        // Where tests have containers.
        neighbours: others()
            .filter(|_| net.range6.is_some())
            .flat_map(|other| [10, 20].map(|host| net.pair(net.address(other, host))))
            .collect(),
    };
    Wish {
        tunnel_address: node.tunnel(),
        underlay: node.underlay(),
        mtu: 1370,
        vxlan_port: VXLAN_PORT,
        secure_port: Some(4791),
        peers: others().map(|other| (u32::from(other.number), peer(other))).collect::<BTreeMap<_, _>>(),
        networks: nets.iter().map(|net| (net.id.clone(), network(net))).collect(),
        dns_bridges: ["docker0".to_owned()].into(),
    }
}

/// Nodes that all have some networks, converged.
pub(crate) fn fleet(lab: &Lab, count: u8, nets: &[Net]) -> Vec<Node> {
    let nodes: Vec<Node> = (1..=count).map(|number| lab.node(number)).collect();
    for node in &nodes {
        for net in nets {
            node.engine_creates(net);
        }
        let report = converge(node, &wish(node, &nodes, nets));
        assert!(report.problems.is_empty() && report.waiting.is_empty(), "{report:?}");
    }
    nodes
}

/// Runs a future in a namespace, on a thread and a runtime of its own.
pub(crate) fn within<T: Send>(namespace: &str, work: impl AsyncFnOnce() -> T + Send) -> T {
    in_namespace(namespace, || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work())
    })
}

/// Runs a function on a thread of its own that is in a namespace; sockets that it makes stay there.
pub(crate) fn in_namespace<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        let file = File::open(format!("/run/netns/{namespace}")).unwrap();
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
}

/// Converges a node once, as a process that has just started does.
pub(crate) fn converge(node: &Node, wish: &Wish) -> Report {
    within(&node.name, async || Wire::new(Host::default()).unwrap().converge(wish).await)
}

/// The differences between a node's kernel and a wish.
pub(crate) fn check(node: &Node, wish: &Wish) -> Vec<String> {
    within(&node.name, async || Wire::new(Host::default()).unwrap().check(wish).await)
}

/// Has each of some scripts damage a node's kernel, which has to be seen and mended; `works` tries it after each.
pub(crate) fn heals(node: &Node, wish: &Wish, damages: &[&str], works: impl Fn() -> bool) {
    for damage in damages {
        shell(&node.name, damage);
        assert!(!check(node, wish).is_empty(), "{damage}");
        let report = converge(node, wish);
        assert!(report.problems.is_empty() && report.changes() > 0, "{damage}: {report:?}");
        assert_eq!(check(node, wish), Vec::<String>::new(), "{damage}");
        assert!(works(), "{damage}");
    }
}

/// Sends a line over TCP from one namespace to a listener in another; gives the source address that the listener saw,
/// and `None` where no connection came about.
pub(crate) fn tcp(from: &str, to: &str, address: Ipv4Addr) -> Option<Ipv4Addr> {
    tcp_from(from, Ipv4Addr::UNSPECIFIED, to, address)
}

/// As [`tcp`], from a given source address.
pub(crate) fn tcp_from(from: &str, source: Ipv4Addr, to: &str, address: Ipv4Addr) -> Option<Ipv4Addr> {
    match talk(from, source.into(), to, address.into())? {
        IpAddr::V4(peer) => Some(peer),
        IpAddr::V6(_) => None,
    }
}

/// As [`tcp`], over IPv6; from a given source address, if there is one.
pub(crate) fn tcp6(from: &str, source: Option<Ipv6Addr>, to: &str, address: Ipv6Addr) -> Option<Ipv6Addr> {
    match talk(from, source.unwrap_or(Ipv6Addr::UNSPECIFIED).into(), to, address.into())? {
        IpAddr::V4(_) => None,
        IpAddr::V6(peer) => Some(peer),
    }
}

fn talk(from: &str, source: IpAddr, to: &str, address: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let listener = in_namespace(to, || TcpListener::bind((any, SERVICE_PORT)).unwrap());
    listener.set_nonblocking(true).unwrap();
    let mut client = in_namespace(from, || connect(source, SocketAddr::new(address, SERVICE_PORT)))?;
    // The listener's side of a connection exists once the client's does, or very soon after.
    let (mut server, peer) = accept(&listener)?;
    client.write_all(b"hello").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut line = [0; 5];
    server.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"hello");
    Some(peer.ip())
}

fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    let mut poll = [rustix::event::PollFd::new(listener, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut poll, Some(&PATIENCE.try_into().unwrap())).unwrap();
    let (stream, peer) = listener.accept().ok()?;
    stream.set_nonblocking(false).unwrap();
    Some((stream, peer))
}

fn connect(source: IpAddr, target: SocketAddr) -> Option<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = match target {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4().unwrap(),
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6().unwrap(),
        };
        socket.bind(SocketAddr::new(source, 0)).unwrap();
        let stream = tokio::time::timeout(PATIENCE, socket.connect(target)).await.ok()?.ok()?;
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        Some(stream)
    })
}

/// Runs a script in a namespace and gives what it prints; any failing line fails the test.
pub(crate) fn shell(namespace: &str, script: &str) -> String {
    run(Command::new("ip").args(["netns", "exec", namespace, "sh", "-e", "-c", script]))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} (as root?): {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All that a node's kernel has, as its own tools print it, without counters and states that come and go.
pub(crate) fn picture(node: &Node) -> String {
    let script = "ip -d link | sed 's/[a-z_]*timer *[0-9.]*//g'; ip -4 addr; ip -4 route show table all; ip -6 route show proto 87
        ip -4 neigh show nud permanent; ip -6 neigh show nud permanent dev wharf0 2>/dev/null || true; ip -6 neigh show proxy; bridge fdb
        for f in /proc/sys/net/ipv4/conf/*/proxy_arp /proc/sys/net/ipv4/neigh/*/proxy_delay; do echo $f $(cat $f); done
        for f in /proc/sys/net/ipv6/conf/*/proxy_ndp /proc/sys/net/ipv6/neigh/*/proxy_delay; do echo $f $(cat $f); done
        iptables-save | sed 's/\\[.*\\]//; /^#/d'; ip6tables-save | sed 's/\\[.*\\]//; /^#/d'";
    shell(&node.name, script)
}
