//! One engine's state, and what changes it.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    Dice, Faults,
    answer::Refusal,
    events::{Events, Line},
    networks::Joined,
    render,
};

/// What an engine is made of.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Containers that run on it from the beginning.
    pub containers: usize,
    /// Its processors.
    pub cpus: u32,
    /// Its memory in bytes.
    pub memory: u64,
    /// Its labels, `key=value`.
    pub labels: Vec<String>,
    /// The oldest and the newest API that it speaks.
    pub api: [(u16, u16); 2],
}

impl Default for Shape {
    /// 4 processors, 8 GiB, no containers, the API of Engine 20.10.
    fn default() -> Self {
        Self { containers: 0, cpus: 4, memory: 8 << 30, labels: Vec::new(), api: [(1, 12), (1, 41)] }
    }
}

/// A simulated engine.
#[derive(Debug)]
pub struct Engine {
    pub(crate) number: usize,
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) events: Events,
    pub(crate) faults: watch::Sender<Faults>,
    /// Raised to close all connections.
    pub(crate) boots: watch::Sender<u64>,
    /// Raised with every change: who waits for a container looks again.
    pub(crate) changes: watch::Sender<u64>,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) containers: BTreeMap<[u8; 32], Container>,
    pub(crate) networks: BTreeMap<String, Value>,
    pub(crate) volumes: BTreeMap<String, Value>,
    /// Names of images, and their ids.
    pub(crate) images: BTreeMap<String, String>,
    pub(crate) dice: Dice,
    requests: u64,
}

/// A simulated container: what cannot be computed from it when it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) exit_code: i64,
    /// Nanoseconds since 1970.
    pub(crate) created: i64,
    pub(crate) started: i64,
    pub(crate) finished: i64,
    /// The body of its create; `None` for one that was there from the beginning.
    pub(crate) config: Option<Arc<Value>>,
    /// The networks that it is on, by name.
    pub(crate) joined: BTreeMap<String, Joined>,
    /// What was put into it, by path.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Never started.
    Created,
    /// Runs.
    Running,
    /// Frozen.
    Paused,
    /// Ended.
    Exited,
}

impl State {
    /// Its name in Docker's API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Exited => "exited",
        }
    }
}

/// The containers of an engine, for tests to compare: names, and what they do.
pub type Containers = BTreeMap<String, State>;

/// The image that every engine has.
pub(crate) const IMAGE: &str = "busybox:latest";

impl Engine {
    pub(crate) fn new(number: usize, seed: u64, shape: Shape) -> Self {
        let mut dice = Dice::new(seed ^ (number as u64).wrapping_mul(0x5851_f42d_4c95_7f2d));
        let inside = Inside {
            containers: original(number, shape.containers, &mut dice),
            networks: crate::networks::predefined(&mut dice),
            volumes: BTreeMap::new(),
            // The same everywhere: it would have been pulled.
            images: [(IMAGE.to_owned(), render::hex(&Dice::new(1).id()))].into(),
            dice,
            requests: 0,
        };
        Self {
            number,
            name: format!("sim-{number}"),
            shape,
            events: Events::new(),
            faults: watch::channel(Faults::default()).0,
            boots: watch::channel(0).0,
            changes: watch::channel(0).0,
            inside: Mutex::new(inside),
        }
    }

    /// Its host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts these faults in the place of those it has.
    pub fn set_faults(&self, faults: Faults) {
        let refusing = faults.refusing;
        self.faults.send_replace(faults);
        if refusing {
            self.close_connections();
        }
    }

    /// It restarts, and comes back with so many new containers in the place of those it had.
    pub fn restart_with(&self, containers: usize) {
        let mut inside = self.inside();
        inside.containers = original(self.number, containers, &mut inside.dice);
        drop(inside);
        self.close_connections();
    }

    /// It restarts: all connections break.
    pub fn close_connections(&self) {
        self.boots.send_modify(|boots| *boots += 1);
    }

    /// Its containers.
    pub fn containers(&self) -> Containers {
        self.inside().containers.values().map(|container| (container.name.clone(), container.state)).collect()
    }

    /// How many requests it has had.
    pub fn requests(&self) -> u64 {
        self.inside().requests
    }

    /// Its networks, by name, as a client inspects them.
    pub fn networks(&self) -> BTreeMap<String, Value> {
        self.inside().networks.clone()
    }

    /// The addresses of one of its containers, by the name of the network: those it has, and those it is to have.
    pub fn addresses(&self, container: &str) -> BTreeMap<String, Ipv4Addr> {
        let inside = self.inside();
        let found = inside.containers.values().find(|found| found.name == container);
        let joined = found.into_iter().flat_map(|found| &found.joined);
        joined.filter_map(|(name, joined)| Some((name.clone(), joined.address.or_else(|| joined.asked())?))).collect()
    }

    /// A file that was put into one of its containers, while that runs.
    pub fn file(&self, container: &str, path: &str) -> Option<Vec<u8>> {
        let inside = self.inside();
        let found = inside.containers.values().find(|found| found.name == container);
        found.filter(|found| found.state == State::Running)?.files.get(path).cloned()
    }

