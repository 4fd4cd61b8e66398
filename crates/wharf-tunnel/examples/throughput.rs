//! How fast the tunnel is beside what the kernel does: `iperf3` over one cable between two network namespaces, plainly,
//! through VXLAN and through the tunnel by either IP, all in one run. It needs root, `ip` and `iperf3`.
//!
//! `cargo run --release --example throughput [SECONDS [ROUNDS]]`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it is a tool for the developer, whose output is its purpose"
)]

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wharf_tunnel::{Config, Kernel, Peer, SecretKey, Tunnel};

/// Clock ticks per second in `/proc` (`USER_HZ`, proc_pid_stat(5)).
const TICKS: f64 = 100.0;
const PORT: u16 = 51820;

/// The two namespaces; they are removed on drop.
struct Lab {
    names: [String; 2],
}

/// What one run of `iperf3` gave.
#[derive(Debug, Clone, Copy)]
struct Figures {
    gigabits: f64,
    processor_seconds_per_gigabyte: f64,
    resent: u64,
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u32>().unwrap());
    let seconds = arguments.next().unwrap_or(5);
    let rounds = arguments.next().unwrap_or(3);
    let lab = Lab::new();
    let _tunnels = lab.tunnels();
    let paths = [("plain", "192.0.2.2"), ("vxlan", "10.98.0.2"), ("tunnel", "10.99.0.2"), ("tunnel6", "fd99::2")];
    println!(
        "{:<8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>8}",
        "path", "streams", "Gbit/s", "of plain", "of vxlan", "CPU s/GB", "resent"
    );
    for streams in [1, 4] {
        let mut results = [const { Vec::new() }; 4];
        // Round after round, so that whatever else the machine does meets all alike.
        for _ in 0..rounds {
            for (results, (_, address)) in results.iter_mut().zip(paths) {
                results.push(lab.measure(address, seconds, streams));
            }
        }
        let medians = results.map(median);
        for ((name, _), figures) in paths.into_iter().zip(medians) {
            println!(
                "{name:<8} {streams:>8} {:>8.2} {:>9.2} {:>9.2} {:>9.2} {:>8}",
                figures.gigabits,
                figures.gigabits / medians[0].gigabits,
                figures.gigabits / medians[1].gigabits,
                figures.processor_seconds_per_gigabyte,
                figures.resent,
            );
        }
    }
}

fn median(mut results: Vec<Figures>) -> Figures {
    results.sort_by(|a, b| a.gigabits.total_cmp(&b.gigabits));
    results[results.len() / 2]
}

impl Lab {
    fn new() -> Lab {
        let names = ["a", "b"].map(|end| format!("whb-{}-{end}", std::process::id()));
        let lab = Lab { names };
        let [a, b] = &lab.names;
        for name in &lab.names {
            run(&format!("ip netns add {name}"));
        }
        run(&format!("ip -n {a} link add eth0 type veth peer eth0 netns {b}"));
        for (name, own, other) in [(a, 1, 2), (b, 2, 1)] {
            run(&format!("ip -n {name} link set lo up"));
            run(&format!("ip -n {name} address add 192.0.2.{own}/24 dev eth0"));
            run(&format!("ip -n {name} link set eth0 up"));
            run(&format!(
                "ip -n {name} link add vx0 mtu 1450 type vxlan id 7 local 192.0.2.{own} remote 192.0.2.{other} dstport 4789"
            ));
            run(&format!("ip -n {name} address add 10.98.0.{own}/24 dev vx0"));
            run(&format!("ip -n {name} link set vx0 up"));
        }
        lab
    }

    /// A tunnel in each namespace, both in this process.
    fn tunnels(&self) -> [Tunnel; 2] {
        let keys = [SecretKey::generate(), SecretKey::generate()];
        let publics = [keys[0].public(), keys[1].public()];
        let mut index = 0;
        let tunnels = keys.map(|key| {
            let name = &self.names[index];
            index += 1;
            let config = Config { device: "wharf1".to_owned(), mtu: 1420, key, port: PORT, kernel: Kernel::Never };
            let tunnel = inside(name, || Tunnel::start(config).unwrap());
            run(&format!("ip -n {name} address add 10.99.0.{index}/24 dev wharf1"));
            run(&format!("ip -n {name} address add fd99::{index}/64 dev wharf1 nodad"));
            tunnel
        });
        for (own, other) in [(0, 1), (1, 0)] {
            let number = other + 1;
            let prefixes = [format!("10.99.0.{number}/32"), format!("fd99::{number}/128")];
            let allowed = prefixes.map(|prefix| prefix.parse().unwrap()).to_vec();
            let endpoint = format!("192.0.2.{number}:{PORT}").parse().unwrap();
            tunnels[own].set_peers(vec![Peer { key: publics[other], endpoint, allowed }]).unwrap();
        }
        tunnels
    }

    fn measure(&self, address: &str, seconds: u32, streams: u32) -> Figures {
        let before = processor_seconds();
        let server = format!("ip netns exec {} iperf3 -s -1 -B {address}", self.names[1]);
        let mut server = Server(command(&server).stdout(Stdio::null()).spawn().unwrap());
        let client = format!("ip netns exec {} iperf3 -c {address} -t {seconds} -P {streams} -J", self.names[0]);
        // The server needs a moment until it listens, which cannot be waited for from outside.
        let report = (0..200).find_map(|_| {
            let output = command(&client).output().unwrap();
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            report["end"]["sum_received"]["bits_per_second"].is_number().then_some(report)
        });
        let report = report.expect("iperf3 measures");
        let received = &report["end"]["sum_received"];
        server.0.wait().unwrap();
        let bytes = received["bytes"].as_f64().unwrap();
        Figures {
            gigabits: received["bits_per_second"].as_f64().unwrap() / 1e9,
            resent: report["end"]["sum_sent"]["retransmits"].as_u64().unwrap_or_default(),
            processor_seconds_per_gigabyte: (processor_seconds() - before) / (bytes / 1e9),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            command(&format!("ip netns del {name}")).status().unwrap();
        }
    }
}

/// `iperf3` on the other side; it is ended on drop.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, unless something failed.
        self.0.kill().ok();
    }
}

/// The processor time that this process, with the tunnels' threads, and the ended `iperf3` processes took so far. The
/// kernel does most of its work for packets in the name of whoever sends, so that little is missing.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    // After the name, which may have spaces in it, come the third field and those that follow.
    let (_, fields) = text.rsplit_once(')').unwrap();
    let fields = fields.split_whitespace().skip(11).take(4);
    fields.map(|field| field.parse::<f64>().unwrap()).sum::<f64>() / TICKS
}

fn inside<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    });
    thread.join().unwrap()
}

fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

fn run(line: &str) {
    let status = command(line).status().unwrap();
    assert!(status.success(), "{line}");
}
