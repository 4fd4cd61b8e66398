//! Networks that span the fleet, as users of `docker` and Compose meet them.

use std::process::Stdio;

use anyhow::{Context, ensure};

use crate::fleet::{Container, Fleet, WHARF, text};

/// A network, removed with the guard.
struct Network<'a> {
    fleet: &'a Fleet,
    name: &'a str,
}

impl<'a> Network<'a> {
    fn create(fleet: &'a Fleet, name: &'a str, more: &[&str]) -> anyhow::Result<Self> {
        fleet.docker(&[&["network", "create"][..], more, &[name]].concat())?;
        Ok(Self { fleet, name })
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        self.fleet.docker(&["network", "rm", self.name]).ok();
    }
}

fn at(fleet: &Fleet, name: &str, node: &str, more: &[&str]) -> anyhow::Result<()> {
    let place = format!("constraint:node=={node}");
    let run = [&["run", "-d", "--name", name, "-e", &place][..], more, &["busybox", "sleep", "1000"]].concat();
    fleet.docker(&run).map(drop)
}

fn pings(fleet: &Fleet, from: &str, to: &str) -> bool {
    reaches(fleet, from, to).is_ok()
}

/// One container reaches another by its name or address; what was seen if it does not.
fn reaches(fleet: &Fleet, from: &str, to: &str) -> anyhow::Result<()> {
    fleet.docker(&["exec", from, "ping", "-c", "1", "-W", "2", to]).map(drop)
}

fn address(fleet: &Fleet, container: &str, network: &str) -> anyhow::Result<String> {
    let format = format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}");
    fleet.docker(&["inspect", "--format", &format, container])
}

pub(crate) fn containers_on_different_hosts_find_and_reach_each_other(fleet: &Fleet) -> anyhow::Result<()> {
    let _network = Network::create(fleet, "far", &[])?;
    let names = ["far1", "far2", "far3"];
    let _guards = names.map(|name| Container::of(fleet, name));
    for (number, name) in names.iter().enumerate() {
        at(fleet, name, &format!("node{}", number + 1), &["--network", "far", "--network-alias", "far-all"])?;
    }
    for from in names {
        for to in names.iter().filter(|to| **to != from) {
            reaches(fleet, from, to)?;
            reaches(fleet, from, &format!("{to}.far"))?;
        }
    }
    let all = fleet.docker(&["exec", "far1", "nslookup", "-type=a", "far-all"])?;
    for name in names {
        let address = address(fleet, name, "far")?;
        ensure!(all.contains(&address), "{address} of {name} is not among {all}");
        let back = fleet.docker(&["exec", "far1", "nslookup", &address])?;
        ensure!(back.contains(&format!("{name}.far")), "{back}");
    }
    ensure!(fleet.docker(&["exec", "far1", "nslookup", "-type=a", "tasks.far-all"])?.matches("Address").count() >= 4);
    // One network, whichever node tells of it, with all of its containers.
    let inspected = fleet.docker(&["network", "inspect", "--format", "{{len .Containers}} {{.Scope}}", "far"])?;
    ensure!(inspected == "3 global", "{inspected}");
    ensure!(fleet.docker(&["network", "ls", "--filter", "name=far", "--format", "{{.Name}}"])? == "far");
    let of_network = fleet.docker(&["ps", "--filter", "network=far", "--format", "{{.Names}}"])?;
    ensure!(of_network.lines().count() == 3, "{of_network}");
    let shown =
        fleet.docker(&["inspect", "--format", "{{json (index .NetworkSettings.Networks \"far\").Aliases}}", "far1"])?;
    ensure!(shown.contains("far-all"), "{shown}");
    Ok(())
}