    /// What one of its containers' labels says.
    pub fn label(&self, container: &str, key: &str) -> Option<String> {
        let inside = self.inside();
        let found = inside.containers.values().find(|found| found.name == container)?;
        Some(found.config.as_ref()?["Labels"][key].as_str()?.to_owned())
    }

    pub(crate) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds since 1970 by its clock.
    pub(crate) fn now(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX) + self.faults.borrow().clock_ahead_ms * 1_000_000
    }

    pub(crate) fn throw(&self, share: u16) -> bool {
        share > 0 && self.inside().dice.per_mille(share)
    }

    pub(crate) fn count_request(&self) {
        self.inside().requests += 1;
    }

    pub(crate) fn publish(&self, inside: &mut Inside, kind: &str, action: &str, id: &str, attributes: &Value) {
        let nanos = self.now();
        let text = json!({
            "status": action, "id": id, "from": attributes["image"],
            "Type": kind, "Action": action, "Actor": { "ID": id, "Attributes": attributes },
            "scope": "local", "time": nanos / 1_000_000_000, "timeNano": nanos,
        });
        self.events.publish(Line { nanos, text: format!("{text}\n") }, &self.faults.borrow(), &mut inside.dice);
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn of_container(&self, inside: &mut Inside, action: &str, id: &[u8; 32]) {
        let Some(container) = inside.containers.get(id) else { return };
        let mut attributes = json!({ "image": container.image(), "name": container.name });
        let labels = container.config.as_ref().and_then(|config| config["Labels"].as_object().cloned());
        attributes.as_object_mut().into_iter().for_each(|all| all.extend(labels.clone().unwrap_or_default()));
        if action == "die" {
            attributes["exitCode"] = json!(container.exit_code.to_string());
        }
        self.publish(inside, "container", action, &render::hex(id), &attributes);
    }

    pub(crate) fn create(&self, name: Option<&str>, body: Value) -> Result<String, Refusal> {
        let image = body["Image"].as_str().unwrap_or("").to_owned();
        let mut inside = self.inside();
        if inside.image(&image).is_none() {
            return Err(Refusal::not_found(format!("No such image: {image}")));
        }
        let id = inside.dice.id();
        let name = match name {
            Some(name) => name.trim_start_matches('/').to_owned(),
            None => format!("sim_{}", &render::hex(&id)[..10]),
        };
        if let Some((taken, _)) = inside.containers.iter().find(|(_, container)| container.name == name) {
            let taken = render::hex(taken);
            return Err(Refusal::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{taken}\"."
            )));
        }
        let created = self.now();
        let joined = inside.joins(&body)?;
        let config = Some(Arc::new(body));
        let files = BTreeMap::new();
        let state = State::Created;
        let container =
            Container { name, state, exit_code: 0, created, started: 0, finished: 0, config, joined, files };
        inside.containers.insert(id, container);
        self.of_container(&mut inside, "create", &id);
        Ok(render::hex(&id))
    }

    pub(crate) fn remove(&self, reference: &str, force: bool) -> Result<(), Refusal> {
        let mut inside = self.inside();
        let id = inside.find(reference)?;
        let up = matches!(inside.containers[&id].state, State::Running | State::Paused);
        if up && !force {
            return Err(Refusal::conflict(format!(
                "You cannot remove a running container {}. Stop the container before attempting removal or force remove",
                render::hex(&id)
            )));
        }
        if up {
            self.end(&mut inside, &id, 137);
        }
        self.of_container(&mut inside, "destroy", &id);
        inside.containers.remove(&id);
        Ok(())
    }

    fn end(&self, inside: &mut Inside, id: &[u8; 32], code: i64) {
        let now = self.now();
        if let Some(container) = inside.containers.get_mut(id) {
            container.state = State::Exited;
            container.exit_code = code;
            container.finished = now;
        }
        self.leave_all(inside, id);
        self.of_container(inside, "die", id);
    }

    /// `start`, `stop`, `kill`, `restart`, `pause`, `unpause`; whether it changed anything.
    pub(crate) fn act(&self, reference: &str, action: &str) -> Result<bool, Refusal> {
        let mut inside = self.inside();
        let id = inside.find(reference)?;
        let state = inside.containers[&id].state;
        let up = matches!(state, State::Running | State::Paused);
        let hex = render::hex(&id);
        match (action, state) {
            ("start", _) if up => return Ok(false),
            ("stop", _) if !up => return Ok(false),
            ("kill", _) if !up => {
                return Err(Refusal::conflict(format!("Cannot kill container: {hex}: Container {hex} is not running")));
            }
            ("pause", State::Running) => inside.set(&id, State::Paused),
            ("unpause", State::Paused) => inside.set(&id, State::Running),
            ("pause" | "unpause", _) => {
                return Err(Refusal::conflict(format!(
                    "Container {hex} cannot be {action}d as it is {}",
                    state.name()
                )));
            }
            ("start" | "restart", _) => {
                if up {
                    self.end(&mut inside, &id, 137);
                }
                self.enter_all(&mut inside, &id)?;
                let now = self.now();
                if let Some(container) = inside.containers.get_mut(&id) {
                    container.started = now;
                }
                inside.set(&id, State::Running);
                self.of_container(&mut inside, "start", &id);
            }
            _ => self.end(&mut inside, &id, 137),
        }
        if action != "start" {
            self.of_container(&mut inside, action, &id);
        }
        Ok(true)
    }

    pub(crate) fn rename(&self, reference: &str, name: &str) -> Result<(), Refusal> {
        let mut inside = self.inside();
        let id = inside.find(reference)?;
        if inside.containers.values().any(|container| container.name == name) {
            return Err(Refusal::conflict(format!("Conflict. The container name \"/{name}\" is already in use.")));
        }
        if let Some(container) = inside.containers.get_mut(&id) {
            container.name = name.to_owned();
        }
        self.of_container(&mut inside, "rename", &id);
        Ok(())
    }

    /// Takes in an image that somebody made.
    pub(crate) fn import(&self, name: &str) {
        let mut inside = self.inside();
        let id = render::hex(&inside.dice.id());
        inside.images.insert(name.to_owned(), id);
        self.publish(&mut inside, "image", "import", name, &json!({ "name": name }));
    }

    /// Unpacks the first file of an archive in a folder of a container.
    pub(crate) fn put(&self, reference: &str, folder: &str, archive: &[u8]) -> Result<(), Refusal> {
        let broken = || Refusal::invalid("unexpected EOF".to_owned());
        let (header, content) = archive.split_at_checked(512).ok_or_else(broken)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_matches(['\0', ' ']).to_owned();
        let size = usize::from_str_radix(&text(&header[124..136]), 8).map_err(|_| broken())?;
        let content = content.get(..size).ok_or_else(broken)?.to_vec();
        let mut inside = self.inside();
        let id = inside.find(reference)?;
        let path = format!("{}/{}", folder.trim_end_matches('/'), text(&header[..100]));
        inside.containers.entry(id).and_modify(|container| drop(container.files.insert(path, content)));
        Ok(())
    }

    pub(crate) fn create_volume(&self, body: &Value) -> Value {
        let mut inside = self.inside();
        let name = body["Name"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
        let name = name.unwrap_or_else(|| render::hex(&inside.dice.id()));
        let volume = render::volume(&name, body, self.now());
        let volume = inside.volumes.entry(name.clone()).or_insert(volume).clone();
        self.publish(&mut inside, "volume", "create", &name, &json!({ "driver": "local" }));
        volume
    }

    pub(crate) fn remove_volume(&self, name: &str) -> Result<(), Refusal> {
        let mut inside = self.inside();
        if inside.volumes.remove(name).is_none() {
            return Err(Refusal::not_found(format!("get {name}: no such volume")));
        }
        self.publish(&mut inside, "volume", "destroy", name, &json!({ "driver": "local" }));
        Ok(())
    }
}

