//! The TUN device: what the kernel routes into the tunnel is read from it, what comes out of the tunnel is written to it.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::Error;
use crate::netlink::{Links, Settings};
use crate::sys;

/// The device; it is gone as soon as this is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct Tun {
    file: File,
}

impl Tun {
    /// Makes the device called `name` in the current network namespace and brings it up. One that the kernel's WireGuard
    /// left behind is replaced.
    pub(crate) fn create(name: &str, mtu: u32) -> Result<Tun, Error> {
        let mut links = Links::open().map_err(Error::device("ask the kernel about", name))?;
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open("/dev/net/tun");
        let file = file.map_err(Error::device("open /dev/net/tun for", name))?;
        match sys::attach_tun(file.as_fd(), name) {
            // A device of another kind has the name.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                let left = links.find(name)?.filter(|link| link.kind.as_deref() == Some("wireguard"));
                let left = left.ok_or_else(|| Error::Taken { device: name.to_owned() })?;
                links.remove(&left)?;
                sys::attach_tun(file.as_fd(), name).map_err(Error::device("create", name))?;
            }
            // A process has it.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => {
                return Err(Error::Taken { device: name.to_owned() });
            }
            attached => attached.map_err(Error::device("create", name))?,
        }
        sys::offload_tun(file.as_fd()).map_err(Error::device("set the offloads of", name))?;
        let link = links.find(name)?.ok_or_else(|| Error::Taken { device: name.to_owned() })?;
        links.bring_up(&link, Settings { mtu })?;
        Ok(Tun { file })
    }

    /// Reads one packet with its header; `WouldBlock` if there is none.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Writes one packet, header first, from its parts.
    pub(crate) fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        (&self.file).write_vectored(parts).map(drop)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