/// The workshop's exercise with its two networks.
pub(crate) fn networks_are_apart_and_are_joined_and_left_at_run_time(fleet: &Fleet) -> anyhow::Result<()> {
    let _blue = Network::create(fleet, "blue", &["--driver", "overlay"])?;
    let _green = Network::create(fleet, "green", &["--driver", "overlay"])?;
    let _guards = ["sky", "navy", "grass", "turquoise"].map(|name| Container::of(fleet, name));
    at(fleet, "sky", "node1", &["--net", "blue"])?;
    at(fleet, "navy", "node2", &["--net", "blue"])?;
    at(fleet, "grass", "node2", &["--net", "green"])?;
    ensure!(pings(fleet, "sky", "navy") && !pings(fleet, "navy", "grass"));
    let grass = address(fleet, "grass", "green")?;
    ensure!(!pings(fleet, "navy", &grass), "blue reaches green by its address on one node");
    ensure!(!pings(fleet, "sky", &grass), "blue reaches green by its address on another node");
    at(fleet, "turquoise", "node3", &["--net", "blue"])?;
    ensure!(pings(fleet, "turquoise", "navy") && !pings(fleet, "turquoise", "grass"));
    fleet.docker(&["network", "connect", "green", "turquoise"])?;
    ensure!(pings(fleet, "turquoise", "navy") && pings(fleet, "turquoise", "grass"));
    let links = fleet.docker(&["exec", "turquoise", "ip", "addr", "ls"])?;
    ensure!(links.contains("eth0") && links.contains("eth1"), "{links}");
    fleet.docker(&["network", "disconnect", "blue", "turquoise"])?;
    ensure!(!pings(fleet, "turquoise", "navy") && pings(fleet, "turquoise", "grass"));
    ensure!(!pings(fleet, "sky", "turquoise"), "a name is answered for a network that its container has left");
    let said = fleet.docker_fails(&["network", "disconnect", "blue", "turquoise"])?;
    ensure!(said.contains("is not connected to network blue"), "{said}");
    let said = fleet.docker_fails(&["network", "connect", "green", "turquoise"])?;
    ensure!(said.contains("already exists in network green"), "{said}");
    let said = fleet.docker_fails(&["network", "rm", "blue"])?;
    ensure!(said.contains("active endpoints") && said.contains("sky") && said.contains("navy"), "{said}");
    Ok(())
}

pub(crate) fn names_follow_starts_and_stops(fleet: &Fleet) -> anyhow::Result<()> {
    let _network = Network::create(fleet, "lively", &[])?;
    let _guards = ["lively1", "lively2"].map(|name| Container::of(fleet, name));
    at(fleet, "lively1", "node1", &["--network", "lively"])?;
    let known = || fleet.docker(&["exec", "lively1", "nslookup", "-type=a", "lively2"]).is_ok();
    ensure!(!known());
    fleet.docker(&[
        "create",
        "--name",
        "lively2",
        "-e",
        "constraint:node==node2",
        "--network",
        "lively",
        "busybox",
        "sleep",
        "1000",
    ])?;
    ensure!(!known(), "a container that never ran is answered for");
    // From the first moment on: whoever is told that it runs can reach it.
    fleet.docker(&["start", "lively2"])?;
    ensure!(known(), "a name is not known when its container runs");
    let before = address(fleet, "lively2", "lively")?;
    fleet.docker(&["restart", "-t", "0", "lively2"])?;
    ensure!(known() && address(fleet, "lively2", "lively")? == before, "a restart changes an address");
    fleet.docker(&["stop", "-t", "0", "lively2"])?;
    fleet.wait("the name is gone", || !known())?;
    fleet.docker(&["rename", "lively2", "lively3"])?;
    fleet.docker(&["start", "lively3"])?;
    ensure!(pings(fleet, "lively1", "lively3"));
    Ok(())
}

