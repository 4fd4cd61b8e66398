//! Fleet networks while what carries them is killed, cut off and meddled with.

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use anyhow::{Context, ensure};

use crate::{
    fleet::{Container, Fleet, wait},
    kernel::{Wish, engine, shell},
    traffic::Traffic,
};

/// What others have done to a kernel is put right within half a minute; the rest is for the machine.
const HEALED_WITHIN: Duration = Duration::from_secs(40);

/// So long goes traffic on before and after each blow.
const A_WHILE: Duration = Duration::from_secs(1);

const NODES: [&str; 3] = ["node1", "node2", "node3"];

/// Two networks with a container on every node, one that is on both, and one with an address out of another node's block.
struct Stage<'a> {
    fleet: &'a Fleet,
    containers: Vec<Container<'a>>,
}

impl<'a> Stage<'a> {
    fn set(fleet: &'a Fleet) -> anyhow::Result<Self> {
        let mut stage = Self { fleet, containers: Vec::new() };
        for network in ["blue", "red"] {
            fleet.docker(&["network", "create", network])?;
            for node in NODES {
                stage.put(&format!("{network}-{node}"), node, &["--network", network])?;
            }
        }
        stage.put("both", "node2", &["--network", "red"])?;
        fleet.docker(&["network", "connect", "blue", "both"])?;
        // The block of node 3 holds this address, as the containers there have the ones before.
        let on_node3 = Wish::read(fleet)?.member("blue-node3")?.addresses["blue"];
        let stray = std::net::Ipv4Addr::from(u32::from(on_node3) + 20).to_string();
        stage.put("stray", "node1", &[])?;
        fleet.docker(&["network", "connect", "--ip", &stray, "blue", "stray"])?;
        Ok(stage)
    }

    fn put(&mut self, name: &str, node: &str, more: &[&str]) -> anyhow::Result<()> {
        let on = format!("constraint:node=={node}");
        let options = [&["-e", &on, "--restart", "always"][..], more].concat();
        self.containers.push(self.fleet.sleeper(name, &options)?);
        Ok(())
    }

    /// What is there now is right, in the kernels and for the containers.
    fn is_right(&self) -> anyhow::Result<Wish> {
        let all = 2 * NODES.len() + 2;
        wait("all containers are up", || {
            let up = self.fleet.docker(&["ps", "-q", "--filter", "network=blue", "--filter", "network=red"]);
            up.is_ok_and(|up| up.lines().count() == all)
        })?;
        let wish = Wish::read(self.fleet)?;
        wish.wait_for_kernels(self.fleet)?;
        wish.wait_until_all_talk(self.fleet)?;
        Ok(wish)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // A test that has failed may have left none.
        self.fleet.start_manager().ok();
        self.containers.clear();
        for network in ["blue", "red"] {
            self.fleet.docker(&["network", "rm", network]).ok();
        }
    }
}

// === what can be killed ===

/// Kills an agent's process; its engine starts it again.
fn kill_agent(fleet: &Fleet, node: &str) -> anyhow::Result<()> {
    let process = || engine(fleet, node, &["inspect", "--format", "{{.State.Pid}}", "wharf-agent"]);
    let before = process()?;
    shell(&fleet.lab, node, &format!("kill -9 {before}"))?;
    wait("the engine starts the agent again", || process().is_ok_and(|now| now != "0" && now != before)).map(drop)
}

/// Kills an engine, leaves its containers, and starts it again when the guard is asked to.
struct KilledEngine {
    shell: std::process::Child,
}

