//! The filter rules of a wish: which packets may cross between tunnel, bridges and host.
//!
//! | chain | decides |
//! |---|---|
//! | `WHARF-FORWARD` | sends fleet packets to the three chains below; all others cost five comparisons |
//! | `WHARF-FROM-TUNNEL` | what may come from another node to a container: only from the same network |
//! | `WHARF-TO-TUNNEL` | what may leave to another node: only from a container's own slice, to the same network |
//! | `WHARF-BRIDGES` | nothing passes between two fleet networks of the same node |
//! | `WHARF-INPUT` | tunnel packets only from nodes; DNS from containers; from the tunnel only answers and pings |
//! | `WHARF-PREROUTING` (nat) | ports that the node publishes are reached by containers as by others, through the engine's proxy |
//! | `WHARF-POSTROUTING` (nat) | egress gets the node's address, fleet traffic keeps its own |
//!
//! IPv6 has the same chains in tables of its own, while a network has such addresses. Where the engine has no rules of its own
//! (for IPv6 those before 27, for both those with nftables), `WHARF-FORWARD` also lets nobody in from outside.
//!
//! A rule's options stand in the order in which `iptables-save` prints them (`-s -d -i -o -p -m -j`), as the texts are
//! compared. A network's rules depend on no other network's, so their order among networks does not matter.

use ipnet::{IpNet, Ipv4Net};

use crate::wire::table::{Jump, Table, Wanted};
use crate::wire::wish::{BRIDGE_PREFIX, Family, Network, PLAIN_TUNNEL, SECURE_TUNNEL, Sound, Wish};

const FORWARD: &str = "WHARF-FORWARD";
const FROM_TUNNEL: &str = "WHARF-FROM-TUNNEL";
const TO_TUNNEL: &str = "WHARF-TO-TUNNEL";
const BRIDGES: &str = "WHARF-BRIDGES";
const INPUT: &str = "WHARF-INPUT";
const PREROUTING: &str = "WHARF-PREROUTING";
const POSTROUTING: &str = "WHARF-POSTROUTING";

/// What an engine with a proxy for published ports has in its own `nat` chain, for its default bridge first of all.
const PROXIED: (&str, &str) = ("DOCKER", "-i docker0 -j RETURN");

/// The chain that engines leave to their hosts' own rules, ahead of theirs.
pub(crate) const DOCKER_USER: &str = "DOCKER-USER";

/// Our chains, per table: what a cleanup removes.
pub(crate) const CHAINS: [(&str, &[&str]); 2] =
    [("filter", &[FORWARD, FROM_TUNNEL, TO_TUNNEL, BRIDGES, INPUT]), ("nat", &[PREROUTING, POSTROUTING])];

const TUNNELS: [&str; 2] = [PLAIN_TUNNEL, SECURE_TUNNEL];
const ANSWERS: &str = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";

/// The wanted state of a family's table `filter`, which looks as `present` now.
pub(crate) fn filter(family: Family, wish: &Wish, sound: &Sound<'_>, present: &Table) -> Wanted {
    let networks = || sound.networks.values().copied().filter(move |network| network.range_of(family).is_some());
    let drop = || std::iter::once("-j DROP".to_owned());
    // Engines that have no such chain keep nobody out of their bridges here: those that filter with nftables, and, of IPv6,
    // those before 27.
    let unguarded = !present.has(DOCKER_USER);
    let from_bridge = format!("-i {BRIDGE_PREFIX}+ {ANSWERS}");
    let to_bridge = format!("-o {BRIDGE_PREFIX}+ {ANSWERS}");
    let chains = vec![
        (FORWARD, forward().into_iter().chain(networks().filter(|_| unguarded).flat_map(guard)).collect()),
        (
            FROM_TUNNEL,
            std::iter::once(to_bridge).chain(networks().flat_map(|n| from_tunnel(family, n))).chain(drop()).collect(),
        ),
        (
            TO_TUNNEL,
            std::iter::once(from_bridge).chain(networks().flat_map(|n| to_tunnel(family, n))).chain(drop()).collect(),
        ),
        (BRIDGES, networks().flat_map(between_bridges).collect()),
        (INPUT, input(family, wish, sound)),
    ];
    // A chain that nothing leads to decides nothing: somebody has flushed FORWARD, and the engine puts its rules back only when
    // it starts.
    let forward_from = if present.leads("FORWARD", DOCKER_USER) { DOCKER_USER } else { "FORWARD" };
    let jumps = vec![Jump { from: forward_from, to: FORWARD }, Jump { from: "INPUT", to: INPUT }];
    Wanted { table: "filter", chains, jumps }
}

