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
}

impl Row {
    /// A figure of the manager alone.
    pub(crate) fn single(what: &str, wharf: f64, unit: &'static str) -> Self {
        Self { what: what.to_owned(), engine: None, wharf, unit }
    }

    /// Of a simulated fleet: which, the figure and its unit, if it is this one.
    pub(crate) fn of_fleet(&self, what: &str) -> Option<(&str, f64, &'static str)> {
        let (fleet, rest) = self.what.split_once(": ")?;
        (rest == what).then_some((fleet, self.wharf, self.unit))
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "what": self.what, "engine": self.engine, "wharf": self.wharf, "unit": self.unit })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figure = |value: f64| format!("{value:.2} {}", self.unit);
        write!(f, "{:<44} ", self.what)?;
        match self.engine {
            Some(engine) => {
                let difference = format!("{:+.2} {}", self.wharf - engine, self.unit);
                write!(f, "{:>12} {:>12} {difference:>12}", figure(engine), figure(self.wharf))
            }
            None => write!(f, "{:>12} {:>12}", "", figure(self.wharf)),
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
    let mut row = |part: f64, name: &str| Row {
        what: format!("{what}, {name}"),
        engine: Some(percentile(of_engine, part)),
        wharf: percentile(of_wharf, part),
        unit: "ms",
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
    let row = |what: &str, direct, wharf| Row {
        what: format!("creates per second, {clients} {plural}, {what}"),
        engine: Some(direct),
        wharf,
        unit: "/s",
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
