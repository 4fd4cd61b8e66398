//! Bringing an image to the node that is to run it, from a node that has it: streamed from engine to engine.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use http::{HeaderValue, Method, header};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::Instant;
use wharf_engine::{Body, collect, empty, wire::Touched};
use wharf_model::{ByteSize, ImageId, Node, NodeId};

use super::{answer::of_engine, call::App};
use crate::{API_NEWEST, Error, lines, view::images::FleetImage};

/// Progress is told this often.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// What `load` answers: a few lines.
const LOAD_ANSWER_LIMIT: usize = 1 << 20;

/// A tag is quick.
const TAG_WITHIN: Duration = Duration::from_secs(30);

/// Transfers under way: two creates that want the same image on the same node wait for one transfer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Transfers(Arc<Mutex<Turns>>);

/// Whose turn it is, per node and image.
type Turns = HashMap<(NodeId, ImageId), Arc<tokio::sync::Mutex<()>>>;

impl Transfers {
    /// Makes sure that `reference` means `image` on a node.
    ///
    /// # Errors
    /// [`wharf_model::Class::Unavailable`] if no node that has the image can give it; the target's refusal.
    pub(crate) async fn ensure(
        &self,
        app: &App,
        target: &Node,
        image: &FleetImage,
        reference: &str,
    ) -> Result<(), Error> {
        if has(app, target.id, image, reference) == Has::Named {
            return Ok(());
        }
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry((target.id, image.id)).or_default())
        };
        let _turn = turn.lock().await;
        match has(app, target.id, image, reference) {
            Has::Named => return Ok(()),
            Has::Unnamed => name(app, target, image, reference).await?,
            Has::Nothing => transfer(app, target, image, reference).await?,
        }
        app.link(target, "the image")?.observe(Touched::Images).await;
        match has(app, target.id, image, reference) {
            Has::Named => Ok(()),
            _ => Err(Error::internal(format!("{} has no image {reference} after it was brought there", target.name))),
        }
    }
}

/// What a node has of an image.
#[derive(Debug, PartialEq, Eq)]
enum Has {
    /// The image, by this reference.
    Named,
    /// The image, but the reference means nothing or another one there.
    Unnamed,
    /// Not the image.
    Nothing,
}

fn has(app: &App, node: NodeId, image: &FleetImage, reference: &str) -> Has {
    let snapshot = app.fleet.snapshot();
    let Some(here) = snapshot.node(node).and_then(|node| node.images.get(&image.id)) else { return Has::Nothing };
    match crate::view::images::tag(reference) {
        Some(tag) if !here.tags.iter().any(|known| **known == *tag) => Has::Unnamed,
        _ => Has::Named,
    }
}

async fn name(app: &App, target: &Node, image: &FleetImage, reference: &str) -> Result<(), Error> {
    let Some(tag) = crate::view::images::tag(reference) else { return Ok(()) };
    let Some((repository, tag)) = tag.rsplit_once(':') else { return Ok(()) };
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let link = app.link(target, "the image")?;
    let path = format!("/images/{}/tag?repo={}&tag={}", image.id, encode(repository), encode(tag));
    let named = link.call(Method::POST, &link.path(API_NEWEST, &path), None, TAG_WITHIN).await;
    named.map(drop).map_err(|error| of_engine(&error, target))
}

/// Streams the image from one of its holders to the target.
async fn transfer(app: &App, target: &Node, image: &FleetImage, reference: &str) -> Result<(), Error> {
    let snapshot = app.fleet.snapshot();
    let mut failure = Error::unavailable(format!("image {reference} is only on nodes that do not answer"));
    for holder in image.holders.iter().filter_map(|id| snapshot.node(*id)).filter(|node| node.is_healthy()) {
        match stream(app, holder, target, image, reference).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                tracing::warn!(
                    "image {reference} could not be brought from {} to {}: {error}",
                    holder.name,
                    target.name
                );
                failure = error;
            }
        }
    }
    Err(failure)
}

async fn stream(app: &App, holder: &Node, target: &Node, image: &FleetImage, reference: &str) -> Result<(), Error> {
    let (from, to) = (app.link(holder, "the image")?, app.link(target, "the image")?);
    // By name, so that the name travels along; unless the holder has another image by that name.
    let named = has(app, holder.id, image, reference) == Has::Named;
    let what = crate::view::images::tag(reference).filter(|_| named).unwrap_or_else(|| image.id.to_string());
    let path = format!("/images/get?names={}", utf8_percent_encode(&what, NON_ALPHANUMERIC));
    let request = from.client().request(Method::GET, &from.path(API_NEWEST, &path), empty());
    let saved = from.send(request.map_err(|error| of_engine(&error, holder))?).await;
    let saved = saved.map_err(|error| of_engine(&error, holder))?;
    if !saved.status().is_success() {
        return Err(Error::unavailable(format!("{} cannot give image {reference}: {}", holder.name, saved.status())));
    }
    let progress = Progress::new(format!("image {reference}: {} → {}", holder.name, target.name));
    let counted = Arc::clone(&progress.sent);
    let frames = BodyStream::new(saved.into_body()).map(move |frame| {
        if let Some(data) = frame.as_ref().ok().and_then(|frame| frame.data_ref()) {
            counted.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        frame.map_err(wharf_engine::BodyError::from)
    });
    let body: Body = StreamBody::new(frames).boxed_unsync();
    let request = to.client().request(Method::POST, &to.path(API_NEWEST, "/images/load?quiet=1"), body);
    let mut request = request.map_err(|error| of_engine(&error, target))?;
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    let load = async {
        let loaded = to.send(request).await.map_err(|error| of_engine(&error, target))?;
        let status = loaded.status();
        let answer = collect(loaded.into_body(), LOAD_ANSWER_LIMIT).await;
        let answer = answer.map_err(|error| Error::unavailable(format!("{} broke off: {error}", target.name)))?;
        let answer = answer.map_err(|_| Error::internal(format!("{} said too much about an image", target.name)))?;
        match lines::failure(&answer) {
            None if status.is_success() => Ok(()),
            message => Err(Error::internal(format!(
                "{} cannot take image {reference}: {}",
                target.name,
                message.unwrap_or_else(|| status.to_string())
            ))),
        }
    };
    progress.told_during(load).await?;
    if !named {
        name(app, target, image, reference).await?;
    }
    Ok(())
}

/// Tells how far a transfer is.
struct Progress {
    what: String,
    sent: Arc<AtomicU64>,
    began: Instant,
}

impl Progress {
    fn new(what: String) -> Self {
        tracing::info!("{what}");
        Self { what, sent: Arc::default(), began: Instant::now() }
    }

    async fn told_during<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut tick = tokio::time::interval_at(self.began + TELL_EVERY, TELL_EVERY);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = work.as_mut() => {
                    if done.is_ok() {
                        tracing::info!("{}: {} in {:.1?}", self.what, self.sent(), self.began.elapsed());
                    }
                    return done;
                }
                _ = tick.tick() => tracing::info!("{}: {} so far", self.what, self.sent()),
            }
        }
    }

    fn sent(&self) -> ByteSize {
        ByteSize(self.sent.load(Ordering::Relaxed))
    }
}
