//! Watches for bridges and tunnels of ours that come, go, or change between up and down.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::mpsc;

use crate::wire::observe;
use crate::wire::problem::Error;
use crate::wire::wish::{BRIDGE_PREFIX, PLAIN_TUNNEL, SECURE_TUNNEL};

/// Events that wait for a reader: a reader that is behind by more needs only one of them to look at everything.
const EVENT_QUEUE: usize = 64;

/// One change of a device of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkEvent {
    /// The device's name; empty where the kernel's messages were lost and any device may have changed.
    pub name: String,
    /// What became of it.
    pub change: LinkChange,
}

/// What became of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkChange {
    /// It was not there before, or is another one of the same name.
    Appeared,
    /// It went up or down.
    Switched,
    /// It is gone.
    Vanished,
    /// Messages were lost: look at everything.
    Unknown,
}

/// The devices of ours that are known, by index, with whether each is up.
type Known = BTreeMap<u32, (String, bool)>;

pub(crate) async fn links(handle: &Handle) -> Result<mpsc::Receiver<LinkEvent>, Error> {
    let (connection, subscription, mut messages) =
        rtnetlink::new_multicast_connection(&[MulticastGroup::Link]).map_err(Error::Socket)?;
    let connection = tokio::spawn(connection);
    // Read after the subscription began: what changes in between is seen twice rather than never.
    let present = observe::links(handle).await.map_err(|error| Error::Ask("the links", error))?;
    let ours = present.into_iter().filter(|(name, _)| is_ours(name));
    let mut known: Known = ours.map(|(name, link)| (link.index, (name, link.up))).collect();
    let (sender, receiver) = mpsc::channel(EVENT_QUEUE);
    tokio::spawn(async move {
        // Held for its life: the connection ends when nobody can ask it anything any more.
        let _subscription = subscription;
        loop {
            let message = tokio::select! {
                message = messages.next() => message,
                () = sender.closed() => None,
            };
            let Some((message, _)) = message else { break };
            let Some(event) = event_of(message, &mut known) else { continue };
            // A full queue needs no further event; a closed one ends the loop at its next turn.
            drop(sender.try_send(event));
        }
        connection.abort();
    });
    Ok(receiver)
}

fn is_ours(name: &str) -> bool {
    name.starts_with(BRIDGE_PREFIX) || [PLAIN_TUNNEL, SECURE_TUNNEL].contains(&name)
}

fn event_of(message: NetlinkMessage<RouteNetlinkMessage>, known: &mut Known) -> Option<LinkEvent> {
    match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => appeared(&link, known),
        // A port that leaves a bridge is told with the same message, in the bridge's family.
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link))
            if link.header.interface_family != AddressFamily::Bridge =>
        {
            let (name, _) = known.remove(&link.header.index)?;
            Some(LinkEvent { name, change: LinkChange::Vanished })
        }
        NetlinkPayload::Overrun(_) => Some(LinkEvent { name: String::new(), change: LinkChange::Unknown }),
        _ => None,
    }
}

fn appeared(link: &LinkMessage, known: &mut Known) -> Option<LinkEvent> {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    if !is_ours(&name) {
        // It may have been ours before it got another name.
        let (name, _) = known.remove(&link.header.index)?;
        return Some(LinkEvent { name, change: LinkChange::Vanished });
    }
    let up = link.header.flags.contains(LinkFlags::Up);
    let before = known.insert(link.header.index, (name.clone(), up));
    let change = match before {
        Some((old, was_up)) if old == name && was_up == up => return None,
        Some((old, _)) if old == name => LinkChange::Switched,
        _ => LinkChange::Appeared,
    };
    Some(LinkEvent { name, change })
}