impl KilledEngine {
    fn new(fleet: &Fleet, node: &str) -> anyhow::Result<Self> {
        // From within: where no engine runs, nobody finds the way into its namespaces.
        let script = format!(
            "pid=$(cat /run/wharf-lab/{lab}/{node}/pid); cp /proc/$pid/cmdline /tmp/{lab}-{node}; kill -9 $pid; \
             while [ -e /proc/$pid ]; do sleep 0.05; done; echo; read line; \
             setsid xargs -0 -a /tmp/{lab}-{node} env >>/var/lib/wharf-lab/{lab}/{node}/dockerd.log 2>&1 </dev/null & \
             rm -f /run/wharf-lab/{lab}/{node}/pid",
            lab = fleet.lab.name(),
        );
        let mut command = fleet.lab.command(node, "sh")?;
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn()?;
        let mut line = String::new();
        let out = shell.stdout.take().context("it is piped")?;
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line)?;
        Ok(Self { shell })
    }

    fn start(mut self, fleet: &Fleet, node: &str) -> anyhow::Result<()> {
        drop(self.shell.stdin.take());
        self.shell.wait()?;
        wait("the engine answers", || engine(fleet, node, &["version"]).is_ok()).map(drop)
    }
}

/// Kills a node as a power failure does: its kernel forgets everything, too.
fn kill_node(fleet: &Fleet, node: &str) -> anyhow::Result<()> {
    fleet.lab.kill(node)?;
    let forget = "for table in filter nat; do iptables -t $table -F; \
         iptables -t $table -X; done; for link in $(ip -o link | grep -oE '(wharf|wh-|docker|br-|veth)[^:@ ]*'); \
         do ip link delete $link 2>/dev/null; done; true";
    shell(&fleet.lab, node, forget).map(drop)
}

// === tests ===

pub(crate) fn agents_and_the_manager_die_and_no_packet_is_lost(fleet: &Fleet) -> anyhow::Result<()> {
    let stage = Stage::set(fleet)?;
    let wish = stage.is_right()?;
    let traffic = Traffic::start(fleet, "blue", wish.member("blue-node2")?, wish.member("blue-node3")?)?;
    for node in NODES {
        kill_agent(fleet, node)?;
        traffic.go_on(A_WHILE)?;
    }
    fleet.kill_manager()?;
    traffic.go_on(A_WHILE)?;
    kill_agent(fleet, "node2")?;
    traffic.go_on(A_WHILE)?;
    // The agent answers from its memory.
    wish.wait_for_kernels(fleet)?;
    wish.wait_until_all_talk(fleet)?;
    fleet.start_manager()?;
    // One that is killed by hand is not started by its engine; the manager brings another.
    engine(fleet, "node3", &["kill", "wharf-agent"])?;
    wait("the manager brings another", || {
        engine(fleet, "node3", &["inspect", "--format", "{{.State.Running}}", "wharf-agent"])
            .is_ok_and(|running| running == "true")
    })?;
    traffic.go_on(A_WHILE)?;
    let ended = traffic.end()?;
    ensure!(ended.lost == 0 && ended.pings > 50 && ended.transferred > 50, "{ended:?}");
    stage.is_right().map(drop)
}

pub(crate) fn a_newer_manager_replaces_its_agents_and_no_packet_is_lost(fleet: &Fleet) -> anyhow::Result<()> {
    let stage = Stage::set(fleet)?;
    let wish = stage.is_right()?;
    let traffic = Traffic::start(fleet, "blue", wish.member("blue-node2")?, wish.member("blue-node3")?)?;
    let programs = || {
        let image =
            |node| engine(fleet, node, &["inspect", "--format", "{{.State.Running}} {{.Config.Image}}", "wharf-agent"]);
        NODES.into_iter().map(image).collect::<anyhow::Result<BTreeSet<_>>>()
    };
    let before = programs()?;
    ensure!(before.len() == 1, "{before:?}");
    fleet.renew_manager()?;
    wait("every node has an agent of the other program", || {
        programs().is_ok_and(|now| now.len() == 1 && now != before && now.iter().all(|agent| agent.starts_with("true")))
    })?;
    stage.is_right()?;
    traffic.go_on(A_WHILE)?;
    let images = engine(fleet, "node1", &["image", "ls", "-q", "wharf-agent"])?;
    ensure!(images.lines().count() == 1, "the former program's image stays: {images}");
    let ended = traffic.end()?;
    ensure!(ended.lost == 0 && ended.pings > 50 && ended.transferred > 50, "{ended:?}");
    // And back, for the tests that follow.
    fleet.restart_manager()
}

