//! Performs steps on the kernel.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use futures_util::stream::{self, StreamExt};
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan, RouteMessageBuilder};
use rustix::io::Errno;

use crate::wire::host::write_setting;
use crate::wire::observe::{Link, links};
use crate::wire::problem::{Problem, Report, io_error};
use crate::wire::step::{Route, Stale, Step, Vxlan};
use crate::wire::wish::{PLAIN_TUNNEL, ROUTE_PROTOCOL, TUNNEL_VNI};

/// Requests under way at once: enough that the kernel never waits for us, few enough that its answers fit the socket.
const CONCURRENT_REQUESTS: usize = 32;

/// The prefix of link-local addresses (RFC 4291 §2.5.6).
const LINK_PREFIX: u8 = 64;

/// Performs steps one after the other, each knowing the devices that those before it made.
pub(crate) async fn in_order(handle: &Handle, steps: &[Step], report: &mut Report) {
    let mut tunnel_failed = false;
    for step in steps {
        // One problem says enough where the device could not be made.
        if tunnel_failed && concerns_plain_tunnel(step) {
            continue;
        }
        let result = match links(handle).await {
            Ok(links) => perform(handle, &links, step).await,
            Err(error) => Err(error),
        };
        tunnel_failed |= matches!(step, Step::AddTunnel(_)) && result.is_err();
        record(handle, step, result, report).await;
    }
}

fn concerns_plain_tunnel(step: &Step) -> bool {
    match step {
        Step::Setting { key, .. } => key.split('/').any(|part| part == PLAIN_TUNNEL),
        Step::AddAddress { device, .. } => device == PLAIN_TUNNEL,
        Step::BringUp { name } => name == PLAIN_TUNNEL,
        _ => false,
    }
}

/// Performs steps that do not build on each other but for one rule: what is set comes before what is removed.
pub(crate) async fn at_once(handle: &Handle, links: &BTreeMap<String, Link>, steps: &[Step], report: &mut Report) {
    let (removals, settings): (Vec<&Step>, Vec<&Step>) = steps.iter().partition(|step| is_removal(step));
    for group in [settings, removals] {
        let requests = group.into_iter().map(|step| async move { (step, perform(handle, links, step).await) });
        let mut results = stream::iter(requests).buffer_unordered(CONCURRENT_REQUESTS);
        while let Some((step, result)) = results.next().await {
            record(handle, step, result, report).await;
        }
    }
}

fn is_removal(step: &Step) -> bool {
    matches!(
        step,
        Step::RemoveRoute(_)
            | Step::RemoveNeighbour { .. }
            | Step::RemoveForwarding { .. }
            | Step::RemoveProxy { .. }
            | Step::RemoveLinkLocal { .. }
    )
}

async fn record(handle: &Handle, step: &Step, result: io::Result<()>, report: &mut Report) {
    match result {
        Ok(()) => report.done.push(step.to_string()),
        // What is gone already needs no removal: a device takes its entries with it.
        Err(error) if is_removal(step) && is_absence(&error) => {}
        // A bridge that has vanished meanwhile has no settings.
        Err(error) if matches!(step, Step::Setting { .. }) && is_absence(&error) => {}
        Err(error) => report.problems.push(explain(handle, step, error).await),
    }
}

