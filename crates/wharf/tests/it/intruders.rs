//! Nobody gets into a fleet network, or into the fleet, who is not let in.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use wharf_authority::{
    agent::generate_csr,
    authority::Authority,
    names::NodeNumber,
    token::{JoinToken, Secret},
};

use crate::{
    fleet::{Container, Fleet, WHARF, text, wait},
    kernel::{Wish, engine, shell},
};

// === on the networks ===

/// How many pings a container has been asked, whoever asked: also those whose answers are lost.
fn asked(fleet: &Fleet, container: &str) -> anyhow::Result<u64> {
    let counters = fleet.docker(&["exec", container, "grep", "^Icmp:", "/proc/net/snmp"])?;
    let mut lines = counters.lines().map(|line| line.split(' '));
    let (mut names, mut values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let at = names.position(|name| name == "InEchos").context("no InEchos")?;
    Ok(values.nth(at).context("no value")?.parse()?)
}

/// What `pings` sends does not arrive at a container.
fn is_not_reached(fleet: &Fleet, container: &str, pings: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let before = asked(fleet, container)?;
    pings()?;
    let after = asked(fleet, container)?;
    ensure!(after == before, "{container} was reached by {} packets", after - before);
    Ok(())
}

fn ping_from(fleet: &Fleet, container: &str, arguments: &str) -> anyhow::Result<String> {
    let script = format!("ping -c 2 -i 0.2 -W 1 {arguments} 2>&1; true");
    fleet.docker(&["exec", container, "sh", "-c", &script])
}

/// Networks that go with the guard.
struct Networks<'a> {
    fleet: &'a Fleet,
    names: Vec<String>,
}

impl<'a> Networks<'a> {
    fn create(fleet: &'a Fleet, names: &[&str]) -> anyhow::Result<Self> {
        let mut networks = Self { fleet, names: Vec::new() };
        for name in names {
            fleet.docker(&["network", "create", name])?;
            networks.names.push((*name).to_owned());
        }
        Ok(networks)
    }

    fn container(&self, name: &str, network: &str, node: &str, more: &[&str]) -> anyhow::Result<Container<'a>> {
        let on = format!("constraint:node=={node}");
        self.fleet.sleeper(name, &[&["--network", network, "-e", &on][..], more].concat())
    }

    fn address(&self, container: &str, network: &str) -> anyhow::Result<String> {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        self.fleet.docker(&["inspect", "--format", &format, container])
    }
}

impl Drop for Networks<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            self.fleet.docker(&["network", "rm", name]).ok();
        }
    }
}

pub(crate) fn networks_are_apart_on_a_node_and_between_nodes(fleet: &Fleet) -> anyhow::Result<()> {
    let networks = Networks::create(fleet, &["apart-a", "apart-b"])?;
    let _a = networks.container("in-a", "apart-a", "node1", &[])?;
    let _a2 = networks.container("in-a2", "apart-a", "node2", &[])?;
    let _b1 = networks.container("in-b1", "apart-b", "node1", &[])?;
    let _b2 = networks.container("in-b2", "apart-b", "node2", &[])?;
    let _local = networks.container("in-none", "bridge", "node1", &[])?;
    let at_a = networks.address("in-a", "apart-a")?;
    for other in ["in-b1", "in-b2", "in-none"] {
        is_not_reached(fleet, "in-a", || ping_from(fleet, other, &at_a).map(drop)).context(other)?;
        let network = if other == "in-none" { "bridge" } else { "apart-b" };
        let at = networks.address(other, network)?;
        is_not_reached(fleet, other, || ping_from(fleet, "in-a", &at).map(drop)).context("from in-a")?;
        let found = fleet.docker_output(&["exec", "in-a", "timeout", "5", "nslookup", other])?;
        ensure!(!text(&found.stdout).contains(&at), "{}", text(&found.stdout));
    }
    // What is asked of them otherwise does arrive.
    let before = asked(fleet, "in-a")?;
    ping_from(fleet, "in-a2", &at_a)?;
    ensure!(asked(fleet, "in-a")? == before + 2);
    Ok(())
}

