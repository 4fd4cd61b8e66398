//! What the kernel offers and no safe library does: the TUN device's ioctls, the options of UDP's batching, and many
//! messages in one system call. Everything that is `unsafe` is here.
#![expect(unsafe_code, reason = "ioctl, setsockopt, sendmmsg and recvmmsg take pointers")]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::outbox::Message;

/// How many messages go or come in one system call at most.
pub(crate) const MESSAGES_PER_CALL: usize = 8;
/// Room for the one number that comes or goes beside a message, with its header.
const CONTROL_LENGTH: usize = 64;

/// The control data of one message, aligned as its header must be.
#[repr(align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_LENGTH]);

/// What came in one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    /// Who sent it.
    pub(crate) source: SocketAddr,
    /// How many bytes there are.
    pub(crate) length: usize,
    /// The length of each datagram in it; the last may be shorter.
    pub(crate) segment: usize,
}

/// Makes `tun` (an open `/dev/net/tun`) the device called `name`: packets without Ethernet headers, each after a header
/// that tells what is left to do for it.
pub(crate) fn attach_tun(tun: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid ifreq: it consists of integers and a union of such.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays zero.
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives until the call returns.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) }).map(drop)
}

/// Lets the kernel hand over packets of `tun` whose checksum is left undone, or that are to be cut: TCP, and UDP too where
/// the kernel can.
pub(crate) fn offload_tun(tun: BorrowedFd<'_>) -> io::Result<()> {
    // As in linux/if_tun.h.
    const CHECKSUM: libc::c_ulong = 0x01;
    const TCP4_AND_TCP6: libc::c_ulong = 0x02 | 0x04;
    // The kernel takes these two only together.
    const UDP4_AND_UDP6: libc::c_ulong = 0x20 | 0x40;
    let set = |offloads: libc::c_ulong| {
        // SAFETY: TUNSETOFFLOAD takes a number, no pointer.
        check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) }).map(drop)
    };
    set(CHECKSUM | TCP4_AND_TCP6 | UDP4_AND_UDP6).or_else(|_| set(CHECKSUM | TCP4_AND_TCP6))
}

/// Sets an option of a socket that is a number.
pub(crate) fn set_option(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    let length = mem::size_of::<i32>() as libc::socklen_t;
    // SAFETY: the pointer is to an i32 that lives until the call returns, and the length is that of an i32.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) }).map(drop)
}

/// Sends up to [`MESSAGES_PER_CALL`] messages that lie in `bytes`; returns how many were sent. An error is about the first.
/// `socket` must be of the family that all endpoints are of.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], messages: &[Message]) -> io::Result<usize> {
    let mut headers = [EMPTY_HEADER; MESSAGES_PER_CALL];
    let mut parts = [EMPTY_PART; MESSAGES_PER_CALL];
    let mut addresses = [MaybeUninit::<libc::sockaddr_storage>::zeroed(); MESSAGES_PER_CALL];
    let mut controls = [Control([0; CONTROL_LENGTH]); MESSAGES_PER_CALL];
    let count = messages.len().min(MESSAGES_PER_CALL);
    for (index, message) in messages[..count].iter().enumerate() {
        let part = &bytes[message.range.clone()];
        parts[index] = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
        let header = &mut headers[index].msg_hdr;
        header.msg_name = addresses[index].as_mut_ptr().cast();
        header.msg_namelen = write_address(&mut addresses[index], message.endpoint);
        header.msg_iov = &raw mut parts[index];
        header.msg_iovlen = 1;
        if part.len() > message.segment {
            header.msg_control = controls[index].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_LENGTH;
            let size = message.segment as u16;
            // SAFETY: the control buffer is aligned for a cmsghdr and longer than one with a u16; CMSG_FIRSTHDR and
            // CMSG_DATA point into it.
            unsafe {
                let control = libc::CMSG_FIRSTHDR(header);
                (*control).cmsg_level = libc::SOL_UDP;
                (*control).cmsg_type = libc::UDP_SEGMENT;
                (*control).cmsg_len = libc::CMSG_LEN(mem::size_of::<u16>() as u32) as _;
                libc::CMSG_DATA(control).cast::<u16>().write_unaligned(size);
                header.msg_controllen = libc::CMSG_SPACE(mem::size_of::<u16>() as u32) as _;
            }
        }
    }
    // SAFETY: every header points to an address, a part and (if any) control data that live until the call returns and are
    // as long as it says; sending does not write to them.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as u32, 0) };
    check(sent).map(|sent| sent as usize)
}