/// Compose connects with aliases after it has created, and before it starts.
pub(crate) fn aliases_of_a_connect_before_the_start_are_known_everywhere(fleet: &Fleet) -> anyhow::Result<()> {
    let _network = Network::create(fleet, "aliased", &[])?;
    let _guards = ["aliased1", "aliased2"].map(|name| Container::of(fleet, name));
    at(fleet, "aliased1", "node1", &["--network", "aliased"])?;
    fleet.docker(&[
        "create",
        "--name",
        "aliased2",
        "-e",
        "constraint:node==node3",
        "--network",
        "aliased",
        "busybox",
        "sleep",
        "1000",
    ])?;
    fleet.docker(&["network", "disconnect", "aliased", "aliased2"])?;
    fleet.docker(&["network", "connect", "--alias", "service", "--link", "aliased1:friend", "aliased", "aliased2"])?;
    fleet.docker(&["start", "aliased2"])?;
    ensure!(pings(fleet, "aliased1", "service") && pings(fleet, "aliased2", "friend"));
    ensure!(!pings(fleet, "aliased1", "friend"), "others know a link's name");
    Ok(())
}

pub(crate) fn links_are_names_and_variables_between_hosts(fleet: &Fleet) -> anyhow::Result<()> {
    let _network = Network::create(fleet, "linked", &[])?;
    let _guards = ["linked1", "linked2"].map(|name| Container::of(fleet, name));
    at(fleet, "linked1", "node1", &["--network", "linked", "--expose", "6379", "-e", "COLOUR=red"])?;
    at(fleet, "linked2", "node2", &["--network", "linked", "--link", "linked1:the-db"])?;
    ensure!(pings(fleet, "linked2", "the-db"));
    let links = fleet.docker(&[
        "inspect",
        "--format",
        "{{json (index .NetworkSettings.Networks \"linked\").Links}}",
        "linked2",
    ])?;
    ensure!(links.contains("linked1:the-db"), "{links}");
    Ok(())
}

pub(crate) fn an_address_places_its_container_and_is_had_once(fleet: &Fleet) -> anyhow::Result<()> {
    let _network = Network::create(fleet, "numbered", &["--subnet", "10.99.0.0/16", "--gateway", "10.99.0.7"])?;
    let _guards = ["numbered1", "numbered2", "numbered3", "numbered4"].map(|name| Container::of(fleet, name));
    at(fleet, "numbered1", "node1", &["--network", "numbered", "--ip", "10.99.5.5"])?;
    ensure!(address(fleet, "numbered1", "numbered")? == "10.99.5.5");
    fleet.docker(&[
        "run",
        "-d",
        "--name",
        "numbered2",
        "--network",
        "numbered",
        "--ip",
        "10.99.5.6",
        "busybox",
        "sleep",
        "1000",
    ])?;
    ensure!(fleet.node_of("numbered2")? == "node1", "it is not where its address's block is");
    let run = |more: &[&str]| {
        let run = [&["run", "--name", "numbered3", "--network", "numbered"][..], more, &["busybox", "true"]].concat();
        fleet.docker_fails(&run)
    };
    let said = run(&["--ip", "10.99.5.6"])?;
    ensure!(said.contains("Address already in use") && said.contains("numbered2"), "{said}");
    let said = run(&["--ip", "10.99.5.9", "-e", "constraint:node==node2"])?;
    ensure!(said.contains("address 10.99.5.9") && said.contains("node1"), "{said}");
    let said = run(&["--ip", "10.98.0.9"])?;
    ensure!(said.contains("does not belong") && said.contains("10.99.0.0/16"), "{said}");
    let said = run(&["--ip", "10.99.0.7"])?;
    ensure!(said.contains("in use"), "{said}");
    // A container that is elsewhere already takes an address of another's block along.
    at(fleet, "numbered3", "node2", &[])?;
    at(fleet, "numbered4", "node3", &["--network", "numbered"])?;
    fleet.docker(&["network", "connect", "--ip", "10.99.5.9", "numbered", "numbered3"])?;
    for from in ["numbered1", "numbered2", "numbered4"] {
        ensure!(pings(fleet, from, "numbered3"), "{from} does not reach an address of another node's block");
        ensure!(pings(fleet, "numbered3", from), "an address of another node's block does not reach {from}");
    }
    Ok(())
}

