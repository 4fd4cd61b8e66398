//! The peers, and how they are found: by key, by the number that they put in their packets, by address.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use boringtun::noise::Tunn;
use boringtun::noise::rate_limiter::RateLimiter;
use ipnet::IpNet;
use parking_lot::Mutex;
use prefix_trie::joint::JointPrefixMap;

use crate::config::Peer;
use crate::key::{PublicKey, SecretKey, random};

/// How many bits of a session's number in a packet are left to the session; the others say which peer's it is.
const SESSION_BITS: u32 = 8;

/// A peer, as long as it stays one.
pub(crate) struct Node {
    /// Who it is.
    pub(crate) key: PublicKey,
    /// Its sessions and where it is. Locked for the packets of one batch at a time.
    pub(crate) link: Mutex<Link>,
    number: u32,
}

/// The part of a peer that changes with its packets.
pub(crate) struct Link {
    /// Its sessions.
    pub(crate) tunn: Tunn,
    /// Whence its last authentic packet came, or where it is configured to be.
    pub(crate) endpoint: SocketAddr,
    /// What was configured: only when that changes does it count again.
    configured: SocketAddr,
}

/// All peers at one time. It is replaced as a whole, so that nobody sees half of a change.
#[derive(Default)]
pub(crate) struct Peers {
    by_key: BTreeMap<PublicKey, Arc<Node>>,
    by_number: HashMap<u32, Arc<Node>>,
    routes: JointPrefixMap<IpNet, Arc<Node>>,
}

impl Peers {
    /// The peers after a change to `wanted`, and those among them that are new. Who stays keeps its sessions.
    pub(crate) fn replaced(
        &self,
        wanted: &[Peer],
        secret: &SecretKey,
        limiter: &Arc<RateLimiter>,
    ) -> (Peers, Vec<Arc<Node>>) {
        let own = secret.public();
        let mut peers = Peers::default();
        let mut new = Vec::new();
        // Who is not to be sent to is no peer: a node's own entry in a list of all nodes does no harm.
        for peer in wanted.iter().filter(|peer| peer.key != own) {
            let known = self.by_key.get(&peer.key).or_else(|| peers.by_key.get(&peer.key));
            let node = match known {
                Some(node) => {
                    node.link.lock().configure(peer.endpoint);
                    Arc::clone(node)
                }
                None => {
                    let node = Arc::new(Node::new(peer, secret, self.free_number(&peers), limiter));
                    new.push(Arc::clone(&node));
                    node
                }
            };
            for prefix in &peer.allowed {
                peers.routes.insert(prefix.trunc(), Arc::clone(&node));
            }
            peers.by_number.insert(node.number, Arc::clone(&node));
            peers.by_key.insert(peer.key, node);
        }
        (peers, new)
    }

    /// A number that neither these nor `others` have; at random, so that a packet for a former peer's session is unlikely
    /// to reach the wrong one (where it would fail to decrypt).
    fn free_number(&self, others: &Peers) -> u32 {
        loop {
            let number = u32::from_ne_bytes(random()) >> SESSION_BITS;
            if !self.by_number.contains_key(&number) && !others.by_number.contains_key(&number) {
                return number;
            }
        }
    }

    /// Who has that key.
    pub(crate) fn by_key(&self, key: PublicKey) -> Option<&Arc<Node>> {
        self.by_key.get(&key)
    }

    /// Whose session a packet from the network is for.
    pub(crate) fn by_session(&self, session: u32) -> Option<&Arc<Node>> {
        self.by_number.get(&(session >> SESSION_BITS))
    }

    /// Who an address belongs to: the peer with the longest prefix that has it.
    pub(crate) fn by_address(&self, address: IpAddr) -> Option<&Arc<Node>> {
        self.routes.get_lpm(&IpNet::from(address)).map(|(_, node)| node)
    }

    /// All of them, by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.by_key.values()
    }
}

impl Node {
    fn new(peer: &Peer, secret: &SecretKey, number: u32, limiter: &Arc<RateLimiter>) -> Node {
        let limiter = Some(Arc::clone(limiter));
        let tunn = Tunn::new(secret.as_dalek().clone(), peer.key.to_dalek(), None, None, number, limiter);
        let link = Link { tunn, endpoint: peer.endpoint, configured: peer.endpoint };
        Node { key: peer.key, link: Mutex::new(link), number }
    }
}

impl Link {
    /// Takes note of a configured address, if it is another than before: else the peer may have moved since.
    fn configure(&mut self, endpoint: SocketAddr) {
        if self.configured != endpoint {
            self.configured = endpoint;
            self.endpoint = endpoint;
        }
    }
}

#[cfg(test)]
mod tests;