pub(crate) fn a_container_that_forges_its_address_reaches_nobody(fleet: &Fleet) -> anyhow::Result<()> {
    let networks = Networks::create(fleet, &["forged-a", "forged-b"])?;
    let _near = networks.container("near", "forged-a", "node1", &[])?;
    let _far = networks.container("far", "forged-a", "node2", &[])?;
    let _evil_a = networks.container("evil-a", "forged-a", "node1", &["--cap-add", "NET_ADMIN"])?;
    let _evil_b = networks.container("evil-b", "forged-b", "node1", &["--cap-add", "NET_ADMIN"])?;
    let (near, far) = (networks.address("near", "forged-a")?, networks.address("far", "forged-a")?);
    let beside = |address: &str| -> anyhow::Result<String> {
        let address: std::net::Ipv4Addr = address.parse()?;
        Ok(std::net::Ipv4Addr::from(u32::from(address) + 30).to_string())
    };
    // Of the same network and the other node's block; of another network: this node's block of it, the other's; of nobody.
    let (of_near, of_far, of_nobody) = (beside(&near)?, beside(&far)?, "198.51.100.7".to_owned());
    for evil in ["evil-a", "evil-b"] {
        for forged in [&of_near, &of_far, &of_nobody] {
            fleet.docker(&["exec", evil, "ip", "address", "add", &format!("{forged}/32"), "dev", "eth0"])?;
            let own_block = evil == "evil-a" && *forged == of_near;
            for (target, address) in [("near", &near), ("far", &far)] {
                // Within a node's part of a network nobody asks who is who.
                if own_block || (evil == "evil-a" && target == "near") {
                    continue;
                }
                let ping = || ping_from(fleet, evil, &format!("-I {forged} {address}")).map(drop);
                is_not_reached(fleet, target, ping).with_context(|| format!("{evil} as {forged}"))?;
            }
        }
        // As if the other network were on its own link.
        fleet.docker(&["exec", evil, "ip", "route", "add", &format!("{far}/32"), "dev", "eth0"])?;
        let ping = || ping_from(fleet, evil, &format!("-I {of_far} {far}")).map(drop);
        is_not_reached(fleet, "far", ping).with_context(|| format!("{evil} on its link"))?;
    }
    // Its own address does arrive.
    let before = asked(fleet, "far")?;
    ping_from(fleet, "evil-a", &format!("-I {} {far}", networks.address("evil-a", "forged-a")?))?;
    ensure!(asked(fleet, "far")? == before + 2);
    Ok(())
}

/// A host on the lab's network that is none of the fleet's.
struct Foreign {
    name: String,
    address: String,
}

impl Foreign {
    fn new(fleet: &Fleet) -> anyhow::Result<Self> {
        let node: std::net::Ipv4Addr = fleet.lab.nodes()?[0].address.parse()?;
        let [a, b, c, _] = node.octets();
        let foreign = Self { name: format!("foreign-{}", fleet.lab.name()), address: format!("{a}.{b}.{c}.230") };
        let (name, bridge) = (&foreign.name, format!("wl-{}", fleet.lab.name()));
        host(&format!(
            "set -e; ip netns add {name}; ip link add fo-{lab} type veth peer name eth0 netns {name}; \
             ip link set fo-{lab} master {bridge} up; ip -n {name} address add {}/24 dev eth0; \
             ip -n {name} link set lo up; ip -n {name} link set eth0 up",
            foreign.address,
            lab = fleet.lab.name(),
        ))?;
        Ok(foreign)
    }

    fn run(&self, script: &str) -> anyhow::Result<String> {
        host(&format!("ip netns exec {} sh -c '{script}'", self.name))
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        host(&format!("ip netns delete {}", self.name)).ok();
    }
}

/// Runs a shell's script on this machine itself; what it printed.
fn host(script: &str) -> anyhow::Result<String> {
    let output = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{script}: {} {}", output.status, text(&output.stderr));
    Ok(text(&output.stdout))
}

