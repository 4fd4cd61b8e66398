//! The kernel's own WireGuard, spoken to by its generic netlink family (linux/wireguard.h).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd,
    WireguardMessage, WireguardPeer, WireguardPeerAttribute, WireguardPeerFlags,
};
use netlink_sys::protocols::NETLINK_GENERIC;
use parking_lot::Mutex;

use crate::config::{Config, Peer, PeerStatus};
use crate::error::Error;
use crate::key::PublicKey;
use crate::netlink::{Connection, Link, Links, Settings};

/// How many prefixes go in one message. One is 28 bytes (IPv4) or 40 (IPv6), and all peers of a message are one
/// attribute, which can have 64 KiB.
const PREFIXES_PER_MESSAGE: usize = 1000;

/// A WireGuard device of the kernel; dropping it removes the device.
pub(crate) struct Device {
    name: String,
    link: Link,
    state: Mutex<State>,
}

struct State {
    links: Links,
    wireguard: Family,
    /// What the kernel was told; of peers that an earlier process left only the key is known.
    peers: BTreeMap<PublicKey, Option<Peer>>,
}

/// The generic netlink family "wireguard".
struct Family {
    connection: Connection,
    id: u16,
}

impl Device {
    /// Makes and configures the device, or takes over the one that an earlier process left, with its sessions. `None` if
    /// the kernel has no WireGuard.
    pub(crate) fn start(config: &Config) -> Result<Option<Device>, Error> {
        let name = &config.device;
        let mut links = Links::open().map_err(Error::device("ask the kernel about", name))?;
        match links.create_wireguard(name) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(error) => return Err(Error::device("create", name)(error)),
        }
        let link = links.find(name)?.filter(|link| link.kind.as_deref() == Some("wireguard"));
        let link = link.ok_or_else(|| Error::Taken { device: name.to_owned() })?;
        let mut wireguard = Family::open().map_err(Error::device("configure", name))?;
        let attributes =
            vec![WireguardAttribute::PrivateKey(config.key.to_bytes()), WireguardAttribute::ListenPort(config.port)];
        wireguard.set(name, attributes).map_err(Error::device("configure", name))?;
        let left = wireguard.get(name).map_err(Error::device("read", name))?;
        let peers = left.into_iter().map(|peer| (peer.key, None)).collect();
        links.bring_up(&link, Settings { mtu: config.mtu })?;
        let state = Mutex::new(State { links, wireguard, peers });
        Ok(Some(Device { name: name.clone(), link, state }))
    }

    /// Tells the kernel what changed.
    pub(crate) fn set_peers(&self, peers: Vec<Peer>) -> Result<(), Error> {
        let mut state = self.state.lock();
        let wanted: BTreeMap<_, _> = peers.into_iter().map(|peer| (peer.key, Some(peer))).collect();
        let messages = changes(&state.peers, &wanted);
        for peers in messages {
            let set = state.wireguard.set(&self.name, vec![WireguardAttribute::Peers(peers)]);
            if let Err(error) = set {
                // What was told is not known any more, so that all of it is told again.
                state.peers.values_mut().for_each(|peer| *peer = None);
                state.peers.extend(wanted.into_keys().map(|key| (key, None)));
                return Err(Error::device("set the peers of", &self.name)(error));
            }
        }
        state.peers = wanted;
        Ok(())
    }

    /// What the kernel tells of the peers, by key.
    pub(crate) fn status(&self) -> Result<Vec<PeerStatus>, Error> {
        let peers = self.state.lock().wireguard.get(&self.name);
        peers.map_err(Error::device("read", &self.name))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Err(error) = self.state.get_mut().links.remove(&self.link) {
            tracing::warn!(%error, "a device of the kernel's WireGuard stays behind");
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("name", &self.name).finish_non_exhaustive()
    }
}

// === impl Family ===

impl Family {
    fn open() -> io::Result<Family> {
        let mut connection = Connection::open(NETLINK_GENERIC)?;
        let name = GenlCtrlAttrs::FamilyName("wireguard".to_owned());
        let request = GenlMessage::from_payload(GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![name] });
        let answers: Vec<GenlMessage<GenlCtrl>> = connection.request(request, NLM_F_ACK)?;
        let id = answers.iter().flat_map(|answer| &answer.payload.nlas).find_map(|attribute| match attribute {
            GenlCtrlAttrs::FamilyId(id) => Some(*id),
            _ => None,
        });
        let id = id.ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        Ok(Family { connection, id })
    }

    fn set(&mut self, device: &str, attributes: Vec<WireguardAttribute>) -> io::Result<()> {
        self.request(device, WireguardCmd::SetDevice, attributes, NLM_F_ACK).map(drop)
    }

    fn get(&mut self, device: &str) -> io::Result<Vec<PeerStatus>> {
        let answers = self.request(device, WireguardCmd::GetDevice, Vec::new(), NLM_F_DUMP)?;
        Ok(statuses(answers.iter().map(|answer| &answer.payload), SystemTime::now()))
    }

    fn request(
        &mut self,
        device: &str,
        command: WireguardCmd,
        mut attributes: Vec<WireguardAttribute>,
        flags: u16,
    ) -> io::Result<Vec<GenlMessage<WireguardMessage>>> {
        attributes.insert(0, WireguardAttribute::IfName(device.to_owned()));
        let mut message = GenlMessage::from_payload(WireguardMessage { cmd: command, attributes });
        message.set_resolved_family_id(self.id);
        self.connection.request(message, flags)
    }
}