pub(crate) fn an_internal_network_reaches_only_itself(fleet: &Fleet) -> anyhow::Result<()> {
    let _inside = Network::create(fleet, "inside", &["--internal"])?;
    let _outside = Network::create(fleet, "outside", &[])?;
    let _guards = ["inside1", "inside2", "outside1"].map(|name| Container::of(fleet, name));
    at(fleet, "inside1", "node1", &["--network", "inside"])?;
    at(fleet, "inside2", "node2", &["--network", "inside"])?;
    at(fleet, "outside1", "node1", &["--network", "outside"])?;
    ensure!(pings(fleet, "inside1", "inside2") && pings(fleet, "inside2", "inside1"));
    // The other node itself, as something that is outside of the fleet's networks.
    let node = fleet.node(3);
    let node = node.trim_start_matches("tcp://").split(':').next().context("an address")?.to_owned();
    ensure!(pings(fleet, "outside1", &node), "a network does not reach what is outside");
    ensure!(!pings(fleet, "inside1", &node), "an internal network reaches what is outside");
    Ok(())
}

pub(crate) fn ports_are_published_of_networked_containers(fleet: &Fleet) -> anyhow::Result<()> {
    let _network = Network::create(fleet, "public", &[])?;
    let _other = Network::create(fleet, "public-not", &[])?;
    let _guards = ["public1", "public2", "public3"].map(|name| Container::of(fleet, name));
    let serve = "mkdir /w; echo published > /w/index.html; exec httpd -f -h /w -p 80";
    fleet.docker(&[
        "run",
        "-d",
        "--name",
        "public1",
        "--network",
        "public",
        "-p",
        "80",
        "busybox",
        "sh",
        "-c",
        serve,
    ])?;
    let port = fleet.docker(&["port", "public1", "80"])?;
    let port = port.lines().next().context("a port")?.to_owned();
    let url = format!("http://{port}/");
    let got =
        || std::process::Command::new("curl").args(["-s", "-m", "5", &url]).output().map(|output| text(&output.stdout));
    fleet.wait("the port is served", || got().is_ok_and(|got| got == "published"))?;
    let elsewhere = if fleet.node_of("public1")? == "node1" { "node2" } else { "node1" };
    at(fleet, "public2", elsewhere, &["--network", "public"])?;
    ensure!(
        fleet.docker(&["exec", "public2", "timeout", "5", "wget", "-q", "-O", "-", "http://public1/"])? == "published"
    );
    let asks = |from: &str| fleet.docker(&["exec", from, "timeout", "5", "wget", "-q", "-O", "-", &url]);
    ensure!(asks("public2")? == "published");
    // As on one engine, it does not matter on which network who asks is: nor on which node.
    let here = fleet.node_of("public1")?;
    at(fleet, "public3", &here, &["--network", "public-not"])?;
    ensure!(asks("public3")? == "published");
    Ok(())
}

pub(crate) fn an_encrypted_network_carries_what_is_sent(fleet: &Fleet) -> anyhow::Result<()> {
    let _network = Network::create(fleet, "secret", &["--opt", "encrypted"])?;
    let _guards = ["secret1", "secret2"].map(|name| Container::of(fleet, name));
    at(fleet, "secret1", "node1", &["--network", "secret"])?;
    at(fleet, "secret2", "node2", &["--network", "secret"])?;
    fleet.wait("the tunnel carries", || pings(fleet, "secret1", "secret2"))?;
    let large = fleet.docker(&["exec", "secret1", "ping", "-c", "3", "-W", "2", "-s", "20000", "secret2"])?;
    ensure!(large.contains(" 0% packet loss"), "{large}");
    Ok(())
}

