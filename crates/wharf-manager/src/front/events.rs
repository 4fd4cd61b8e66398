//! The engines' events as one stream: what was, merged by time, and then what is.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use http::{Method, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use wharf_engine::{Body, BodyError, wire};
use wharf_model::{Node, Timestamp};

use super::call::{App, Call};
use crate::{
    API_NEWEST, Error,
    fleet::{self, NodeEvent},
    view::events::{EventQuery, of_fleet, render},
};

/// Engines keep their last few hundred events in memory.
const PAST_WITHIN: Duration = Duration::from_secs(10);

/// A stream under way.
struct Live {
    query: EventQuery,
    receiver: Receiver<Arc<NodeEvent>>,
    /// Events that were told as past, and arrive live as well.
    told: HashSet<Bytes>,
    until: Option<tokio::time::Instant>,
}

/// `GET /events`
pub(crate) async fn stream(call: Call) -> Result<Response<Body>, Error> {
    let query = EventQuery::parse(&call.query()?)?;
    let now = fleet::now();
    // Subscribe before looking back: nothing falls in between.
    let receiver = call.app.fleet.hub().subscribe();
    let past = match query.since {
        Some(since) => past(&call.app, &query, since, query.until.unwrap_or(now).min(now)).await,
        None => Vec::new(),
    };
    let told = past.iter().cloned().collect();
    let until = query.until.map(|until| tokio::time::Instant::now() + now.until(until));
    let live = stream::unfold(Live { query, receiver, told, until }, |mut live| async move {
        live.next().await.map(|event| (event, live))
    });
    // An empty frame sends the answer's head at once: clients wait for it before they do what they want to see.
    let head = stream::once(std::future::ready(Bytes::new()));
    let frames = head.chain(stream::iter(past)).chain(live).map(|event| Ok::<_, BodyError>(Frame::data(event)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}

impl Live {
    /// The next event that is asked for; `None` when the time is up, or the client too slow to be told everything.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let event = match self.until {
                Some(until) => tokio::time::timeout_at(until, self.receiver.recv()).await.ok()?,
                None => self.receiver.recv().await,
            };
            let event = match event {
                Ok(event) => event,
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!("a subscriber to events is {missed} behind: it is cut off rather than told half");
                    return None;
                }
            };
            if !self.query.matches(&event.event, event.node.as_deref()) {
                continue;
            }
            let line = render(&event.event, event.node.as_deref());
            if !self.told.remove(&line) {
                return Some(line);
            }
        }
    }
}

/// What the engines that answer remember, in the order of time.
async fn past(app: &App, query: &EventQuery, since: Timestamp, until: Timestamp) -> Vec<Bytes> {
    let snapshot = app.fleet.snapshot();
    let asked = snapshot.nodes().filter(|node| node.is_healthy()).map(|node| of_node(app, node, query, since, until));
    let mut events: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    events.sort_by_key(|(time, _)| *time);
    events.into_iter().map(|(_, line)| line).collect()
}

async fn of_node(
    app: &App,
    node: &Node,
    query: &EventQuery,
    since: Timestamp,
    until: Timestamp,
) -> Vec<(Timestamp, Bytes)> {
    let Some(link) = app.fleet.link(node.id) else { return Vec::new() };
    let path = link.path(API_NEWEST, &format!("/events?since={since}&until={until}"));
    let body = match link.call(Method::GET, &path, None, PAST_WITHIN).await {
        Ok(body) => body,
        Err(error) => {
            tracing::warn!("the past events of {} are missing: {error}", node.name);
            return Vec::new();
        }
    };
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let snapshot = app.fleet.snapshot();
    let events = lines.filter_map(|line| wire::event(line).ok()).filter(|event| !event.is_of_agent());
    let events = events.filter_map(|event| of_fleet(event, node, &snapshot));
    let events = events.filter(|event| query.matches(event, Some(node)));
    events.map(|event| (event.time, render(&event, Some(node)))).collect()
}
