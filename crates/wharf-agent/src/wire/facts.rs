//! What a node tells the manager about itself, so that networks and tunnels can be laid out.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::SystemTime;

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteType};
use rtnetlink::{Handle, LinkVxlan, RouteMessageBuilder};
use rustix::io::Errno;

use crate::wire::host::Host;
use crate::wire::observe;
use crate::wire::problem::{Error, io_error};
use crate::wire::wish::{BRIDGE_PREFIX, PLAIN_TUNNEL, SECURE_TUNNEL};

/// A documentation address (RFC 5737): the way to it is the way to everywhere.
const ANYWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The device that a try whether VXLAN works makes and removes, down; no name of ours, so that no watcher minds it.
const PROBE_DEVICE: &str = "whprobe0";
/// The probe's network identifier: never on a wire, and not the tunnel's, which may exist.
const PROBE_VNI: u32 = 0xff_fffe;
/// systemd's stub resolver, which answers only on the host itself, and the file with the servers behind it.
const STUB_RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
const RESOLVER_FILE: &str = "/etc/resolv.conf";
const STUB_UPSTREAMS: &str = "/run/systemd/resolve/resolv.conf";

/// What this node is like.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// The address that it reaches the asked-for address from, and that other nodes send tunnel packets to.
    pub underlay: Ipv4Addr,
    /// The MTU of the interface with that address, in bytes.
    pub underlay_mtu: u32,
    /// That interface's name.
    pub interface: String,
    /// The host's routes and own networks, without default routes, loopback and what is ours: ranges to stay clear of.
    pub routes: Vec<IpNet>,
    /// The host's name servers, in its order.
    pub resolvers: Vec<IpAddr>,
    /// Whether this kernel makes VXLAN devices.
    pub vxlan: bool,
    /// Whether this process may open TUN devices.
    pub tun: bool,
    /// The host's clock.
    pub clock: SystemTime,
}

/// Finds out what this node is like, as seen on its way `towards` an address (a manager's, for instance).
///
/// Where that is a loopback or IPv6 address, the way to everywhere counts. Works in the calling thread's network
/// namespace.
///
/// # Errors
/// [`Error::NoUnderlay`] where no IPv4 route leads out; [`Error::Socket`], [`Error::Ask`].
pub async fn facts(host: &Host, towards: IpAddr) -> Result<Facts, Error> {
    host.verify()?;
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
    let connection = tokio::spawn(connection);
    let facts = ask(host, &handle, towards).await;
    connection.abort();
    facts
}

async fn ask(host: &Host, handle: &Handle, towards: IpAddr) -> Result<Facts, Error> {
    let target = match towards {
        IpAddr::V4(address) if !address.is_loopback() && !address.is_unspecified() => address,
        _ => ANYWHERE,
    };
    let mut way = way_to(handle, target).await?;
    // An address of this host itself is reached over the loopback device, from which no other node is.
    if way.is_none() && target != ANYWHERE {
        way = way_to(handle, ANYWHERE).await?;
    }
    let (underlay, index) = way.ok_or(Error::NoUnderlay)?;
    let links = observe::links(handle).await.map_err(|error| Error::Ask("the links", error))?;
    let (interface, link) = links.iter().find(|(_, link)| link.index == index).ok_or(Error::NoUnderlay)?;
    let ours = links.iter().filter(|(name, _)| is_ours(name)).map(|(_, link)| link.index).collect();
    let routes = routes(handle, &ours).await.map_err(|error| Error::Ask("the routes", error))?;
    Ok(Facts {
        underlay,
        underlay_mtu: link.mtu,
        interface: interface.clone(),
        routes,
        resolvers: resolvers(host),
        vxlan: links.get(PLAIN_TUNNEL).is_some_and(|link| link.vxlan.is_some()) || makes_vxlan(handle).await,
        tun: fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").is_ok(),
        clock: SystemTime::now(),
    })
}

fn is_ours(name: &str) -> bool {
    name.starts_with(BRIDGE_PREFIX) || [PLAIN_TUNNEL, SECURE_TUNNEL].contains(&name)
}

