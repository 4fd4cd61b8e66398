//! A ping of our own, as the program is not on every machine.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket};
use tokio::time::Instant;

use crate::lab::in_namespace;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(400);
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
const IP_HEADER: usize = 20;

/// Whether a ping from one namespace is answered.
pub(crate) fn ping(from: &str, address: Ipv4Addr) -> bool {
    Pinger::new(from, address).ask(1)
}

/// A raw socket in some namespace that pings one address.
pub(crate) struct Pinger {
    socket: OwnedFd,
    address: Ipv4Addr,
}

impl Pinger {
    pub(crate) fn new(from: &str, address: Ipv4Addr) -> Self {
        let open = || socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).unwrap();
        Self { socket: in_namespace(from, open), address }
    }

    /// Sends one request (RFC 792) and waits for its answer, or until patience ends.
    pub(crate) fn ask(&self, sequence: u16) -> bool {
        let [high, low] = sequence.to_be_bytes();
        let mut request = [ECHO_REQUEST, 0, 0, 0, 0x57, 0x48, high, low];
        let checksum = checksum(&request).to_be_bytes();
        request[2..4].copy_from_slice(&checksum);
        if sendto(&self.socket, &request, SendFlags::empty(), &SocketAddrV4::new(self.address, 0)).is_err() {
            return false;
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut polled = [PollFd::new(&self.socket, PollFlags::IN)];
            if poll(&mut polled, Some(&left.try_into().unwrap())).unwrap() == 0 {
                return false;
            }
            let mut packet = [0_u8; 256];
            let (length, _) = recv(&self.socket, &mut packet[..], RecvFlags::empty()).unwrap();
            let answer = packet[..length].get(IP_HEADER..).unwrap_or_default();
            // A raw socket sees all of the namespace's ICMP.
            if answer.first() == Some(&ECHO_REPLY) && answer.get(4..8) == Some(&request[4..8]) {
                return true;
            }
        }
    }
}

/// The Internet checksum (RFC 1071) of an even number of octets.
fn checksum(octets: &[u8]) -> u16 {
    let words = octets.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from(folded & 0xffff).unwrap()
}
