//! The host's own `iptables` programs: which of them the engine uses, reading a table, changing it as one.

use std::fs;
use std::io;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Child;

use crate::wire::host::Host;
use crate::wire::problem::Problem;
use crate::wire::rules::DOCKER_USER;
use crate::wire::table::Table;
use crate::wire::wish::Family;

/// How long a change waits for another program that holds the tables, in seconds.
const LOCK_WAIT_SECONDS: &str = "10";

/// The programs of one kind of table, by the name that `-save` and `-restore` are appended to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Program(&'static str);

/// What the host's administrator chose, then the two kinds that it can mean.
fn programs(family: Family) -> [Program; 3] {
    match family {
        Family::V4 => ["iptables", "iptables-nft", "iptables-legacy"].map(Program),
        Family::V6 => ["ip6tables", "ip6tables-nft", "ip6tables-legacy"].map(Program),
    }
}

/// The tables of the program that counts, and those of others that were looked at on the way.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) program: Program,
    /// Its table `filter`.
    pub(crate) filter: Table,
    /// Programs of another kind than the chosen, with their table `filter`.
    pub(crate) others: Vec<(Program, Table)>,
}

/// Finds the program whose tables the engine uses: the first whose table `filter` has the chain `DOCKER-USER`, or
/// else the first that there is.
pub(crate) async fn choose(host: &Host, family: Family) -> Result<Choice, Problem> {
    let mut seen: Vec<(Program, Table)> = Vec::new();
    let mut failure = Problem::NoFilterProgram;
    for program in programs(family) {
        // Asking the old program makes the tables that it asks for, so it is not asked where there are none.
        if program.is_old() && !seen.is_empty() && !old_tables_exist(family) {
            continue;
        }
        match program.save(host, "filter").await {
            Ok(filter) if filter.has(DOCKER_USER) => {
                let others = different(seen, &filter);
                return Ok(Choice { program, filter, others });
            }
            Ok(filter) => seen.push((program, filter)),
            Err(Problem::NoFilterProgram) => {}
            Err(problem) if seen.is_empty() => failure = problem,
            Err(_) => {}
        }
    }
    if seen.is_empty() {
        return Err(failure);
    }
    let (program, filter) = seen.remove(0);
    let others = different(seen, &filter);
    Ok(Choice { program, filter, others })
}

/// The tables that differ from the chosen one and from each other: `iptables` is one of the other two programs, so
/// that its tables show up twice.
fn different(seen: Vec<(Program, Table)>, chosen: &Table) -> Vec<(Program, Table)> {
    let mut others: Vec<(Program, Table)> = Vec::new();
    for (program, table) in seen {
        if table != *chosen && !others.iter().any(|(_, other)| *other == table) {
            others.push((program, table));
        }
    }
    others
}

/// Every program that there is and that has tables, for a cleanup that leaves none of them out.
pub(crate) async fn all(host: &Host, family: Family) -> Vec<Program> {
    let mut found = Vec::new();
    for program in programs(family) {
        let has_tables = !program.is_old() || old_tables_exist(family);
        if has_tables && program.save(host, "filter").await.is_ok() {
            found.push(program);
        }
    }
    found
}

fn old_tables_exist(family: Family) -> bool {
    // The thread's own folder: another thread of this process may be in another network namespace.
    let file = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    fs::read_to_string(file).is_ok_and(|names| !names.trim().is_empty())
}

impl Program {
    /// Whether it is for the kernel's tables of before nftables.
    fn is_old(self) -> bool {
        self.0.ends_with("-legacy")
    }

    /// Reads a table.
    pub(crate) async fn save(self, host: &Host, table: &'static str) -> Result<Table, Problem> {
        let name = format!("{}-save", self.0);
        let output = self.run(host, &name, &["-t", table], None).await;
        Ok(Table::parse(&output.map_err(|error| failed(&name, table, error))?))
    }

    /// Makes edits to a table: all of them, or, where it fails, none.
    pub(crate) async fn restore(self, host: &Host, table: &'static str, edits: &[String]) -> Result<(), Problem> {
        let name = format!("{}-restore", self.0);
        let input = format!("*{table}\n{}\nCOMMIT\n", edits.join("\n"));
        let output = self.run(host, &name, &["--noflush", "-w", LOCK_WAIT_SECONDS], Some(input)).await;
        output.map(drop).map_err(|error| failed(&name, table, error))
    }

    async fn run(self, host: &Host, name: &str, arguments: &[&str], input: Option<String>) -> io::Result<String> {
        let mut command = host.command(name)?;
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (fed, output) = tokio::join!(feed(child.stdin.take(), input), wait(child));
        let output = output?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<&str> = message.lines().filter(|line| !line.trim().is_empty()).collect();
            return Err(io::Error::other(format!("{} ({})", lines.join("; "), output.status)));
        }
        fed?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

async fn feed(stdin: Option<tokio::process::ChildStdin>, input: Option<String>) -> io::Result<()> {
    let (Some(mut stdin), Some(input)) = (stdin, input) else { return Ok(()) };
    stdin.write_all(input.as_bytes()).await?;
    stdin.shutdown().await
}

async fn wait(child: Child) -> io::Result<std::process::Output> {
    child.wait_with_output().await
}

fn failed(program: &str, table: &'static str, error: io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::NotFound => Problem::NoFilterProgram,
        _ => Problem::Filter { program: program.to_owned(), table, message: error.to_string() },
    }
}