fn is_absence(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::SRCH, Errno::NODEV].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Says what a refusal means where the error number alone does not.
async fn explain(handle: &Handle, step: &Step, source: io::Error) -> Problem {
    let refused_with = |errno: Errno| source.raw_os_error() == Some(errno.raw_os_error());
    let tunnel = match step {
        Step::AddTunnel(_) => true,
        Step::BringUp { name } => name == PLAIN_TUNNEL,
        _ => false,
    };
    if tunnel && refused_with(Errno::OPNOTSUPP) {
        return Problem::NoVxlan;
    }
    if tunnel && (refused_with(Errno::EXIST) || refused_with(Errno::ADDRINUSE)) {
        let links = links(handle).await.unwrap_or_default();
        let asked = if let Step::AddTunnel(vxlan) = step { Some(vxlan.port) } else { None };
        let made = || links.get(PLAIN_TUNNEL).and_then(|link| link.vxlan.as_ref()).map(|vxlan| vxlan.port);
        let port = asked.or_else(made).unwrap_or_default();
        let same_port = |link: &Link| link.vxlan.as_ref().is_some_and(|vxlan| vxlan.port == port);
        let other = links.iter().find(|(name, link)| *name != PLAIN_TUNNEL && same_port(link));
        let user = other.map_or_else(|| "another program".to_owned(), |(name, _)| format!("the VXLAN device {name}"));
        return Problem::PortInUse { port, user };
    }
    Problem::Refused { step: step.to_string(), source }
}

async fn perform(handle: &Handle, links: &BTreeMap<String, Link>, step: &Step) -> io::Result<()> {
    match step {
        Step::Setting { key, value } => write_setting(key, value),
        Step::AddTunnel(vxlan) => add_tunnel(handle, vxlan).await.map_err(io_error),
        Step::RemoveLink { name, .. } => handle.link().del(index_of(links, name)?).execute().await.map_err(io_error),
        Step::SetMtu { name, mtu } => {
            let change = LinkUnspec::new_with_index(index_of(links, name)?).mtu(*mtu).build();
            handle.link().change(change).execute().await.map_err(io_error)
        }
        Step::BringUp { name } => {
            let change = LinkUnspec::new_with_index(index_of(links, name)?).up().build();
            handle.link().change(change).execute().await.map_err(io_error)
        }
        Step::AddAddress { device, address } => {
            let index = index_of(links, device)?;
            let request = handle.address().add(index, IpAddr::V4(address.addr()), address.prefix_len());
            request.execute().await.map_err(io_error)
        }
        Step::RemoveAddress { device, address } => {
            remove_address(handle, index_of(links, device)?, (*address).into()).await
        }
        Step::AddLinkLocal { device, address } => {
            let mut request = handle.address().add(index_of(links, device)?, IpAddr::V6(*address), LINK_PREFIX);
            request.message_mut().header.flags = AddressHeaderFlags::Nodad;
            request.execute().await.map_err(io_error)
        }
        Step::RemoveLinkLocal { device, address } => {
            remove_address(handle, index_of(links, device)?, IpNet::new_assert(IpAddr::V6(*address), LINK_PREFIX)).await
        }
        Step::AddRoute(route) => {
            let message = route_message(route, index_of(links, &route.device)?)?;
            handle.route().add(message).execute().await.map_err(io_error)
        }
        Step::ReplaceRoute(route) => {
            let message = route_message(route, index_of(links, &route.device)?)?;
            handle.route().add(message).replace().execute().await.map_err(io_error)
        }
        Step::RemoveRoute(stale) => {
            let message = stale_message(stale)?;
            handle.route().del(message).execute().await.map_err(io_error)
        }
        Step::SetProxy { device, address } => {
            let request = handle.neighbours().add(index_of(links, device)?, IpAddr::V6(*address));
            request.flags(NeighbourFlags::Proxy).replace().execute().await.map_err(io_error)
        }
        Step::RemoveProxy { device, address } => {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Inet6;
            message.header.ifindex = index_of(links, device)?;
            message.header.flags = NeighbourFlags::Proxy;
            message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet6(*address)));
            handle.neighbours().del(message).execute().await.map_err(io_error)
        }
        Step::SetNeighbour { .. }
        | Step::RemoveNeighbour { .. }
        | Step::SetForwarding { .. }
        | Step::RemoveForwarding { .. } => {
            perform_peer(handle, index_of(links, PLAIN_TUNNEL)?, step).await.map_err(io_error)
        }
    }
}