/// The source address and the device of the way to an address; `None` where none leads out of this host.
async fn way_to(handle: &Handle, target: Ipv4Addr) -> Result<Option<(Ipv4Addr, u32)>, Error> {
    let question = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(target, 32).build();
    let answer = match handle.route().get(question).execute().try_next().await {
        Ok(answer) => answer,
        Err(error) => {
            let error = io_error(error);
            let none = [Errno::NETUNREACH, Errno::HOSTUNREACH].map(|errno| Some(errno.raw_os_error()));
            return if none.contains(&error.raw_os_error()) { Ok(None) } else { Err(Error::Ask("the way out", error)) };
        }
    };
    let Some(answer) = answer.filter(|answer| answer.header.kind == RouteType::Unicast) else { return Ok(None) };
    let (mut source, mut device) = (None, None);
    for attribute in answer.attributes {
        match attribute {
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(address),
            RouteAttribute::Oif(index) => device = Some(index),
            _ => {}
        }
    }
    Ok(source.zip(device))
}

async fn routes(handle: &Handle, ours: &BTreeSet<u32>) -> io::Result<Vec<IpNet>> {
    let mut nets = BTreeSet::new();
    for route in observe::routes(handle).await? {
        let foreign = !route.ours && route.device.is_none_or(|device| !ours.contains(&device));
        if foreign && route.to.prefix_len() > 0 && is_of_hosts(&route.to) {
            nets.insert(route.to.trunc());
        }
    }
    for (index, address) in observe::all_addresses(handle).await? {
        if !ours.contains(&index) && is_of_hosts(&address) {
            nets.insert(address.trunc());
        }
    }
    Ok(nets.into_iter().collect())
}

/// Whether a range is of hosts, and not what every host has for itself: loopback, and one link's addresses.
fn is_of_hosts(net: &IpNet) -> bool {
    let address = net.addr();
    let of_link = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local() || address.is_multicast());
    !address.is_loopback() && !of_link
}

/// The host's name servers. An unreadable file names none: the host then has no working names either.
fn resolvers(host: &Host) -> Vec<IpAddr> {
    let read = |path: &str| fs::read_to_string(host.path(path)).ok().map(|text| name_servers(&text));
    let link = fs::read_link(host.path(RESOLVER_FILE)).ok().filter(|target| target.is_absolute());
    // An absolute link means a file of the host, which we would follow to one of our own.
    let file = link.as_deref().and_then(Path::to_str).unwrap_or(RESOLVER_FILE);
    let servers = read(file).unwrap_or_default();
    if !servers.contains(&STUB_RESOLVER) {
        return servers;
    }
    read(STUB_UPSTREAMS).filter(|upstreams| !upstreams.is_empty()).unwrap_or(servers)
}

/// The servers of a `resolv.conf` (resolv.conf(5)); an address with a zone (`fe80::1%eth0`) counts without it.
fn name_servers(text: &str) -> Vec<IpAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then_some(words.next()?)
    });
    addresses.filter_map(|word| word.split('%').next()?.parse().ok()).collect()
}

/// Tries: only the kernel knows, as a module may be there, built in, or loadable on demand.
async fn makes_vxlan(handle: &Handle) -> bool {
    let probe = LinkVxlan::new(PROBE_DEVICE, PROBE_VNI).local(Ipv4Addr::LOCALHOST).learning(false).build();
    let made = handle.link().add(probe).execute().await.map_err(io_error);
    let there = match &made {
        Ok(()) => true,
        // Left over from a try that was cut short, or made by one at the same time.
        Err(error) => error.raw_os_error() == Some(Errno::EXIST.raw_os_error()),
    };
    if let Ok(links) = observe::links(handle).await
        && let Some(link) = links.get(PROBE_DEVICE)
    {
        // Another caller may have removed it by now, which is as good.
        drop(handle.link().del(link.index).execute().await);
    }
    there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_in_their_order() {
        let text = "# comment\nsearch example.org\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\noptions edns0\n";
        let expected: Vec<IpAddr> = vec!["192.0.2.53".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(name_servers(text), expected);
    }

    #[test]
    fn the_stub_resolver_is_replaced_by_its_upstreams() {
        let folder = std::env::temp_dir().join(format!("wire-resolvers-{}", std::process::id()));
        fs::create_dir_all(folder.join("etc")).unwrap();
        fs::create_dir_all(folder.join("run/systemd/resolve")).unwrap();
        fs::write(folder.join("etc/resolv.conf"), "nameserver 127.0.0.53\n").unwrap();
        fs::write(folder.join("run/systemd/resolve/resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
        let found = resolvers(&Host { root: Some(folder.clone()) });
        fs::remove_dir_all(folder).unwrap();
        assert_eq!(found, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    }
}
