use std::{
    fmt::Write,
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinSet,
};

use crate::{
    Engine, Shape, Step,
    serve::{Socket, serve},
};

/// Where engines listen.
#[derive(Debug, Clone)]
pub enum Listen {
    /// At 127.X.Y.Z, from the given second byte on, each engine an address of its own, all at one port.
    Tcp(u8, u16),
    /// In this folder, a Unix socket each.
    Unix(PathBuf),
}

/// A fleet of simulated engines. They end when it is dropped.
#[derive(Debug)]
pub struct Sim {
    engines: Vec<Arc<Engine>>,
    endpoints: Vec<String>,
    tasks: JoinSet<()>,
}

impl Sim {
    /// Starts an engine for every shape, numbered from `first` on. The same seed makes the same fleet.
    ///
    /// # Errors
    /// If an address or a file cannot be had.
    pub async fn start(seed: u64, first: usize, shapes: Vec<Shape>, listen: &Listen) -> io::Result<Self> {
        let mut sim = Self { engines: Vec::new(), endpoints: Vec::new(), tasks: JoinSet::new() };
        for (number, shape) in (first..).zip(shapes) {
            let (socket, endpoint) = bind(listen, number).await?;
            let engine = Arc::new(Engine::new(number, seed, shape));
            sim.tasks.spawn(serve(Arc::clone(&engine), socket));
            sim.engines.push(engine);
            sim.endpoints.push(endpoint);
        }
        Ok(sim)
    }

    /// The engines, by their numbers.
    pub fn engines(&self) -> &[Arc<Engine>] {
        &self.engines
    }

    /// Where the engines are, in their order: `ADDRESS:PORT`, or `unix://PATH`.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Writes where the engines are into a file, one per line, for a manager's discovery.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_discovery(&self, path: &Path) -> io::Result<()> {
        let mut text = String::new();
        for endpoint in &self.endpoints {
            // A String takes whatever is written.
            writeln!(text, "{endpoint}").ok();
        }
        std::fs::write(path, text)
    }

    /// Goes through a schedule of faults, and returns when it is done.
    pub async fn follow(&self, schedule: Vec<Step>) {
        for step in schedule {
            tokio::time::sleep(step.after).await;
            if let Some(engine) = self.engines.iter().find(|engine| engine.number == step.engine) {
                engine.set_faults(step.faults);
            }
        }
    }
}

async fn bind(listen: &Listen, number: usize) -> io::Result<(Socket, String)> {
    match listen {
        Listen::Tcp(block, port) => {
            // 250 to a block of 256: no address ends in .0 or .255.
            let byte = |value: usize| u8::try_from(value % 256).unwrap_or(0);
            let address = Ipv4Addr::new(
                127,
                block.saturating_add(byte(number / 64_000)),
                byte(number / 250),
                byte(number % 250) + 1,
            );
            let socket = TcpListener::bind((address, *port)).await?;
            let port = socket.local_addr()?.port();
            Ok((Socket::Tcp(socket), format!("{address}:{port}")))
        }
        Listen::Unix(folder) => {
            let path = folder.join(format!("{number}.sock"));
            let socket = UnixListener::bind(&path)?;
            Ok((Socket::Unix(socket), format!("unix://{}", path.display())))
        }
    }
}
