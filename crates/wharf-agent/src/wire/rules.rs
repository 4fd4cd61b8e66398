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
//! A rule's options stand in the order in which `iptables-save` prints them (`-s -d -i -o -p -m -j`), as the texts are
//! compared. A network's rules depend on no other network's, so their order among networks does not matter.

use ipnet::Ipv4Net;

use crate::wire::table::{Jump, Table, Wanted};
use crate::wire::wish::{BRIDGE_PREFIX, Network, PLAIN_TUNNEL, SECURE_TUNNEL, Sound, Wish};

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

/// The wanted state of the table `filter`, which looks as `present` now.
pub(crate) fn filter(wish: &Wish, sound: &Sound<'_>, present: &Table) -> Wanted {
    let networks = || sound.networks.values();
    let drop = || std::iter::once("-j DROP".to_owned());
    let from_bridge = format!("-i {BRIDGE_PREFIX}+ {ANSWERS}");
    let to_bridge = format!("-o {BRIDGE_PREFIX}+ {ANSWERS}");
    let chains = vec![
        (FORWARD, forward()),
        (
            FROM_TUNNEL,
            std::iter::once(to_bridge).chain(networks().flat_map(|n| from_tunnel(n))).chain(drop()).collect(),
        ),
        (TO_TUNNEL, std::iter::once(from_bridge).chain(networks().flat_map(|n| to_tunnel(n))).chain(drop()).collect()),
        (BRIDGES, networks().flat_map(|n| between_bridges(n)).collect()),
        (INPUT, input(wish, sound)),
    ];
    // A chain that nothing leads to decides nothing: somebody has flushed FORWARD, and the engine puts its rules back only when
    // it starts.
    let forward_from = if present.leads("FORWARD", DOCKER_USER) { DOCKER_USER } else { "FORWARD" };
    let jumps = vec![Jump { from: forward_from, to: FORWARD }, Jump { from: "INPUT", to: INPUT }];
    Wanted { table: "filter", chains, jumps }
}

/// The wanted state of the table `nat`, which looks as `present` now.
pub(crate) fn nat(sound: &Sound<'_>, present: &Table) -> Wanted {
    let outward = || sound.networks.values().filter(|network| !network.internal);
    // A published port of this node leads to another network's container, which only the proxy may reach from here. Engines
    // see to that for bridges that they masquerade; ours are masqueraded by us.
    let (chain, rule) = PROXIED;
    let proxied = present.chains.get(chain).is_some_and(|rules| rules.iter().any(|known| known == rule));
    let to_proxy = |network: &&Network| format!("-i {} -m addrtype --dst-type LOCAL -j ACCEPT", network.bridge);
    let local: Vec<String> = outward().filter(|_| proxied).map(to_proxy).collect();
    // Accepted, not returned from: no rule of the host's after ours may masquerade it either.
    let mut rules: Vec<String> = TUNNELS.iter().map(|tunnel| format!("-o {tunnel} -j ACCEPT")).collect();
    rules.extend(outward().map(|network| {
        let (range, bridge) = (network.range, &network.bridge);
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

fn from_tunnel(network: &Network) -> Vec<String> {
    let way = format!("-i {} -o {}", network.tunnel(), network.bridge);
    let each_own = |source: Ipv4Net| network.own.iter().map(move |own| (source, *own));
    let accept = |(source, own): (Ipv4Net, Ipv4Net)| format!("-s {source} -d {own} {way} -j ACCEPT");
    let mut rules: Vec<String> = network.remote_inside_own().flat_map(each_own).map(accept).collect();
    // Our own addresses as a source from outside are forged.
    rules.extend(network.own.iter().map(|own| format!("-s {own} {way} -j DROP")));
    rules.extend(each_own(network.range).map(accept));
    rules
}

fn to_tunnel(network: &Network) -> Vec<String> {
    let way = format!("-i {} -o {}", network.bridge, network.tunnel());
    let mut rules: Vec<String> =
        network.remote_inside_own().map(|elsewhere| format!("-s {elsewhere} {way} -j DROP")).collect();
    rules.extend(network.own.iter().map(|own| format!("-s {own} -d {} {way} -j ACCEPT", network.range)));
    rules
}

fn between_bridges(network: &Network) -> [String; 3] {
    let bridge = &network.bridge;
    // Bridged frames of one network pass here too, where the kernel filters those (br_netfilter).
    [format!("-i {bridge} -o {bridge} -j RETURN"), format!("-i {bridge} -j DROP"), format!("-o {bridge} -j DROP")]
}

fn input(wish: &Wish, sound: &Sound<'_>) -> Vec<String> {
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
    for tunnel in TUNNELS {
        rules.push(format!("-i {tunnel} {ANSWERS}"));
        rules.push(format!("-i {tunnel} -p icmp -m icmp --icmp-type 8 -j ACCEPT"));
        rules.push(format!("-i {tunnel} -j DROP"));
    }
    rules
}
