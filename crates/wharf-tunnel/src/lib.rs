//! The encrypted tunnel between the nodes of a fleet.
//!
//! It speaks WireGuard (<https://www.wireguard.com/papers/wireguard.pdf>) and so to any other WireGuard. Where the
//! kernel has WireGuard, the tunnel is a device of the kernel. Elsewhere this process carries it itself over a TUN
//! device: the kernel hands over TCP data in pieces of up to 64 KiB, which are cut into packets here, encrypted and sent
//! in batches ([`UDP_SEGMENT`]); the other side receives in batches, decrypts, and joins the packets of a flow again
//! before the kernel sees them. The fewer crossings between kernel and process there are per byte, the faster it is.
//!
//! Inside the tunnel are IPv4 and IPv6, as far as [`Peer::allowed`] has addresses of them, and the underlay may be either.
//!
//! [`UDP_SEGMENT`]: https://www.man7.org/linux/man-pages/man7/udp.7.html

mod checksum;
mod coalesce;
mod config;
mod error;
mod ip;
mod kernel;
mod key;
mod netlink;
mod outbox;
mod peers;
mod segment;
mod sys;
mod tun;
mod tunnel;
mod underlay;
mod userspace;
mod vnet;

pub use config::{Config, Kernel, Peer, PeerStatus};
pub use error::Error;
pub use key::{KeyError, PublicKey, SecretKey};
pub use tunnel::Tunnel;