pub(crate) fn bad_networks_are_refused_and_leave_nothing(fleet: &Fleet) -> anyhow::Result<()> {
    let _first = Network::create(fleet, "first", &["--subnet", "10.97.0.0/16"])?;
    for (arguments, says) in [
        (&["--subnet", "10.97.8.0/24"][..], "of network first"),
        (&["--subnet", "10.213.0.0/16"], "has a route"),
        (&["--subnet", "172.17.0.0/16"], "network bridge"),
        (&["--subnet", "10.192.0.0/24"], "nodes' own addresses"),
        (&["--subnet", "10.96.0.0/30"], "between 8 addresses"),
        (&["--subnet", "10.96.0.0/16", "--gateway", "10.95.0.1"], ""),
        (&["--subnet", "fd00:1::/64"], "--ipv6"),
        (&["--ipv6", "--subnet", "fd00:1::/120"], "in pairs"),
        (&["--ipv6", "--subnet", "fd00:1::/64", "--ip-range", "fd00:1::/80"], "follows"),
        (&["--opt", "com.docker.network.driver.mtu=9000"], "leaves"),
        (&["--opt", "wharf.scope=moon"], "want node or fleet"),
    ] {
        let said = fleet.docker_fails(&[&["network", "create"][..], arguments, &["second"]].concat())?;
        ensure!(said.contains(says), "{arguments:?}: {said}");
    }
    let said = fleet.docker_fails(&["network", "create", "first"])?;
    ensure!(said.contains("already exists"), "{said}");
    ensure!(fleet.docker(&["network", "ls", "-q", "--filter", "name=second"])?.is_empty());
    let body = br#"{"Image": "busybox", "HostConfig": {"NetworkMode": "nowhere"}}"#;
    let (status, said) = fleet.request("POST", "/containers/create", body)?;
    ensure!(status == 404 && said.contains("network nowhere not found"), "{status} {said}");
    Ok(())
}

pub(crate) fn a_network_may_have_ipv6_addresses_too(fleet: &Fleet) -> anyhow::Result<()> {
    let _network = Network::create(fleet, "dual", &["--ipv6", "--subnet", "fd00:d::/64", "--subnet", "10.98.0.0/16"])?;
    let _other = Network::create(fleet, "dual-other", &["--ipv6"])?;
    let _guards = ["dual1", "dual2", "dual3", "dual-stranger"].map(|name| Container::of(fleet, name));
    at(fleet, "dual1", "node1", &["--network", "dual"])?;
    at(fleet, "dual2", "node2", &["--network", "dual"])?;
    at(fleet, "dual3", "node2", &["--network", "dual", "--ip6", "fd00:d::409"])?;
    at(fleet, "dual-stranger", "node2", &["--network", "dual-other"])?;
    let six = |name: &str, network: &str| {
        let format = format!("{{{{(index .NetworkSettings.Networks {network:?}).GlobalIPv6Address}}}}");
        fleet.docker(&["inspect", "--format", &format, name])
    };
    ensure!(six("dual3", "dual")? == "fd00:d::409" && address(fleet, "dual3", "dual")? == "10.98.4.9");
    let talks = |from: &str, to: &str| fleet.docker(&["exec", from, "ping", "-6", "-c", "1", "-W", "2", to]);
    for (from, to) in [("dual1", "dual2"), ("dual2", "dual1"), ("dual1", "dual3"), ("dual3", "dual2")] {
        talks(from, to)?;
        talks(from, &six(to, "dual")?)?;
        ensure!(fleet.docker(&["exec", from, "nslookup", "-type=aaaa", to])?.contains(&six(to, "dual")?));
        let back = fleet.docker(&["exec", from, "nslookup", &six(to, "dual")?])?;
        ensure!(back.contains(&format!("{to}.dual")), "{back}");
        reaches(fleet, from, &address(fleet, to, "dual")?)?;
    }
    ensure!(talks("dual1", &six("dual-stranger", "dual-other")?).is_err(), "networks are not apart");
    fleet.docker(&["network", "connect", "dual-other", "dual1"])?;
    talks("dual1", "dual-stranger")?;
    let _secret = Network::create(fleet, "dual-secret", &["--ipv6", "--opt", "encrypted"])?;
    let _guards = ["dual-secret1", "dual-secret2"].map(|name| Container::of(fleet, name));
    at(fleet, "dual-secret1", "node1", &["--network", "dual-secret"])?;
    at(fleet, "dual-secret2", "node3", &["--network", "dual-secret"])?;
    talks("dual-secret1", "dual-secret2")?;
    talks("dual-secret2", "dual-secret1")?;
    let shown = fleet.docker(&["network", "inspect", "dual"])?;
    ensure!(shown.contains("fd00:d::409/64") && shown.contains("\"EnableIPv6\": true"), "{shown}");
    let said = fleet.docker_fails(&["run", "--rm", "--network", "dual", "--ip6", "fd00:e::1", "busybox", "true"])?;
    ensure!(said.contains("in pairs"), "{said}");
    let said = fleet.docker_fails(&["network", "create", "--ipv6", "--subnet", "fd00:d::/80", "dual-third"])?;
    ensure!(said.contains("of network dual"), "{said}");
    Ok(())
}

