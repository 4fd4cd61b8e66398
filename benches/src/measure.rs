//! Measurements: the engine and the fleet in turn.

use std::{fmt, time::Duration};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use http::{HeaderValue, Method, header};
use serde_json::{Value, json};
use tokio::time::Instant;
use wharf_engine::{Client, empty, full};

/// No single request may take longer.
const WITHIN: Duration = Duration::from_secs(60);

/// Requests that are not measured: connections are made, caches filled.
const WARM: usize = 50;

/// One line of the report.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    engine: Option<f64>,
    wharf: f64,
    unit: &'static str,
    /// The least and the most of the rounds of which the figure is the median.
    spread: Option<[f64; 2]>,
    goal: Option<Goal>,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    Least(f64),
    Most(f64),
    /// So much more than the engine's own.
    MostMore(f64),
}

impl Row {
    /// A figure of the manager alone.
    pub(crate) fn single(what: &str, wharf: f64, unit: &'static str) -> Self {
        Self { what: what.to_owned(), engine: None, wharf, unit, spread: None, goal: None }
    }

    /// A figure of the manager, and the same of an engine.
    pub(crate) fn pair(what: &str, engine: f64, wharf: f64, unit: &'static str) -> Self {
        Self { engine: Some(engine), ..Self::single(what, wharf, unit) }
    }

    /// The median of several rounds, with its spread.
    pub(crate) fn median(what: &str, figures: &[f64], unit: &'static str) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let spread = Some([at(0), at(sorted.len().saturating_sub(1))]);
        Self { spread, ..Self::single(what, at(sorted.len() / 2), unit) }
    }

    pub(crate) fn with_goal(self, goal: Goal) -> Self {
        Self { goal: Some(goal), ..self }
    }

    fn is_met(&self, goal: Goal) -> bool {
        match goal {
            Goal::Least(least) => self.wharf >= least,
            Goal::Most(most) => self.wharf <= most,
            Goal::MostMore(most) => self.wharf - self.engine.unwrap_or(0.0) <= most,
        }
    }

    /// Of a simulated fleet: which, the figure and its unit, if it is this one.
    pub(crate) fn of_fleet(&self, what: &str) -> Option<(&str, f64, &'static str)> {
        let (fleet, rest) = self.what.split_once(": ")?;
        (rest == what).then_some((fleet, self.wharf, self.unit))
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "what": self.what,
            "engine": self.engine,
            "wharf": self.wharf,
            "unit": self.unit,
            "spread": self.spread,
            "goal": self.goal.map(|goal| goal.to_string()),
            "met": self.goal.map(|goal| self.is_met(goal)),
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = |value: f64| format!("{value:.2} {}", self.unit).trim_end().to_owned();
        write!(f, "{:<44} ", self.what)?;
        match self.engine {
            Some(engine) => {
                let difference = format!("{:+.2} {}", self.wharf - engine, self.unit);
                write!(f, "{:>12} {:>12} {difference:>12}", figure(engine), figure(self.wharf))?;
            }
            None => write!(f, "{:>12} {:>12}", "", figure(self.wharf))?,
        }
        if let Some([least, most]) = self.spread {
            write!(f, "  ({least:.2} to {most:.2})")?;
        }
        if let Some(goal) = self.goal {
            write!(f, "  goal {goal}: {}", if self.is_met(goal) { "met" } else { "MISSED" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Least(figure) => write!(f, "≥ {figure}"),
            Self::Most(figure) => write!(f, "≤ {figure}"),
            Self::MostMore(figure) => write!(f, "≤ +{figure}"),
        }
    }
}

/// `POST` with a JSON body; the answer.
pub(crate) async fn post(client: &Client, path: &str, body: &str) -> anyhow::Result<Value> {
    let mut request = client.request(Method::POST, path, full(body.to_owned()))?;
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let answer = client.call(request, WITHIN).await?;
    Ok(if answer.is_empty() { Value::Null } else { serde_json::from_slice(&answer)? })
}

/// The same request to the engine and to the fleet, in turn.
pub(crate) async fn latency(
    what: &str,
    path: &str,
    engine: &Client,
    fleet: &Client,
    count: usize,
) -> anyhow::Result<Vec<Row>> {
    let mut times = [Vec::with_capacity(count), Vec::with_capacity(count)];
    for number in 0..count + WARM {
        for (client, times) in [engine, fleet].into_iter().zip(&mut times) {
            let began = Instant::now();
            client.get(path, WITHIN).await?;
            if number >= WARM {
                times.push(began.elapsed());
            }
        }
    }
    let [of_engine, of_wharf] = &mut times;
    let mut row = |part: f64, name: &str| {
        Row::pair(&format!("{what}, {name}"), percentile(of_engine, part), percentile(of_wharf, part), "ms")
    };
    Ok(vec![row(0.5, "p50"), row(0.99, "p99")])
}

/// The time, in milliseconds, that such a part of all stays below.
pub(crate) fn percentile(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    let index = (times.len().saturating_sub(1) as f64 * part) as usize;
    times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

/// Containers created per second, by so many clients at once: on one engine, and on all of them in turn; directly, and through
/// the manager. All engines share this machine: three of them are not three times as fast.
pub(crate) async fn creates(
    clients: usize,
    count: usize,
    engines: &[Client],
    fleet: &Client,
) -> anyhow::Result<Vec<Row>> {
    let fleet = std::slice::from_ref(fleet);
    let pinned = "{\"Image\":\"busybox\",\"Cmd\":[\"true\"],\"Env\":[\"constraint:node==node1\"]}";
    let anywhere = "{\"Image\":\"busybox\",\"Cmd\":[\"true\"]}";
    // The first creates of an engine are slower, and images travel: nobody is measured with that.
    round(clients, clients * 12, fleet, anywhere).await?;
    let one_direct = round(clients, count, &engines[..1], anywhere).await?;
    let one = round(clients, count, fleet, pinned).await?;
    let all_direct = round(clients, count, engines, anywhere).await?;
    let all = round(clients, count, fleet, anywhere).await?;
    let plural = if clients == 1 { "client" } else { "clients" };
    let row = |what: &str, direct, wharf| {
        Row::pair(&format!("creates per second, {clients} {plural}, {what}"), direct, wharf, "/s")
    };
    Ok(vec![row("one node", one_direct, one), row("three nodes", all_direct, all)])
}

/// Creates containers by so many clients at once, on the endpoints in turn; how many per second.
async fn round(clients: usize, count: usize, endpoints: &[Client], body: &str) -> anyhow::Result<f64> {
    let began = Instant::now();
    let each = count / clients;
    let made = try_join_all((0..clients).map(|first| async move {
        let mut ids = Vec::new();
        for number in 0..each {
            let client = &endpoints[(first + number) % endpoints.len()];
            let made = post(client, "/v1.41/containers/create", body).await?;
            ids.push((client, made["Id"].as_str().context("a container's id")?.to_owned()));
        }
        anyhow::Ok(ids)
    }));
    let made: Vec<_> = made.await?.into_iter().flatten().collect();
    let took = began.elapsed();
    ensure!(made.len() == each * clients, "{} of {} containers were made", made.len(), each * clients);
    for (client, id) in &made {
        let request = client.request(Method::DELETE, &format!("/v1.41/containers/{id}?force=1"), empty())?;
        client.call(request, WITHIN).await?;
    }
    Ok(made.len() as f64 / took.as_secs_f64())
}
