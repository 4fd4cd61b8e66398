//! Every subcommand of `docker`, on one engine and on the fleet: the same outcome, the same words.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, ensure};

use crate::fleet::{Fleet, text};

/// What has to come of a command line.
enum Outcome {
    /// The fleet's exit code and words on standard error are an engine's, and it prints something where an engine does.
    Alike,
    /// The fleet refuses, saying this.
    Refused(&'static str),
}

use Outcome::{Alike, Refused};

const SWARM: Outcome = Refused("node is not");
const PLUGIN: Outcome = Refused("NODE/NAME");

/// Command lines in the order in which they are run. `N` begins names, `DIR` is a folder.
const LINES: &[(&str, Outcome)] = &[
    // What there is to know.
    ("version", Alike),
    ("info", Alike),
    ("system info", Alike),
    ("system df", Alike),
    ("search --limit 1 none", Refused("")),
    ("login -u me -p secret 127.0.0.1:1", Alike),
    ("logout 127.0.0.1:1", Alike),
    // Images.
    ("build -q -t N-image DIR/context", Alike),
    ("image build -q -t N-image DIR/context", Alike),
    ("builder build -q -t N-image DIR/context", Alike),
    ("build -q DIR/none", Alike),
    ("builder prune -f --filter label=N", Alike),
    ("images N-image", Alike),
    ("image ls N-image", Alike),
    ("image inspect N-image", Alike),
    ("history N-image", Alike),
    ("image history N-image", Alike),
    ("history N-none", Alike),
    ("tag N-image N-image:second", Alike),
    ("image tag N-image N-image:third", Alike),
    ("tag N-none N-image:fourth", Alike),
    ("save -o DIR/image.tar N-image:second", Alike),
    ("image save -o DIR/image.tar N-image:second", Alike),
    ("rmi N-image:second", Alike),
    ("load -q -i DIR/image.tar", Alike),
    ("image load -q -i DIR/image.tar", Alike),
    ("image rm N-image:third", Alike),
    ("rmi N-image:third", Alike),
    ("pull -q 127.0.0.1:1/N-none", Alike),
    ("image pull -q 127.0.0.1:1/N-none", Alike),
    ("push -q 127.0.0.1:1/N-none", Refused("No such image")),
    ("image push -q 127.0.0.1:1/N-none", Refused("No such image")),
    ("image prune -f --filter label=N", Alike),
    // Volumes and networks.
    ("volume create --label N N-volume", Alike),
    ("volume ls --filter name=N-", Alike),
    ("volume inspect N-volume", Alike),
    ("volume inspect N-none", Alike),
    ("volume update --availability drain N-volume", Refused("only update cluster volumes")),
    ("network create --label N N-net", Alike),
    ("network create N-net", Alike),
    ("network ls --filter name=N-", Alike),
    ("network inspect N-net", Alike),
    ("network inspect N-none", Alike),
    // The life of a container.
    ("run -d --name N-1 --label N -v N-volume:/data busybox sleep 1000", Alike),
    ("container run --rm --label N busybox true", Alike),
    ("run --rm --label N busybox sh -c exit\\ 7", Alike),
    ("run --rm --label N busybox nothing-such", Alike),
    ("create --name N-2 --label N busybox true", Alike),
    ("container create --name N-2 busybox true", Refused("is already in use")),
    ("start N-2", Alike),
    ("wait N-2", Alike),
    ("container start N-2", Alike),
    ("container wait N-2", Alike),
    ("attach N-2", Alike),
    ("container attach N-2", Alike),
    ("ps -a --filter name=N-", Alike),
    ("container ls -a --filter name=N-", Alike),
    ("inspect N-1", Alike),
    ("container inspect N-1", Alike),
    ("inspect N-none", Alike),
    ("exec N-1 echo hello", Alike),
    ("container exec N-1 false", Alike),
    ("exec N-2 echo hello", Alike),
    ("logs N-1", Alike),
    ("container logs N-2", Alike),
    ("top N-1", Alike),
    ("container top N-1", Alike),
    ("stats --no-stream N-1", Alike),
    ("container stats --no-stream N-1", Alike),
    ("port N-1", Alike),
    ("container port N-1 80", Alike),
    ("cp DIR/context/Dockerfile N-1:/copied", Alike),
    ("container cp N-1:/copied DIR/copied", Alike),
    ("cp N-1:/none DIR/copied", Refused("Could not find the file /none in container")),
    ("diff N-1", Alike),
    ("container diff N-1", Alike),
    ("export -o DIR/exported.tar N-1", Alike),
    ("container export -o DIR/exported.tar N-1", Alike),
    ("import DIR/exported.tar N-imported", Alike),
    ("image import DIR/exported.tar N-imported", Alike),
    ("commit N-1 N-committed", Alike),
    ("container commit N-1 N-committed", Alike),
    ("pause N-1", Alike),
    ("unpause N-1", Alike),
    ("container pause N-1", Alike),
    ("container unpause N-1", Alike),
    ("container unpause N-1", Alike),
    ("network connect N-net N-1", Alike),
    ("network disconnect N-net N-1", Alike),
    ("update --restart no N-1", Alike),
    ("container update --restart no N-1", Alike),
    ("rename N-1 N-3", Alike),
    ("container rename N-3 N-1", Alike),
    ("restart -t 0 N-1", Alike),
    ("container restart -t 0 N-1", Alike),
    ("checkpoint create N-1 first", Alike),
    ("checkpoint ls N-1", Alike),
    ("checkpoint rm N-1 first", Alike),
    ("stop -t 0 N-1", Alike),
    ("container stop -t 0 N-1", Alike),
    ("kill N-1", Refused("is not running")),
    ("container kill N-none", Refused("No such container")),
    ("system events --since 1 --until 2", Alike),
    ("events --since 1 --until 2", Alike),
    // And all of it away again.
    ("rm N-1", Alike),
    ("container rm N-2", Alike),
    ("rm N-2", Alike),
    ("network rm N-net", Alike),
    ("network rm N-net", Alike),
    ("volume rm N-volume", Alike),
    ("volume rm N-volume", Alike),
    ("container prune -f --filter label=N", Alike),
    ("network prune -f --filter label=N", Alike),
    ("volume prune -f --filter label=N", Alike),
    ("system prune -f --filter label=N", Alike),
    ("rmi N-image N-imported N-committed", Alike),
    // What the client does by itself, or with registries.
    ("context create N-context --docker host=tcp://127.0.0.1:1", Alike),
    ("context ls", Alike),
    ("context show", Alike),
    ("context inspect N-context", Alike),
    ("context update N-context --description other", Alike),
    ("context export N-context DIR/context.tar", Alike),
    ("context use N-context", Alike),
    ("context rm -f N-context", Alike),
    ("context import N-context DIR/context.tar", Alike),
    ("manifest create --insecure 127.0.0.1:1/N-list 127.0.0.1:1/N-none", Alike),
    ("manifest annotate 127.0.0.1:1/N-list 127.0.0.1:1/N-none --os linux", Alike),
    ("manifest inspect --insecure 127.0.0.1:1/N-none", Alike),
    ("manifest push --insecure 127.0.0.1:1/N-list", Alike),
    ("manifest rm 127.0.0.1:1/N-list", Alike),
    ("trust key generate N-key --dir DIR", Alike),
    ("trust key load DIR/N-none.pem", Alike),
    ("trust signer add --key DIR/N-none.pem N-signer 127.0.0.1:1/N-none", Alike),
    ("trust signer remove -f N-signer 127.0.0.1:1/N-none", Alike),
    ("trust inspect 127.0.0.1:1/N-none", Alike),
    ("trust revoke -y 127.0.0.1:1/N-none", Alike),
    ("trust sign 127.0.0.1:1/N-none:1", Alike),
    // A node's own.
    ("plugin ls", Alike),
    ("plugin create N-plugin DIR/plugin", PLUGIN),
    ("plugin inspect N-plugin", PLUGIN),
    ("plugin enable N-plugin", PLUGIN),
    ("plugin disable N-plugin", PLUGIN),
    ("plugin set N-plugin DEBUG=1", PLUGIN),
    ("plugin upgrade --grant-all-permissions N-plugin", PLUGIN),
    ("plugin push N-plugin", PLUGIN),
    ("plugin rm N-plugin", PLUGIN),
    ("plugin install --grant-all-permissions 127.0.0.1:1/N-plugin", PLUGIN),
    // Swarm mode.
    ("swarm init", SWARM),
    ("swarm join 127.0.0.1:1", SWARM),
    ("swarm join-token worker", SWARM),
    ("swarm ca", SWARM),
    ("swarm unlock", SWARM),
    ("swarm unlock-key", SWARM),
    ("swarm update --task-history-limit 1", SWARM),
    ("swarm leave", SWARM),
    ("node ls", SWARM),
    ("node inspect node1", SWARM),
    ("node ps node1", SWARM),
    ("node update --availability drain node1", SWARM),
    ("node promote node1", SWARM),
    ("node demote node1", SWARM),
    ("node rm node1", SWARM),
    ("service create --name N-service busybox", SWARM),
    ("service ls", SWARM),
    ("service inspect N-service", SWARM),
    ("service ps N-service", SWARM),
    ("service logs N-service", SWARM),
    ("service scale N-service=2", SWARM),
    ("service update N-service", SWARM),
    ("service rollback N-service", SWARM),
    ("service rm N-service", SWARM),
    ("secret create N-secret DIR/context/Dockerfile", SWARM),
    ("secret ls", SWARM),
    ("secret inspect N-secret", SWARM),
    ("secret rm N-secret", SWARM),
    ("config create N-config DIR/context/Dockerfile", SWARM),
    ("config ls", SWARM),
    ("config inspect N-config", SWARM),
    ("config rm N-config", SWARM),
    ("stack deploy -c DIR/compose.yml N-stack", SWARM),
    ("stack ls", SWARM),
    ("stack ps N-stack", SWARM),
    ("stack services N-stack", SWARM),
    ("stack rm N-stack", SWARM),
    ("stack config -c DIR/compose.yml", Alike),
];

/// What came of a command line.
#[derive(Debug, PartialEq)]
struct Came {
    code: Option<i32>,
    prints: bool,
    says: String,
}

pub(crate) fn every_subcommand_does_what_it_does_on_one_engine(fleet: &Fleet) -> anyhow::Result<()> {
    let known: BTreeSet<String> = subcommands(fleet, &[])?.into_iter().collect();
    let tried: BTreeSet<String> =
        known.iter().filter(|name| LINES.iter().any(|(line, _)| begins(line, name))).cloned().collect();
    ensure!(known.len() > 150, "the client's help is not understood: {known:?}");
    ensure!(tried == known, "not tried: {:?}", known.difference(&tried).collect::<Vec<_>>());
    // The engine has what the fleet would bring to it.
    fleet.docker(&["run", "--rm", "-e", "constraint:node==node1", "busybox", "true"])?;
    let mut different = Vec::new();
    let folders = ["one", "all"].map(|name| fleet.folder().join(format!("subcommands-{name}")));
    for folder in &folders {
        std::fs::create_dir_all(folder.join("context"))?;
        std::fs::create_dir_all(folder.join("plugin/rootfs"))?;
        std::fs::write(folder.join("plugin/config.json"), "{}")?;
        std::fs::write(folder.join("context/Dockerfile"), "FROM busybox\nENV A=b\n")?;
        std::fs::write(folder.join("compose.yml"), "version: '3.7'\nservices:\n  web:\n    image: busybox\n")?;
    }
    for (line, outcome) in LINES {
        let ours = came(fleet, &fleet.host(), "all", &folders[1], line)?;
        match outcome {
            Alike => {
                let engines = came(fleet, &fleet.node(1), "one", &folders[0], line)?;
                if ours != engines {
                    different.push(format!("docker {line}\n  an engine: {engines:?}\n  the fleet: {ours:?}"));
                }
            }
            Refused(says) => {
                if ours.code == Some(0) || !ours.says.contains(says) {
                    different.push(format!("docker {line}\n  not refused with {says:?}: {ours:?}"));
                }
            }
        }
    }
    ensure!(different.is_empty(), "{}", different.join("\n"));
    Ok(())
}

fn begins(line: &str, name: &str) -> bool {
    line.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

/// The client's commands, as its help tells of them where no engine is that has no use for some.
fn subcommands(fleet: &Fleet, path: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut help = fleet.client("docker", &[path, &["--help"]].concat());
    let output = help.env("DOCKER_HOST", "unix:///nowhere").output()?;
    let (mut found, mut listed) = (Vec::new(), false);
    for line in text(&output.stdout).lines() {
        if !line.starts_with(' ') {
            listed = line.ends_with("Commands:");
        } else if let Some(name) = line.split_whitespace().next().filter(|_| listed) {
            // With a star: a plugin of the client's.
            if !name.ends_with('*') {
                found.extend(subcommands(fleet, &[path, &[name]].concat())?);
            }
        }
    }
    Ok(if found.is_empty() { vec![path.join(" ")] } else { found })
}

fn came(fleet: &Fleet, host: &str, prefix: &str, folder: &Path, line: &str) -> anyhow::Result<Came> {
    let folder = folder.to_str().context("a folder's name")?;
    // A space within an argument has a stroke before it.
    let line = line.replace("\\ ", "\u{a0}");
    let words: Vec<String> = line
        .split(' ')
        .map(|word| word.replace("DIR", folder).replace("N-", &format!("{prefix}-")).replace('\u{a0}', " "))
        .map(|word| if word == "N" { prefix.to_owned() } else { word.replace("label=N", &format!("label={prefix}")) })
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = fleet.client("docker", &words);
    command.env("DOCKER_HOST", host).env("DOCKER_CONFIG", format!("{folder}/config")).env("DOCKER_BUILDKIT", "0");
    command.env("DOCKER_CONTENT_TRUST_ROOT_PASSPHRASE", "for-a-test");
    command.env("DOCKER_CONTENT_TRUST_REPOSITORY_PASSPHRASE", "for-a-test");
    let output = command.output()?;
    let says = text(&output.stderr).replace(folder, "DIR").replace(&format!("{prefix}-"), "N-");
    let says = says.split_whitespace().map(|word| {
        let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_id = core.len() >= 12 && core.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_id { word.replace(core, "ID") } else { word.to_owned() }
    });
    let says = says.collect::<Vec<_>>().join(" ");
    // What an engine warns of itself is its own.
    let says = if output.status.success() { String::new() } else { says };
    Ok(Came { code: output.status.code(), prints: !output.stdout.is_empty(), says })
}
