//! Network devices by rtnetlink (rtnetlink(7)), one request and its answer at a time. The socket belongs to the network
//! namespace that it was opened in, whichever thread uses it later.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::error::Error;

/// A netlink socket.
pub(crate) struct Connection {
    socket: Socket,
    sequence: u32,
}

/// The devices of a network namespace.
pub(crate) struct Links(Connection);

/// A device.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    name: String,
    index: u32,
    /// What made it: "wireguard", "tun"; `None` for one of hardware.
    pub(crate) kind: Option<String>,
}

/// What a device is set to when it is brought up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// In bytes.
    pub(crate) mtu: u32,
}

// === impl Connection ===

impl Connection {
    /// Opens a socket to the part of the kernel called `protocol` in the current network namespace.
    pub(crate) fn open(protocol: isize) -> io::Result<Connection> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Connection { socket, sequence: 0 })
    }

    /// Sends a request with `flags` besides `NLM_F_REQUEST`, and returns what is answered, up to the end or the error.
    pub(crate) fn request<M>(&mut self, message: impl Into<NetlinkPayload<M>>, flags: u16) -> io::Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::new(Default::default(), message.into());
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        self.answer()
    }

    fn answer<M: NetlinkDeserializable>(&mut self) -> io::Result<Vec<M>> {
        let mut answers = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<M>::deserialize(rest).map_err(io::Error::other)?;
                // Messages are padded to four bytes.
                let length = (message.header.length as usize).next_multiple_of(4).clamp(4, rest.len().max(4));
                rest = rest.get(length..).unwrap_or_default();
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
        }
    }
}

// === impl Links ===

impl Links {
    /// Opens a socket in the current network namespace.
    pub(crate) fn open() -> io::Result<Links> {
        Connection::open(NETLINK_ROUTE).map(Links)
    }

    /// The device of that name.
    pub(crate) fn find(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let request = RouteNetlinkMessage::GetLink(named(name));
        match self.0.request(request, NLM_F_ACK) {
            Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(message) => Some(Link::read(name, &message)),
                _ => None,
            })),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(Error::device("look up", name)(error)),
        }
    }

    /// Makes a device of the kernel's WireGuard. The error is the kernel's: `EOPNOTSUPP` if it has none.
    pub(crate) fn create_wireguard(&mut self, name: &str) -> io::Result<()> {
        let mut message = named(name);
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Wireguard)]));
        let request = RouteNetlinkMessage::NewLink(message);
        self.0.request(request, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Sets a device up.
    pub(crate) fn bring_up(&mut self, link: &Link, settings: Settings) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.push(LinkAttribute::Mtu(settings.mtu));
        let request = RouteNetlinkMessage::SetLink(message);
        self.0.request(request, NLM_F_ACK).map(drop).map_err(Error::device("bring up", &link.name))
    }

    /// Removes a device.
    pub(crate) fn remove(&mut self, link: &Link) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        let request = RouteNetlinkMessage::DelLink(message);
        self.0.request(request, NLM_F_ACK).map(drop).map_err(Error::device("remove", &link.name))
    }
}

impl Link {
    fn read(name: &str, message: &LinkMessage) -> Link {
        let info = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(info) => Some(info),
            _ => None,
        });
        let kind = info.and_then(|info| {
            info.iter().find_map(|info| match info {
                LinkInfo::Kind(kind) => Some(kind.to_string()),
                _ => None,
            })
        });
        Link { name: name.to_owned(), index: message.header.index, kind }
    }
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}