/// The wanted state of a family's table `nat`, which looks as `present` now.
pub(crate) fn nat(family: Family, sound: &Sound<'_>, present: &Table) -> Wanted {
    let outward = || {
        let networks = sound.networks.values().filter(|network| !network.internal);
        networks.filter_map(|network| Some((*network, network.range_of(family)?)))
    };
    // A published port of this node leads to another network's container, which only the proxy may reach from here. Engines
    // see to that for bridges that they masquerade; ours are masqueraded by us.
    let (chain, rule) = PROXIED;
    let proxied = present.chains.get(chain).is_some_and(|rules| rules.iter().any(|known| known == rule));
    let to_proxy =
        |(network, _): (&Network, IpNet)| format!("-i {} -m addrtype --dst-type LOCAL -j ACCEPT", network.bridge);
    let local: Vec<String> = outward().filter(|_| proxied).map(to_proxy).collect();
    // Accepted, not returned from: no rule of the host's after ours may masquerade it either.
    let mut rules: Vec<String> = TUNNELS.iter().map(|tunnel| format!("-o {tunnel} -j ACCEPT")).collect();
    rules.extend(outward().map(|(network, range)| {
        let bridge = &network.bridge;
        format!("-s {range} ! -d {range} ! -o {bridge} -j MASQUERADE")
    }));
    let jumps = vec![Jump { from: "PREROUTING", to: PREROUTING }, Jump { from: "POSTROUTING", to: POSTROUTING }];
    Wanted { table: "nat", chains: vec![(PREROUTING, local), (POSTROUTING, rules)], jumps }
}

fn forward() -> Vec<String> {
    let mut rules: Vec<String> = TUNNELS.iter().map(|tunnel| format!("-i {tunnel} -j {FROM_TUNNEL}")).collect();
    rules.extend(TUNNELS.iter().map(|tunnel| format!("-o {tunnel} -j {TO_TUNNEL}")));
    rules.push(format!("-i {BRIDGE_PREFIX}+ -o {BRIDGE_PREFIX}+ -j {BRIDGES}"));
    rules
}

/// What an engine's own rules see to elsewhere: only published ports are reached from outside, and from an internal network
/// nothing is.
fn guard(network: &Network) -> Vec<String> {
    let bridge = &network.bridge;
    let outward = network.internal.then(|| format!("-i {bridge} ! -o {bridge} -j DROP"));
    let inward = format!("! -i {bridge} -o {bridge} -m conntrack --ctstate NEW -m conntrack ! --ctstate DNAT -j DROP");
    outward.into_iter().chain([inward]).collect()
}

fn from_tunnel(family: Family, network: &Network) -> Vec<String> {
    let way = format!("-i {} -o {}", network.tunnel(), network.bridge);
    let own = || network.own.iter().filter(|own| family.has(own));
    let each_own = |source: IpNet| own().map(move |own| (source, *own));
    let accept = |(source, own): (IpNet, IpNet)| format!("-s {source} -d {own} {way} -j ACCEPT");
    let elsewhere = network.remote_inside_own().filter(|net| family.has(net));
    let mut rules: Vec<String> = elsewhere.flat_map(each_own).map(accept).collect();
    // Our own addresses as a source from outside are forged.
    rules.extend(own().map(|own| format!("-s {own} {way} -j DROP")));
    rules.extend(network.range_of(family).into_iter().flat_map(each_own).map(accept));
    rules
}

fn to_tunnel(family: Family, network: &Network) -> Vec<String> {
    let way = format!("-i {} -o {}", network.bridge, network.tunnel());
    let elsewhere = network.remote_inside_own().filter(|net| family.has(net));
    let mut rules: Vec<String> = elsewhere.map(|elsewhere| format!("-s {elsewhere} {way} -j DROP")).collect();
    let own = || network.own.iter().filter(|own| family.has(own));
    let range = network.range_of(family).into_iter();
    rules.extend(
        range
            .flat_map(|range| own().map(move |own| (own, range)))
            .map(|(own, range)| format!("-s {own} -d {range} {way} -j ACCEPT")),
    );
    rules
}

fn between_bridges(network: &Network) -> [String; 3] {
    let bridge = &network.bridge;
    // Bridged frames of one network pass here too, where the kernel filters those (br_netfilter).
    [format!("-i {bridge} -o {bridge} -j RETURN"), format!("-i {bridge} -j DROP"), format!("-o {bridge} -j DROP")]
}

fn input(family: Family, wish: &Wish, sound: &Sound<'_>) -> Vec<String> {
    let (mut rules, ping) = match family {
        Family::V4 => (services(wish, sound), "-p icmp -m icmp --icmp-type 8"),
        // Tunnels lead over IPv4, and names are asked for by it.
        Family::V6 => (Vec::new(), "-p ipv6-icmp -m icmp6 --icmpv6-type 128"),
    };
    for tunnel in TUNNELS {
        rules.push(format!("-i {tunnel} {ANSWERS}"));
        rules.push(format!("-i {tunnel} {ping} -j ACCEPT"));
        rules.push(format!("-i {tunnel} -j DROP"));
    }
    rules
}

/// What this host itself answers for.
fn services(wish: &Wish, sound: &Sound<'_>) -> Vec<String> {
    let vxlan = format!("-p udp -m udp --dport {}", wish.vxlan_port);
    let peers: Vec<Ipv4Net> = wish.peers.values().map(|peer| Ipv4Net::from(peer.underlay)).collect();
    let mut rules: Vec<String> =
        Ipv4Net::aggregate(&peers).iter().map(|nodes| format!("-s {nodes} {vxlan} -j ACCEPT")).collect();
    rules.push(format!("{vxlan} -j DROP"));
    rules.extend(wish.secure_port.map(|port| format!("-p udp -m udp --dport {port} -j ACCEPT")));
    let fleet = format!("{BRIDGE_PREFIX}+");
    for interface in std::iter::once(fleet.as_str()).chain(sound.dns_bridges.iter().copied()) {
        rules.extend(
            ["udp", "tcp"].map(|protocol| format!("-i {interface} -p {protocol} -m {protocol} --dport 53 -j ACCEPT")),
        );
    }
    rules
}
