//! A bad link: it loses, delays and repeats datagrams, the same ones each time.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::lab::Node;

/// How often the thread looks whether it is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The link between two nodes, on the first one's machine; each takes it for the other. It ends on drop.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    thread: Option<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
}

impl Relay {
    pub(crate) fn start(nodes: &[Node; 2]) -> Relay {
        let [a, b] = [0, 1].map(|index| nodes[index].as_peer().endpoint);
        let socket = nodes[0].namespace.inside(move || UdpSocket::bind((a.ip(), 0)).unwrap());
        socket.set_read_timeout(Some(LOOK_INTERVAL)).unwrap();
        let address = socket.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || relay(&socket, [a, b], &is_over)
        });
        Relay { address, thread: Some(thread), is_over }
    }
}

fn relay(socket: &UdpSocket, [a, b]: [SocketAddr; 2], is_over: &AtomicBool) {
    let mut buffer = vec![0; 65536];
    let mut held: Option<(Vec<u8>, SocketAddr)> = None;
    let mut count = 0u32;
    while !is_over.load(Ordering::Relaxed) {
        let Ok((length, source)) = socket.recv_from(&mut buffer) else { continue };
        let target = if source == a { b } else { a };
        let datagram = &buffer[..length];
        count += 1;
        match count % 100 {
            33 => continue,
            50 => drop(socket.send_to(datagram, target)),
            60 | 80 if held.is_none() => {
                held = Some((datagram.to_vec(), target));
                continue;
            }
            _ => {}
        }
        socket.send_to(datagram, target).ok();
        if let Some((datagram, target)) = held.take() {
            socket.send_to(&datagram, target).ok();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}