pub(crate) fn nodes_managers_and_agents_die_in_any_order(fleet: &Fleet) -> anyhow::Result<()> {
    let stage = Stage::set(fleet)?;
    let wish = stage.is_right()?;
    let traffic = Traffic::start(fleet, "blue", wish.member("blue-node2")?, wish.member("blue-node3")?)?;
    let kill: [fn(&Fleet) -> anyhow::Result<()>; 3] =
        [|fleet| kill_node(fleet, "node1"), Fleet::kill_manager, |fleet| kill_agent(fleet, "node2")];
    let start: [fn(&Fleet) -> anyhow::Result<()>; 3] =
        [|fleet| Ok(fleet.lab.start("node1")?), Fleet::start_manager, |_| Ok(())];
    for (killed, started) in [([0, 1, 2], [0, 1]), ([1, 2, 0], [1, 0]), ([2, 0, 1], [1, 0])] {
        for blow in killed {
            kill[blow](fleet)?;
        }
        traffic.go_on(A_WHILE)?;
        for back in started {
            start[back](fleet)?;
        }
        stage.is_right().with_context(|| format!("killed {killed:?}, back {started:?}"))?;
    }
    let ended = traffic.end()?;
    ensure!(ended.lost == 0 && ended.transferred > 100, "{ended:?}");
    Ok(())
}

pub(crate) fn an_engine_dies_and_its_containers_are_on_their_networks_again(fleet: &Fleet) -> anyhow::Result<()> {
    let stage = Stage::set(fleet)?;
    let wish = stage.is_right()?;
    let traffic = Traffic::start(fleet, "blue", wish.member("blue-node2")?, wish.member("blue-node3")?)?;
    let killed = KilledEngine::new(fleet, "node1")?;
    traffic.go_on(A_WHILE)?;
    killed.start(fleet, "node1")?;
    stage.is_right()?;
    let ended = traffic.end()?;
    ensure!(ended.lost == 0, "{ended:?}");
    Ok(())
}

pub(crate) fn containers_outlive_their_engine_where_it_lets_them(fleet: &Fleet) -> anyhow::Result<()> {
    let stage = Stage::set(fleet)?;
    let file = format!("/var/lib/wharf-lab/{}/node2/etc/daemon.json", fleet.lab.name());
    std::fs::write(&file, "{\"live-restore\": true}")?;
    let reload = format!("kill -HUP $(cat /run/wharf-lab/{}/node2/pid)", fleet.lab.name());
    shell(&fleet.lab, "node2", &reload)?;
    wait("the engine has read it", || {
        engine(fleet, "node2", &["info", "--format", "{{.LiveRestoreEnabled}}"]).is_ok_and(|enabled| enabled == "true")
    })?;
    let wish = stage.is_right()?;
    let started =
        || engine(fleet, "node2", &["inspect", "--format", "{{.State.StartedAt}}", "blue-node2", "wharf-agent"]);
    let before = started()?;
    let traffic = Traffic::start(fleet, "blue", wish.member("blue-node3")?, wish.member("blue-node1")?)?;
    let pings = format!("ping -c 60 -i 0.1 {}", wish.member("blue-node2")?.addresses["blue"]);
    let pinging = std::thread::scope(|scope| {
        let pinging = scope.spawn(|| engine(fleet, "node1", &["exec", "blue-node1", "sh", "-c", &pings]));
        let killed = KilledEngine::new(fleet, "node2")?;
        traffic.go_on(A_WHILE)?;
        killed.start(fleet, "node2")?;
        pinging.join().expect("it does not panic")
    });
    let pinging = pinging?;
    ensure!(pinging.contains(" 0% packet loss"), "{pinging}");
    ensure!(started()? == before, "they were started again");
    stage.is_right()?;
    let ended = traffic.end()?;
    ensure!(ended.lost == 0, "{ended:?}");
    std::fs::remove_file(&file)?;
    shell(&fleet.lab, "node2", &reload).map(drop)
}