pub(crate) fn a_foreign_host_with_the_same_tunnel_reaches_nobody(fleet: &Fleet) -> anyhow::Result<()> {
    let networks = Networks::create(fleet, &["tunnelled"])?;
    let _target = networks.container("target", "tunnelled", "node2", &[])?;
    let _other = networks.container("other", "tunnelled", "node1", &[])?;
    Wish::read(fleet)?.wait_for_kernels(fleet)?;
    let foreign = Foreign::new(fleet)?;
    let (target, other) = (networks.address("target", "tunnelled")?, networks.address("other", "tunnelled")?);
    let node2 = &fleet.lab.nodes()?[1].address;
    let mac = shell(&fleet.lab, "node2", "ip -o link show wharf0 | grep -o 'ether [^ ]*' | cut -d ' ' -f 2")?;
    // Within, it takes the address of a container of another node.
    foreign.run(&format!(
        "ip link add wharf0 type vxlan id {vni} dstport 4790 local {own} dev eth0 && ip address add {other}/32 dev wharf0 && \
         ip link set wharf0 up && ip route add {target}/32 dev wharf0 src {other} && \
         ip neigh add {target} lladdr {mac} dev wharf0 nud permanent && bridge fdb append {mac} dev wharf0 dst {node2}",
        vni = 0x57_4841,
        own = foreign.address,
    ))?;
    let ping = || foreign.run(&format!("busybox ping -c 2 -i 0.2 -W 1 {target} | grep transmitted")).map(drop);
    is_not_reached(fleet, "target", ping)?;
    // It is the door that keeps it out, and not a mistake of the intruder.
    let rule = format!("-s {} -p udp --dport 4790 -j ACCEPT", foreign.address);
    shell(&fleet.lab, "node2", &format!("iptables -I INPUT 1 {rule}"))?;
    let before = asked(fleet, "target")?;
    ping()?;
    let with_an_open_door = asked(fleet, "target")? - before;
    shell(&fleet.lab, "node2", &format!("iptables -D INPUT {rule}"))?;
    ensure!(with_an_open_door == 2, "{with_an_open_door} packets came through an open door");
    is_not_reached(fleet, "target", ping)
}

pub(crate) fn hosts_beside_the_fleet_reach_no_container(fleet: &Fleet) -> anyhow::Result<()> {
    let networks = Networks::create(fleet, &["beside"])?;
    let _target = networks.container("beside-1", "beside", "node1", &[])?;
    let _other = networks.container("beside-2", "beside", "node2", &[])?;
    let foreign = Foreign::new(fleet)?;
    let nodes = fleet.lab.nodes()?;
    for (name, direct, around) in [("beside-1", 0, 1), ("beside-2", 1, 0)] {
        let address = networks.address(name, "beside")?;
        for node in [direct, around] {
            let route = format!("{address}/32 via {}", nodes[node].address);
            let ping = format!("busybox ping -c 2 -i 0.2 -W 1 {address} | grep transmitted");
            foreign.run(&format!("ip route replace {route}"))?;
            is_not_reached(fleet, name, || foreign.run(&ping).map(drop))
                .with_context(|| format!("foreign, {route}"))?;
            host(&format!("ip route replace {route}"))?;
            let outcome = is_not_reached(fleet, name, || host(&ping).map(drop));
            host(&format!("ip route delete {route}"))?;
            outcome.with_context(|| format!("the lab's host, {route}"))?;
        }
    }
    Ok(())
}

// === in the fleet ===

/// Where agents connect, and a token of now.
fn door(fleet: &Fleet) -> anyhow::Result<(String, u64)> {
    let (status, body) = fleet.request("POST", "/wharf/tokens", b"{}")?;
    ensure!(status == 200 || status == 201, "{status} {body}");
    let issued: Value = serde_json::from_str(&body)?;
    Ok((issued["Token"].as_str().context("no token")?.to_owned(), issued["Port"].as_u64().context("no port")?))
}

/// Knocks as an agent does, with more arguments for curl: what is answered, and how curl ends where it is not.
fn knock(port: u64, path: &str, more: &[&str]) -> anyhow::Result<(String, String)> {
    let url = format!("https://127.0.0.1:{port}/agent/{path}");
    let mut curl = Command::new("curl");
    curl.args(["-sSk", "--max-time", "5", "-H", "wharf-protocol: 1", "-w", "\n%{http_code}", &url]).args(more);
    let output = curl.output()?;
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    let (body, status) = out.rsplit_once('\n').unwrap_or(("", &out));
    Ok((status.to_owned(), format!("{body} {error}")))
}