pub(crate) fn networks_without_containers_are_pruned(fleet: &Fleet) -> anyhow::Result<()> {
    let _kept = Network::create(fleet, "pruned-in-use", &["--label", "prunable"])?;
    let _idle = Network::create(fleet, "pruned-idle", &["--label", "prunable"])?;
    let _guard = fleet.sleeper("pruned-user", &["--network", "pruned-in-use"])?;
    let said = fleet.docker(&["network", "prune", "-f", "--filter", "label=prunable"])?;
    ensure!(said.contains("pruned-idle") && !said.contains("pruned-in-use"), "{said}");
    ensure!(pings(fleet, "pruned-user", "pruned-user"));
    Ok(())
}

pub(crate) fn what_happens_to_networks_is_told_once(fleet: &Fleet) -> anyhow::Result<()> {
    let log = fleet.folder().join("network-events");
    let mut events = fleet.client(
        "docker",
        &["events", "--filter", "type=network", "--format", "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.ID}}"],
    );
    let mut events = events.stdout(Stdio::from(std::fs::File::create(&log)?)).spawn()?;
    let told = || std::fs::read_to_string(&log).unwrap_or_default();
    let result = (|| {
        // The stream stands once it tells of something.
        fleet.wait("events come", || {
            fleet.docker(&["network", "create", "told-first"]).ok();
            fleet.docker(&["network", "rm", "told-first"]).ok();
            told().contains("destroy told-first")
        })?;
        let id = fleet.docker(&["network", "create", "told"])?;
        let guards = ["told1", "told2"].map(|name| Container::of(fleet, name));
        at(fleet, "told1", "node1", &["--network", "told"])?;
        at(fleet, "told2", "node2", &["--network", "told"])?;
        drop(guards);
        fleet.docker(&["network", "rm", "told"])?;
        fleet.wait("the end is told", || told().contains(&format!("destroy told {id}")))?;
        let count = |what: &str| told().lines().filter(|line| *line == format!("{what} told {id}")).count();
        ensure!(count("create") == 1 && count("destroy") == 1 && count("connect") == 2, "{}", told());
        ensure!(count("disconnect") == 2, "{}", told());
        Ok(())
    })();
    events.kill()?;
    events.wait()?;
    result
}

pub(crate) fn the_command_line_shows_networks_and_finds_nothing_wrong(fleet: &Fleet) -> anyhow::Result<()> {
    let _network = Network::create(fleet, "shown", &[])?;
    let _guards = ["shown1", "shown2"].map(|name| Container::of(fleet, name));
    at(fleet, "shown1", "node1", &["--network", "shown"])?;
    at(fleet, "shown2", "node2", &["--network", "shown"])?;
    let wharf = |arguments: &[&str]| -> anyhow::Result<String> {
        let output = fleet.client(WHARF, arguments).output()?;
        ensure!(output.status.success(), "wharf {arguments:?}: {} {}", text(&output.stdout), text(&output.stderr));
        Ok(text(&output.stdout))
    };
    let listed = wharf(&["net", "ls"])?;
    ensure!(listed.lines().any(|line| line.starts_with("shown ") && line.contains("node1,node2")), "{listed}");
    let shown = wharf(&["net", "inspect", "shown"])?;
    ensure!(shown.contains("shown1 (") && shown.contains("shown2 ("), "{shown}");
    let examined = wharf(&["net", "doctor"])?;
    ensure!(examined.contains("All is well.") && examined.contains("node1  node2"), "{examined}");
    Ok(())
}