impl Inside {
    /// A container by id, id prefix or name.
    pub(crate) fn find(&self, reference: &str) -> Result<[u8; 32], Refusal> {
        let missing = || Refusal::not_found(format!("No such container: {reference}"));
        if let Some(id) = render::unhex(reference) {
            return self.containers.contains_key(&id).then_some(id).ok_or_else(missing);
        }
        let name = reference.trim_start_matches('/');
        let named = self.containers.iter().find(|(_, container)| container.name == name);
        let prefixed = || {
            let mut found = self.containers.keys().filter(|id| render::hex(id).starts_with(reference));
            found.next().filter(|_| found.next().is_none())
        };
        named.map(|(id, _)| id).or_else(prefixed).copied().ok_or_else(missing)
    }

    /// The id of an image by name or id.
    pub(crate) fn image(&self, reference: &str) -> Option<&String> {
        let id = reference.strip_prefix("sha256:").unwrap_or(reference);
        let tagged = || self.images.get(&format!("{reference}:latest"));
        self.images.get(reference).or_else(tagged).or_else(|| self.images.values().find(|known| known.starts_with(id)))
    }

    fn set(&mut self, id: &[u8; 32], state: State) {
        if let Some(container) = self.containers.get_mut(id) {
            container.state = state;
        }
    }
}

impl Container {
    pub(crate) fn image(&self) -> &str {
        self.config.as_ref().and_then(|config| config["Image"].as_str()).unwrap_or("busybox")
    }
}

/// The containers that an engine has from the beginning: they run, with a few labels.
fn original(number: usize, count: usize, dice: &mut Dice) -> BTreeMap<[u8; 32], Container> {
    // A fixed moment: the same seed makes the same containers.
    const BEGAN: i64 = 1_700_000_000_000_000_000;
    let container = |index: usize| {
        let created = BEGAN + i64::try_from(number * 1000 + index).unwrap_or(0) * 1_000_000_000;
        Container {
            name: format!("c{number}-{index}"),
            state: State::Running,
            exit_code: 0,
            created,
            started: created + 300_000_000,
            finished: 0,
            config: None,
            joined: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    };
    (0..count).map(|index| (dice.id(), container(index))).collect()
}