fn join(port: u64, token: &str) -> anyhow::Result<(String, String)> {
    let request = generate_csr()?.request;
    let message = json!({"token": token, "request": request, "engine": "none", "hostname": "evil", "addresses": []});
    knock(port, "join", &["-d", &message.to_string()])
}

pub(crate) fn who_has_no_good_token_does_not_join(fleet: &Fleet) -> anyhow::Result<()> {
    let (token, port) = door(fleet)?;
    let last = token.chars().last().context("empty")?;
    let mistyped = format!("{}{}", &token[..token.len() - 1], if last == 'a' { 'b' } else { 'a' });
    let elsewhere = Authority::create(SystemTime::now())?;
    let of_another_fleet = JoinToken { authority: elsewhere.digest(), secret: Secret::random()? }.to_string();
    let ours: JoinToken = token.parse()?;
    let guessed = JoinToken { authority: ours.authority, secret: Secret::random()? }.to_string();
    for (bad, status, says) in [
        ("", "400", "begins with wharf-1-"),
        ("wharf-1-a-b", "400", "not copied whole"),
        (&mistyped, "400", "mistyped"),
        (&of_another_fleet, "403", "not known here"),
        (&guessed, "403", "not known here"),
    ] {
        let (answered, body) = join(port, bad)?;
        ensure!(answered == status && body.contains(says), "{bad:?}: {answered} {body}");
        ensure!(!body.contains("CERTIFICATE"), "{body}");
    }
    // A good token of a host whose engine is none of the fleet's.
    let (answered, body) = join(port, &token)?;
    ensure!(answered == "404" && body.contains("no node of the fleet has the engine of evil"), "{answered} {body}");
    let log = std::fs::read_to_string(fleet.folder().join("log"))?;
    let secret = token.rsplit('-').next().context("no secret")?;
    ensure!(!log.contains(secret), "the manager's log has a token");
    Ok(())
}

pub(crate) fn an_agent_refuses_a_manager_that_its_token_does_not_name(fleet: &Fleet) -> anyhow::Result<()> {
    let (_, port) = door(fleet)?;
    let elsewhere = Authority::create(SystemTime::now())?;
    let token = JoinToken { authority: elsewhere.digest(), secret: Secret::random()? }.to_string();
    let data = tempfile::tempdir()?;
    // In a kernel's namespace of its own: nothing of this machine is in reach.
    let foreign = Foreign::new(fleet)?;
    let log = data.path().join("log");
    let lab: std::net::Ipv4Addr = fleet.lab.nodes()?[0].address.parse()?;
    let [a, b, c, _] = lab.octets();
    let mut agent = Command::new("ip")
        .args(["netns", "exec", &foreign.name, "setpriv", "--pdeathsig", "KILL", WHARF, "agent"])
        .args(["--join", &format!("tcp://{a}.{b}.{c}.1:{port}"), "--data", &data.path().display().to_string()])
        .env("WHARF_TOKEN", &token)
        .stdin(Stdio::null())
        .stderr(std::fs::File::create(&log)?)
        .spawn()?;
    let told = || std::fs::read_to_string(&log).unwrap_or_default();
    let outcome = wait("it says why", || told().contains("the manager at"));
    agent.kill()?;
    agent.wait()?;
    outcome.with_context(told)?;
    let secret = token.rsplit('-').next().context("no secret")?;
    ensure!(!told().contains(secret), "its log has the token: {}", told());
    ensure!(told().to_lowercase().contains("certificate"), "{}", told());
    ensure!(!data.path().join("node.pem").exists(), "it has joined");
    Ok(())
}