const SPREAD: &str = "version: '2'
services:
  web:
    image: busybox
    command: sh -c 'mkdir /w; hostname > /w/index.html; exec httpd -f -h /w -p 80'
    stop_signal: SIGKILL
  asker:
    image: busybox
    command: sh -c 'until wget -q -O - http://web/; do sleep 0.1; done; echo asked; exec sleep 1000'
    stop_signal: SIGKILL
";

pub(crate) fn a_compose_project_spreads_over_the_nodes(fleet: &Fleet) -> anyhow::Result<()> {
    let file = fleet.folder().join("spread.yml");
    std::fs::write(&file, SPREAD)?;
    let file = file.display().to_string();
    let compose = |arguments: &[&str]| -> anyhow::Result<String> {
        let all = [&["-f", &file, "-p", "spread"][..], arguments].concat();
        let output = fleet.client("docker-compose", &all).output()?;
        ensure!(output.status.success(), "docker-compose {arguments:?}: {}", text(&output.stderr));
        Ok(text(&output.stdout))
    };
    compose(&["up", "-d", "--scale", "asker=5"])?;
    let nodes = fleet.docker(&[
        "ps",
        "--filter",
        "label=com.docker.compose.project=spread",
        "--format",
        "{{.Label \"wharf.node\"}}",
    ])?;
    let distinct: std::collections::BTreeSet<_> = nodes.lines().collect();
    ensure!(distinct.len() == 3, "{nodes}");
    fleet.wait("every asker has got its answer", || {
        compose(&["logs", "asker"]).is_ok_and(|log| log.lines().filter(|line| line.ends_with("asked")).count() == 5)
    })?;
    compose(&["down", "-t", "0"])?;
    ensure!(fleet.docker(&["network", "ls", "-q", "--filter", "name=spread"])?.is_empty());
    Ok(())
}

pub(crate) fn a_container_leaves_a_network_while_its_node_is_away(fleet: &Fleet) -> anyhow::Result<()> {
    let network = Network::create(fleet, "away", &[])?;
    let _guards = ["away1", "away2"].map(|name| Container::of(fleet, name));
    at(fleet, "away1", "node1", &["--network", "away"])?;
    at(fleet, "away2", "node2", &["--network", "away"])?;
    reaches(fleet, "away1", "away2")?;
    fleet.lab.cut("node2")?;
    let down = || {
        fleet
            .docker(&["ps", "--filter", "name=away2", "--format", "{{.Status}}"])
            .is_ok_and(|status| status == "Host Down")
    };
    fleet.wait("node2 is known to be away", down)?;
    ensure!(fleet.docker_fails(&["network", "disconnect", "away", "away2"])?.contains("does not answer"));
    fleet.docker(&["network", "disconnect", "-f", "away", "away2"])?;
    ensure!(!pings(fleet, "away1", "away2"));
    let inspected = fleet.docker(&["network", "inspect", "--format", "{{len .Containers}}", "away"])?;
    ensure!(inspected == "1", "{inspected}");
    fleet.lab.mend("node2")?;
    // The engine is told, so that the network can go.
    let told = || {
        fleet
            .docker(&["inspect", "--format", "{{len .NetworkSettings.Networks}}", "away2"])
            .is_ok_and(|count| count == "0")
    };
    fleet.wait("the engine has been told", told)?;
    fleet.docker(&["rm", "-f", "away1"])?;
    fleet.docker(&["network", "rm", network.name])?;
    Ok(())
}