/// Receives what is there, up to [`MESSAGES_PER_CALL`] messages, without waiting: each into its own of equal pieces of
/// `buffer`. Returns how many `received` tells of.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    received: &mut [Received; MESSAGES_PER_CALL],
) -> io::Result<usize> {
    let mut headers = [EMPTY_HEADER; MESSAGES_PER_CALL];
    let mut parts = [EMPTY_PART; MESSAGES_PER_CALL];
    let mut addresses = [MaybeUninit::<libc::sockaddr_storage>::zeroed(); MESSAGES_PER_CALL];
    let mut controls = [Control([0; CONTROL_LENGTH]); MESSAGES_PER_CALL];
    let size = buffer.len() / MESSAGES_PER_CALL;
    for (index, piece) in buffer.chunks_exact_mut(size).take(MESSAGES_PER_CALL).enumerate() {
        parts[index] = libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: piece.len() };
        let header = &mut headers[index].msg_hdr;
        header.msg_name = addresses[index].as_mut_ptr().cast();
        header.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        header.msg_iov = &raw mut parts[index];
        header.msg_iovlen = 1;
        header.msg_control = controls[index].0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_LENGTH;
    }
    // SAFETY: every header points to an address, a part and control data that live until the call returns, that nothing
    // else refers to, and that are as long as it says; no timeout is given.
    let count = check(unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            MESSAGES_PER_CALL as u32,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
        )
    })? as usize;
    for index in 0..count {
        let header = &headers[index];
        let length = header.msg_len as usize;
        // SAFETY: the whole storage was zeroed, and zeros are a valid sockaddr_storage, so it is initialized whatever the
        // kernel wrote.
        let source = read_address(unsafe { addresses[index].assume_init_ref() });
        let segment = datagram_length(&header.msg_hdr).filter(|segment| *segment > 0).unwrap_or(length);
        // What is not of a family that is known here, cut off, or empty, is skipped as an empty message.
        let is_usable = source.is_some() && header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
        let source = source.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        received[index] = Received { source, length: if is_usable { length } else { 0 }, segment: segment.max(1) };
    }
    Ok(count)
}

/// The length of the datagrams that were joined to one message ([`libc::UDP_GRO`]); `None` if it is a single one.
fn datagram_length(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel filled the control buffer that the header points to, which is still alive; the macros stay within
    // the length that the kernel put into the header, and the data of this option is an int.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            if (*control).cmsg_level == libc::SOL_UDP && (*control).cmsg_type == libc::UDP_GRO {
                let length = libc::CMSG_DATA(control).cast::<libc::c_int>().read_unaligned();
                return usize::try_from(length).ok();
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}

/// Writes an address as the kernel wants it; returns its length.
fn write_address(storage: &mut MaybeUninit<libc::sockaddr_storage>, address: SocketAddr) -> libc::socklen_t {
    match address {
        SocketAddr::V4(address) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage is at least as large as, and aligned for, any address.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in>().write(raw) };
            mem::size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(address) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in6>().write(raw) };
            mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

/// Reads an address that the kernel wrote.
fn read_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let pointer: *const libc::sockaddr_storage = storage;
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is a sockaddr_in, which the storage is large enough and aligned for.
            let raw = unsafe { pointer.cast::<libc::sockaddr_in>().read() };
            let address = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::from((address, u16::from_be(raw.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is a sockaddr_in6, which the storage is large enough and aligned for.
            let raw = unsafe { pointer.cast::<libc::sockaddr_in6>().read() };
            let address = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            let port = u16::from_be(raw.sin6_port);
            Some(std::net::SocketAddrV6::new(address, port, raw.sin6_flowinfo, raw.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// What a call returned, or the error that it left in `errno`.
fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

const EMPTY_PART: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
// SAFETY: all-zero bytes are a valid mmsghdr: null pointers and zero lengths.
const EMPTY_HEADER: libc::mmsghdr = unsafe { mem::zeroed() };