pub(crate) fn containers_restart_and_talk_with_the_manager_away(fleet: &Fleet) -> anyhow::Result<()> {
    let stage = Stage::set(fleet)?;
    let wish = stage.is_right()?;
    fleet.kill_manager()?;
    for node in NODES {
        engine(fleet, node, &["restart", "-t", "0", &format!("blue-{node}"), &format!("red-{node}")])?;
    }
    wish.wait_for_kernels(fleet)?;
    wish.wait_until_all_talk(fleet)?;
    // Names are answered from what the agent wrote down.
    for node in NODES {
        engine(fleet, node, &["restart", "-t", "0", "wharf-agent"])?;
    }
    wish.wait_for_kernels(fleet)?;
    wish.wait_until_all_talk(fleet)?;
    fleet.start_manager()?;
    stage.is_right().map(drop)
}

pub(crate) fn a_network_that_was_removed_is_removed_from_a_node_that_was_away(fleet: &Fleet) -> anyhow::Result<()> {
    let stage = Stage::set(fleet)?;
    fleet.docker(&["network", "create", "gone"])?;
    let lives = fleet.sleeper("lives", &["--network", "gone", "-e", "constraint:node==node2"])?;
    let left = fleet.sleeper("left", &["--network", "gone", "-e", "constraint:node==node3"])?;
    Wish::read(fleet)?.wait_for_kernels(fleet)?;
    drop((lives, left));
    fleet.lab.cut("node3")?;
    fleet.docker(&["network", "rm", "gone"])?;
    let names = fleet.docker(&["network", "ls", "--format", "{{.Name}}"])?;
    ensure!(!names.lines().any(|name| name == "gone"), "{names}");
    fleet.lab.mend("node3")?;
    stage.is_right().map(drop)
}

pub(crate) fn what_others_do_to_kernels_is_put_right(fleet: &Fleet) -> anyhow::Result<()> {
    let stage = Stage::set(fleet)?;
    let wish = stage.is_right()?;
    let deeds = [
        ("node1", "iptables -F WHARF-FORWARD; iptables -D INPUT -j WHARF-INPUT; iptables -t nat -F WHARF-POSTROUTING"),
        (
            "node1",
            "ip route add 10.192.77.0/24 dev lo proto 87; ip neigh add 10.192.0.99 lladdr 02:77:0a:c0:00:63 dev wharf0",
        ),
        (
            "node1",
            "bridge fdb append 02:77:0a:c0:00:63 dev wharf0 dst 192.0.2.1; iptables -I WHARF-FROM-TUNNEL 1 -j ACCEPT",
        ),
        ("node2", "ip route flush proto 87; for b in /proc/sys/net/ipv4/conf/wh-*/proxy_arp; do echo 0 >$b; done"),
        ("node2", "ip neigh flush dev wharf0 nud permanent; iptables -I FORWARD 1 -j WHARF-FORWARD"),
        ("node3", "iptables-save >/tmp/rules-node3; iptables -F; iptables -X WHARF-INPUT"),
        ("node3", "bridge fdb show dev wharf0 | while read mac rest; do bridge fdb del $mac dev wharf0; done"),
    ];
    for (node, deed) in deeds {
        shell(&fleet.lab, node, deed)?;
    }
    let ours: BTreeSet<_> =
        wish.differences(fleet)?.iter().filter_map(|line| line.get(..5).map(str::to_owned)).collect();
    ensure!(ours.len() == 3, "the deeds were seen on {ours:?} only");
    let took = wish.wait_for_kernels(fleet)?;
    ensure!(took < HEALED_WITHIN, "{took:?}");
    wish.wait_until_all_talk(fleet)?;
    // The engine would make its own rules again when it starts.
    shell(&fleet.lab, "node3", "iptables-restore </tmp/rules-node3; rm /tmp/rules-node3")?;
    shell(&fleet.lab, "node2", "ip link delete wharf0")?;
    let took = wish.wait_for_kernels(fleet)?;
    ensure!(took < HEALED_WITHIN, "{took:?}");
    stage.is_right().map(drop)
}