fn index_of(links: &BTreeMap<String, Link>, name: &str) -> io::Result<u32> {
    links.get(name).map(|link| link.index).ok_or_else(|| io::Error::from(Errno::NODEV))
}

/// Makes the device, down: a port that is in use shows when it is brought up.
async fn add_tunnel(handle: &Handle, vxlan: &Vxlan) -> Result<(), rtnetlink::Error> {
    let message = LinkVxlan::new(PLAIN_TUNNEL, TUNNEL_VNI)
        .local(vxlan.local)
        .port(vxlan.port)
        .learning(false)
        .mtu(vxlan.mtu)
        .address(vxlan.mac.0.to_vec())
        .build();
    handle.link().add(message).execute().await
}

async fn remove_address(handle: &Handle, index: u32, address: IpNet) -> io::Result<()> {
    let mut message = netlink_packet_route::address::AddressMessage::default();
    message.header.family = if address.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = address.prefix_len();
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(address.addr()));
    handle.address().del(message).execute().await.map_err(io_error)
}

fn route_message(route: &Route, index: u32) -> io::Result<RouteMessage> {
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.addr(), route.to.prefix_len())
        .map_err(io::Error::other)?
        .output_interface(index)
        .protocol(RouteProtocol::from(ROUTE_PROTOCOL));
    builder = match route.via {
        // The next hop is on no subnet of the device: its permanent neighbour entry is what makes it reachable.
        Some(via) => builder.gateway(via).map_err(io::Error::other)?.onlink(),
        None => builder.scope(RouteScope::Link),
    };
    if let Some(source) = route.source {
        builder = builder.pref_source(source).map_err(io::Error::other)?;
    }
    Ok(builder.build())
}

fn stale_message(stale: &Stale) -> io::Result<RouteMessage> {
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(stale.to.addr(), stale.to.prefix_len())
        .map_err(io::Error::other)?
        .protocol(RouteProtocol::from(ROUTE_PROTOCOL))
        .priority(stale.metric)
        // The kernel takes this as "whatever its scope".
        .scope(RouteScope::NoWhere);
    // And an unspecified kind as "whatever its kind".
    builder = builder.kind(netlink_packet_route::route::RouteType::Unspec);
    if let Some(index) = stale.device {
        builder = builder.output_interface(index);
    }
    if let Some(via) = stale.via {
        builder = builder.gateway(via).map_err(io::Error::other)?;
    }
    Ok(builder.build())
}

async fn perform_peer(handle: &Handle, tunnel: u32, step: &Step) -> Result<(), rtnetlink::Error> {
    let neighbours = handle.neighbours();
    match step {
        Step::SetNeighbour { address, mac } => {
            let request = neighbours.add(tunnel, *address).link_layer_address(&mac.0);
            request.replace().execute().await
        }
        Step::SetForwarding { mac, to } => {
            let request = neighbours.add_bridge(tunnel, &mac.0).destination(IpAddr::V4(*to));
            // Without this flag the entry would go to the bridge that the device is a port of, or nowhere.
            request.flags(NeighbourFlags::Own).replace().execute().await
        }
        Step::RemoveNeighbour { address } => {
            let mut message = NeighbourMessage::default();
            let (family, address) = match address {
                IpAddr::V4(address) => (AddressFamily::Inet, NeighbourAddress::Inet(*address)),
                IpAddr::V6(address) => (AddressFamily::Inet6, NeighbourAddress::Inet6(*address)),
            };
            message.header.family = family;
            message.header.ifindex = tunnel;
            message.attributes.push(NeighbourAttribute::Destination(address));
            neighbours.del(message).execute().await
        }
        Step::RemoveForwarding { mac, to } => {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Bridge;
            message.header.ifindex = tunnel;
            message.header.state = NeighbourState::Permanent;
            message.header.flags = NeighbourFlags::Own;
            message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
            if let Some(to) = to {
                message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(*to)));
            }
            neighbours.del(message).execute().await
        }
        _ => Ok(()),
    }
}
