//! Addresses of our own on loopback, clients that ask from them, and name servers that answer as told.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU8, AtomicUsize},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};

use super::*;
use crate::names::testing::{container, endpoint, network};

pub(super) const PORT: u16 = 10_053;
pub(super) const UPSTREAM_PORT: u16 = 10_054;

/// How long a test waits for what has to come.
pub(super) const BOUND: Duration = Duration::from_secs(20);

/// 253 addresses that no other test has: host 1 is the container that asks, 2 the container `web`, 254 the server.
pub(super) struct Place {
    block: [u8; 2],
    pub(super) table: Arc<Table>,
}

impl Place {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let process = u8::try_from(std::process::id() % 200 + 20).unwrap();
        let place = Self { block: [process, NEXT.fetch_add(1, Ordering::Relaxed)], table: Arc::default() };
        place.table.put_network(network("blue", "127.0.0.0/8"));
        place.put('1', "client", &[place.address(1)], &[]);
        place.put('2', "web", &[place.address(2)], &[]);
        place
    }

    pub(super) fn address(&self, host: u8) -> IpAddr {
        IpAddr::from([127, self.block[0], self.block[1], host])
    }

    pub(super) fn put(&self, digit: char, name: &str, addresses: &[IpAddr], aliases: &[&str]) {
        let mut container = container(digit, name, vec![endpoint("blue", &[], aliases)]);
        if digit.is_ascii_alphabetic() {
            container.id = format!("{digit}-{name:->62}").into();
        }
        container.endpoints[0].addresses = addresses.to_vec();
        self.table.put_container(container, Instant::now());
    }

    /// A container whose user gave name servers.
    pub(super) fn put_with_upstreams(&self, digit: char, host: u8, upstreams: &[IpAddr]) {
        let mut container = container(digit, &format!("own-{host}"), vec![endpoint("blue", &[], &[])]);
        container.endpoints[0].addresses = vec![self.address(host)];
        container.upstreams = upstreams.to_vec();
        self.table.put_container(container, Instant::now());
    }

    pub(super) fn server(&self, upstreams: &[IpAddr]) -> Server {
        let server = Server::start(self.table.clone(), Config { port: PORT, upstream_port: UPSTREAM_PORT });
        server.listen_on([self.address(254)].into());
        server.set_upstreams(upstreams.to_vec());
        assert_eq!(server.problems(), BTreeMap::new());
        server
    }

    pub(super) fn client(&self, host: u8) -> Client {
        let socket = std::net::UdpSocket::bind((self.address(host), 0)).unwrap();
        socket.connect((self.address(254), PORT)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let source = self.address(host);
        Client { socket: UdpSocket::from_std(socket).unwrap(), source, server: (self.address(254), PORT).into() }
    }
}

/// Asks from one address.
pub(super) struct Client {
    socket: UdpSocket,
    source: IpAddr,
    server: SocketAddr,
}

impl Client {
    pub(super) async fn send(&self, bytes: &[u8]) {
        self.socket.send(bytes).await.unwrap();
    }

    pub(super) async fn receive(&self) -> Message {
        let mut buffer = vec![0; 65536];
        let length = timeout(BOUND, self.socket.recv(&mut buffer)).await.unwrap().unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }

    pub(super) async fn udp(&self, bytes: &[u8]) -> Message {
        self.send(bytes).await;
        self.receive().await
    }

    pub(super) async fn connect(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((self.source, 0).into()).unwrap();
        timeout(BOUND, socket.connect(self.server)).await.unwrap().unwrap()
    }

    pub(super) async fn tcp(&self, name: &str, wanted: RecordType) -> Message {
        let mut stream = self.connect().await;
        tcp_exchange(&mut stream, &question(7, name, wanted, None)).await.unwrap()
    }
}

/// Asks on a connection; nothing if it is closed.
pub(super) async fn tcp_exchange(stream: &mut TcpStream, question: &[u8]) -> Option<Message> {
    let mut framed = u16::try_from(question.len()).unwrap().to_be_bytes().to_vec();
    framed.extend_from_slice(question);
    stream.write_all(&framed).await.ok()?;
    let length = timeout(BOUND, stream.read_u16()).await.unwrap().ok()?;
    let mut bytes = vec![0; length.into()];
    timeout(BOUND, stream.read_exact(&mut bytes)).await.unwrap().ok()?;
    Some(Message::from_vec(&bytes).unwrap())
}

/// A name server outside.
pub(super) struct Upstream {
    pub(super) address: IpAddr,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    pub(super) fn answering(
        address: IpAddr,
        respond: impl Fn(&[u8], Transport) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self::answering_all(address, move |asked, transport| respond(asked, transport).into_iter().collect())
    }

    /// One that sends several datagrams, or none.
    pub(super) fn answering_all(
        address: IpAddr,
        respond: impl Fn(&[u8], Transport) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let (respond, asked) = (Arc::new(respond), Arc::new(AtomicUsize::new(0)));
        let socket = std::net::UdpSocket::bind((address, UPSTREAM_PORT)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = UdpSocket::from_std(socket).unwrap();
        let listener = std::net::TcpListener::bind((address, UPSTREAM_PORT)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let mut tasks = JoinSet::new();
        let (by_udp, count) = (respond.clone(), asked.clone());
        tasks.spawn(async move {
            let mut buffer = vec![0; 65536];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                for answer in by_udp(&buffer[..length], Transport::Udp) {
                    socket.send_to(&answer, peer).await.unwrap();
                }
            }
        });
        let count = asked.clone();
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let length = stream.read_u16().await.unwrap();
                let mut bytes = vec![0; length.into()];
                stream.read_exact(&mut bytes).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                for answer in respond(&bytes, Transport::Tcp) {
                    stream.write_all(&crate::names::upstream::framed(&answer)).await.unwrap();
                }
            }
        });
        Self { address, asked, _tasks: tasks }
    }

    /// How often it was asked.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}