pub(crate) fn who_has_no_certificate_of_the_fleet_is_told_nothing(fleet: &Fleet) -> anyhow::Result<()> {
    let (_, port) = door(fleet)?;
    let folder = tempfile::tempdir()?;
    let elsewhere = Authority::create(SystemTime::now())?;
    let key = generate_csr()?;
    let certificate = elsewhere.sign(&key.request, NodeNumber(1), Duration::from_secs(3600), SystemTime::now())?;
    let (key_file, certificate_file) = (folder.path().join("key.pem"), folder.path().join("node.pem"));
    std::fs::write(&key_file, &key.key)?;
    std::fs::write(&certificate_file, certificate)?;
    let (key_file, certificate_file) = (key_file.display().to_string(), certificate_file.display().to_string());
    for path in ["watch", "report", "renew", "probed"] {
        let post: &[&str] = if path == "watch" { &[] } else { &["-d", "{}"] };
        let (status, body) = knock(port, path, post)?;
        ensure!(status == "403", "{path}: {status} {body}");
        let (status, body) = knock(port, path, &[post, &["--key", &key_file, "--cert", &certificate_file]].concat())?;
        ensure!(status == "000", "{path}, with a certificate of another CA: {status} {body}");
    }
    Ok(())
}

// === agents ===

pub(crate) fn an_agent_is_neither_seen_nor_touched_through_the_fleet(fleet: &Fleet) -> anyhow::Result<()> {
    let on_engine = |format: &str| engine(fleet, "node1", &["inspect", "--format", format, "wharf-agent"]);
    wait("the node has its agent", || on_engine("{{.State.Running}}").is_ok_and(|running| running == "true"))?;
    let (id, started, image) =
        (on_engine("{{.Id}}")?, on_engine("{{.State.StartedAt}}")?, on_engine("{{.Config.Image}}")?);
    for list in [
        &["ps", "-a", "--format", "{{.ID}} {{.Names}} {{.Image}}"][..],
        &["ps", "-aq", "--filter", "label=wharf.agent"],
        &["ps", "-aq", "--filter", "name=wharf-agent"],
        &["images", "--format", "{{.Repository}}"],
        &["volume", "ls", "-q"],
        &["system", "df", "-v"],
    ] {
        let listed = fleet.docker(list)?;
        let quiet = list.contains(&"-aq");
        ensure!(!listed.contains("wharf-agent") && (!quiet || listed.is_empty()), "{list:?}: {listed}");
    }
    for name in ["wharf-agent", "node1/wharf-agent", &id, &id[..12]] {
        for touch in [
            &["inspect", name][..],
            &["rm", name],
            &["stop", name],
            &["kill", name],
            &["restart", name],
            &["pause", name],
            &["rename", name, "mine"],
            &["logs", name],
            &["exec", name, "/wharf", "--help"],
            &["cp", &format!("{name}:/data/node.key"), "-"],
        ] {
            let said = fleet.docker_fails(touch)?;
            ensure!(said.to_lowercase().contains("no such") || said.contains("not found"), "{touch:?}: {said}");
        }
        // Not with the client, which takes what is not found for the image.
        for (key, value) in [("VolumesFrom", json!([name])), ("NetworkMode", json!(format!("container:{name}")))] {
            let body = json!({"Image": "busybox", "HostConfig": {key: value}}).to_string();
            let (status, said) = fleet.request("POST", "/containers/create", body.as_bytes())?;
            ensure!(status == 404 || status == 400, "{key} {name}: {status} {said}");
        }
    }
    // With force, what is not there is no failure for clients.
    for force in [&["rm", "-f", "wharf-agent"][..], &["rm", "-f", &id], &["volume", "rm", "-f", "wharf-agent"]] {
        fleet.docker_output(force)?;
    }
    fleet.docker_output(&["rmi", "-f", &image])?;
    fleet.docker(&["container", "prune", "-f"])?;
    fleet.docker(&["volume", "prune", "-f"])?;
    ensure!(on_engine("{{.State.StartedAt}}")? == started, "it was started again");
    engine(fleet, "node1", &["volume", "inspect", "wharf-agent"])?;
    engine(fleet, "node1", &["image", "inspect", &image]).map(drop)
}

