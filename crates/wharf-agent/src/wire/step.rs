//! The single changes that lead from the kernel as it is to the kernel as wished.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A route as we set it: in the main table, with the kernel's usual metric and our protocol number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: IpNet,
    pub(crate) device: String,
    /// The next hop, taken as on-link; `None` where the device alone says where to.
    pub(crate) via: Option<IpAddr>,
    /// The address that the host itself uses as source along this route.
    pub(crate) source: Option<IpAddr>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {}", self.to)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        write!(f, " dev {}", self.device)
    }
}

/// A route of ours as the kernel has it, with what it takes to name it in a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stale {
    pub(crate) to: IpNet,
    pub(crate) device: Option<u32>,
    pub(crate) via: Option<IpAddr>,
    pub(crate) metric: u32,
}

/// The VXLAN device as wished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vxlan {
    pub(crate) port: u16,
    pub(crate) local: Ipv4Addr,
    pub(crate) mtu: u32,
    pub(crate) mac: Mac,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    RemoveLink { name: String, why: String },
    AddTunnel(Vxlan),
    SetMtu { name: String, mtu: u32 },
    BringUp { name: String },
    AddAddress { device: String, address: Ipv4Net },
    RemoveAddress { device: String, address: Ipv4Net },
    AddLinkLocal { device: String, address: Ipv6Addr },
    RemoveLinkLocal { device: String, address: Ipv6Addr },
    Setting { key: String, value: String },
    SetNeighbour { address: IpAddr, mac: Mac },
    RemoveNeighbour { address: IpAddr },
    SetProxy { device: String, address: Ipv6Addr },
    RemoveProxy { device: String, address: Ipv6Addr },
    SetForwarding { mac: Mac, to: Ipv4Addr },
    RemoveForwarding { mac: Mac, to: Option<Ipv4Addr> },
    AddRoute(Route),
    ReplaceRoute(Route),
    RemoveRoute(Stale),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoveLink { name, why } => write!(f, "remove device {name} ({why})"),
            Self::AddTunnel(vxlan) => write!(f, "add VXLAN device wharf0 on {} port {}", vxlan.local, vxlan.port),
            Self::SetMtu { name, mtu } => write!(f, "set the MTU of {name} to {mtu}"),
            Self::BringUp { name } => write!(f, "bring {name} up"),
            Self::AddAddress { device, address } => write!(f, "add address {address} to {device}"),
            Self::RemoveAddress { device, address } => write!(f, "remove address {address} from {device}"),
            Self::AddLinkLocal { device, address } => write!(f, "add address {address} to {device}"),
            Self::RemoveLinkLocal { device, address } => write!(f, "remove address {address} from {device}"),
            Self::Setting { key, value } => write!(f, "set {key} to {value}"),
            Self::SetNeighbour { address, mac } => write!(f, "set neighbour {address} at {mac}"),
            Self::RemoveNeighbour { address } => write!(f, "remove neighbour {address}"),
            Self::SetProxy { device, address } => write!(f, "have {device} answer for {address}"),
            Self::RemoveProxy { device, address } => write!(f, "have {device} answer for {address} no more"),
            Self::SetForwarding { mac, to } => write!(f, "set forwarding of {mac} to {to}"),
            Self::RemoveForwarding { mac, to: Some(to) } => write!(f, "remove forwarding of {mac} to {to}"),
            Self::RemoveForwarding { mac, to: None } => write!(f, "remove forwarding of {mac}"),
            Self::AddRoute(route) => write!(f, "add {route}"),
            Self::ReplaceRoute(route) => write!(f, "replace {route}"),
            Self::RemoveRoute(stale) => write!(f, "remove route {}", stale.to),
        }
    }
}