// === what is said and heard ===

/// What turns the peers `known` into those `wanted`, one list for each message.
fn changes(
    known: &BTreeMap<PublicKey, Option<Peer>>,
    wanted: &BTreeMap<PublicKey, Option<Peer>>,
) -> Vec<Vec<WireguardPeer>> {
    let removed = known.keys().filter(|key| !wanted.contains_key(key)).map(|key| {
        let flags = WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe);
        WireguardPeer(vec![WireguardPeerAttribute::PublicKey(key.to_bytes()), flags])
    });
    let mut entries: Vec<(usize, WireguardPeer)> = removed.map(|entry| (1, entry)).collect();
    for peer in wanted.values().flatten() {
        let before = known.get(&peer.key).and_then(Option::as_ref);
        if before == Some(peer) {
            continue;
        }
        // The endpoint is told only when it changes: the peer may have moved since.
        let endpoint = before.is_none_or(|before| before.endpoint != peer.endpoint).then_some(peer.endpoint);
        entries.extend(described(peer, endpoint));
    }
    let mut messages: Vec<Vec<WireguardPeer>> = Vec::new();
    let mut room = 0;
    for (size, entry) in entries {
        match messages.last_mut() {
            Some(message) if size <= room => message.push(entry),
            _ => {
                messages.push(vec![entry]);
                room = PREFIXES_PER_MESSAGE;
            }
        }
        room = room.saturating_sub(size);
    }
    messages
}

/// A peer as the kernel is told of it, in several entries if it has many prefixes, each with its size in prefixes.
fn described(peer: &Peer, endpoint: Option<SocketAddr>) -> Vec<(usize, WireguardPeer)> {
    /// What keys, flags and endpoint take, as a number of prefixes.
    const HEAD: usize = 4;
    let key = WireguardPeerAttribute::PublicKey(peer.key.to_bytes());
    let mut head = vec![key.clone(), WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps)];
    head.extend(endpoint.map(WireguardPeerAttribute::Endpoint));
    let mut entries = vec![(HEAD, WireguardPeer(head))];
    for prefixes in peer.allowed.chunks(PREFIXES_PER_MESSAGE - HEAD) {
        let prefixes_and_key =
            vec![key.clone(), WireguardPeerAttribute::AllowedIps(prefixes.iter().map(allowed).collect())];
        entries.push((prefixes.len() + HEAD, WireguardPeer(prefixes_and_key)));
    }
    entries
}

fn allowed(prefix: &IpNet) -> WireguardAllowedIp {
    let family = match prefix {
        IpNet::V4(_) => WireguardAddressFamily::Ipv4,
        IpNet::V6(_) => WireguardAddressFamily::Ipv6,
    };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(prefix.network()),
        WireguardAllowedIpAttr::Cidr(prefix.prefix_len()),
    ])
}

/// Reads the peers out of the parts of an answer. A peer with many prefixes comes in several parts, of which only the first
/// has more than them.
fn statuses<'a>(answers: impl Iterator<Item = &'a WireguardMessage>, now: SystemTime) -> Vec<PeerStatus> {
    let mut statuses = BTreeMap::new();
    let lists = answers.flat_map(|answer| &answer.attributes).filter_map(|attribute| match attribute {
        WireguardAttribute::Peers(peers) => Some(peers),
        _ => None,
    });
    for peer in lists.flatten() {
        let key = peer.iter().find_map(|attribute| match attribute {
            WireguardPeerAttribute::PublicKey(key) => Some(PublicKey::from_bytes(*key)),
            _ => None,
        });
        let Some(key) = key else { continue };
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let unknown = PeerStatus { key, endpoint: nowhere, last_handshake: None, sent: 0, received: 0 };
        let status = statuses.entry(key).or_insert(unknown);
        for attribute in peer.iter() {
            match attribute {
                WireguardPeerAttribute::Endpoint(endpoint) => status.endpoint = *endpoint,
                WireguardPeerAttribute::RxBytes(bytes) => status.received = *bytes,
                WireguardPeerAttribute::TxBytes(bytes) => status.sent = *bytes,
                // The time is zero before the first one.
                WireguardPeerAttribute::LastHandshake(time) if time.seconds > 0 => {
                    let since_epoch = Duration::from_secs(time.seconds.unsigned_abs());
                    status.last_handshake = now.duration_since(SystemTime::UNIX_EPOCH + since_epoch).ok();
                }
                _ => {}
            }
        }
    }
    statuses.into_values().collect()
}

#[cfg(test)]
mod tests;