pub(crate) fn pruning_leaves_networks_in_use_whole(fleet: &Fleet) -> anyhow::Result<()> {
    let networks = Networks::create(fleet, &["used", "unused"])?;
    let _one = networks.container("used-1", "used", "node1", &[])?;
    let _two = networks.container("used-2", "used", "node2", &[])?;
    drop(networks.container("left", "unused", "node3", &[])?);
    let pruned = fleet.docker(&["network", "prune", "-f"])?;
    ensure!(pruned.contains("unused") && !pruned.lines().any(|line| line == "used"), "{pruned}");
    let wish = Wish::read(fleet)?;
    wish.wait_for_kernels(fleet)?;
    wish.wait_until_all_talk(fleet)
}

pub(crate) fn a_nodes_token_is_seen_by_nobody_and_is_good_once(fleet: &Fleet) -> anyhow::Result<()> {
    wait("the node has its agent", || {
        let running = engine(fleet, "node1", &["inspect", "--format", "{{.State.Running}}", "wharf-agent"]);
        running.is_ok_and(|running| running == "true")
    })?;
    let (_, port) = door(fleet)?;
    // A new agent that does not get through to the manager keeps its token. The old one's farewell does get through.
    let rule = format!("OUTPUT -p tcp --syn --dport {port} -j DROP");
    shell(&fleet.lab, "node1", &format!("iptables -I {rule}"))?;
    engine(fleet, "node1", &["rm", "-f", "wharf-agent"])?;
    let volume = engine(fleet, "node1", &["volume", "inspect", "--format", "{{.Mountpoint}}", "wharf-agent"])?;
    let file = format!("{volume}/token");
    let format = "{{.State.Pid}}";
    let process = || engine(fleet, "node1", &["inspect", "--format", format, "wharf-agent"]);
    let brought = wait("an agent is brought", || process().is_ok_and(|process| process != "0"));
    let outcome = brought.and_then(|_| {
        let token = std::fs::read_to_string(&file)?;
        let secret = token.trim().rsplit('-').next().context("no secret")?.to_owned();
        ensure!(mode(&file)? == 0o600, "the token's file has mode {:o}", mode(&file)?);
        ensure_secret(fleet, &secret, &process()?)?;
        Ok(token.trim().to_owned())
    });
    shell(&fleet.lab, "node1", &format!("iptables -D {rule}"))?;
    let token = outcome?;
    wait("the agent joins", || !Path::new(&file).exists())?;
    let (status, body) = join(port, &token)?;
    ensure!(status == "403" && body.contains("has been used"), "{status} {body}");
    for name in ["node.key", "node.pem", "ca.pem", "tunnel.key", "state.json"] {
        let path = format!("{volume}/{name}");
        wait("the agent has written it", || Path::new(&path).exists())?;
        ensure!(mode(&path)? == 0o600, "{name} has mode {:o}", mode(&path)?);
    }
    let store = fleet.folder().join("data/store.redb").display().to_string();
    ensure!(mode(&store)? == 0o600, "the store has mode {:o}", mode(&store)?);
    Ok(())
}

fn mode(path: &str) -> anyhow::Result<u32> {
    Ok(std::fs::metadata(path).with_context(|| path.to_owned())?.permissions().mode() & 0o777)
}

/// Whoever lists processes, inspects containers or reads logs sees nothing of it.
fn ensure_secret(fleet: &Fleet, secret: &str, process: &str) -> anyhow::Result<()> {
    let seen = [
        ("processes", host("cat /proc/[0-9]*/cmdline 2>/dev/null; true")?),
        ("environment", host(&format!("cat /proc/{process}/environ"))?),
        ("inspect", engine(fleet, "node1", &["inspect", "wharf-agent"])?),
        ("agent's log", engine(fleet, "node1", &["logs", "wharf-agent"])?),
        ("manager's log", std::fs::read_to_string(fleet.folder().join("log"))?),
        (
            "engine's log",
            std::fs::read_to_string(format!("/var/lib/wharf-lab/{}/node1/dockerd.log", fleet.lab.name()))?,
        ),
    ];
    for (what, text) in seen {
        ensure!(!text.contains(secret), "the token is in {what}");
    }
    Ok(())
}
