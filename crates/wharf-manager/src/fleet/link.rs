//! The way to one node's engine.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::Instant,
};
use wharf_engine::{Body, Client, Error, empty, full, wire::Touched};
use wharf_model::{ApiVersion, Class, ContainerId, NodeId};

/// A request that takes longer than this makes us ask whether its engine is there at all.
const IMPATIENCE: Duration = Duration::from_millis(150);

/// A request that an engine may still carry out is not given up at its first sign of weakness: under a burst it is often only
/// busy, and what is done twice makes it busier.
const PATIENCE: Duration = Duration::from_millis(600);

/// How long a change may take to be read back before its author is answered anyway.
const OBSERVE_WITHIN: Duration = Duration::from_secs(5);

/// Between two attempts to have read back what its author no longer waits for.
const OBSERVE_AGAIN: Duration = Duration::from_secs(1);

/// Reads that may wait for a node's watcher; who asks for one more waits.
pub(super) const OBSERVATIONS: usize = 1024;

/// Somebody changed something and waits until the state knows it.
#[derive(Debug)]
pub(super) struct Observation {
    pub(super) touched: Touched,
    /// It did not exist before: any look at it that finds it is new enough.
    pub(super) new: bool,
    pub(super) done: oneshot::Sender<()>,
}

/// The API versions that an engine speaks, the oldest and the newest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Versions {
    pub(super) oldest: ApiVersion,
    pub(super) newest: ApiVersion,
}

/// How many of the fleet's engines are slow to answer just now: mostly none, and then nobody has to look for them. Cheap to
/// clone.
#[derive(Debug, Clone, Default)]
pub(super) struct SuspectCount(Arc<AtomicUsize>);

/// The way to one node's engine. It knows whether the engine answers, and gives up a request when it stops to.
#[derive(Debug)]
pub(crate) struct Link {
    node: NodeId,
    client: Client,
    up: watch::Sender<Option<Versions>>,
    suspect: watch::Sender<bool>,
    suspects: SuspectCount,
    doubt: Notify,
    heard: Mutex<Instant>,
    observations: mpsc::Sender<Observation>,
}

impl Link {
    pub(super) fn new(
        node: NodeId,
        client: Client,
        observations: mpsc::Sender<Observation>,
        suspects: SuspectCount,
    ) -> Self {
        Self {
            node,
            client,
            up: watch::channel(None).0,
            suspect: watch::channel(false).0,
            suspects,
            doubt: Notify::new(),
            heard: Mutex::new(Instant::now()),
            observations,
        }
    }

    /// The node it leads to.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// The engine's API, without a look at whether it is up.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The engine answers and speaks these versions.
    pub(super) fn set_up(&self, versions: Versions) {
        self.set_suspect(false);
        self.up.send_replace(Some(versions));
    }

    /// The engine does not answer: requests under way are given up.
    pub(super) fn set_down(&self) {
        self.up.send_replace(None);
    }

    /// The engine is slow to answer just now, or is so no more.
    pub(super) fn set_suspect(&self, suspect: bool) {
        self.suspect.send_if_modified(|known| {
            let changed = std::mem::replace(known, suspect) != suspect;
            if changed {
                self.suspects.count(suspect);
            }
            changed
        });
    }

    /// Whether the engine is slow to answer just now, and had better not be given new work.
    pub(crate) fn is_suspect(&self) -> bool {
        *self.suspect.borrow()
    }

    /// Waits until the engine has been slow to answer for a while, and `also` holds at that moment.
    pub(crate) async fn suspected_while(&self, also: impl Fn() -> bool) {
        let mut suspect = self.suspect.subscribe();
        loop {
            // It ends with an error only together with the link.
            suspect.wait_for(|suspect| *suspect && also()).await.ok();
            let cleared = tokio::time::timeout(PATIENCE, suspect.wait_for(|suspect| !suspect)).await;
            if cleared.is_err() && also() {
                return;
            }
        }
    }

    /// Something was heard from the engine, on whatever connection.
    pub(super) fn note_heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// When something was last heard from it.
    pub(super) fn heard(&self) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody doubts that the engine is there.
    pub(super) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// `/v1.41` and `rest`: the version nearest to `wanted` that the engine speaks.
    pub(crate) fn path(&self, wanted: ApiVersion, rest: &str) -> String {
        let spoken = match *self.up.borrow() {
            Some(versions) => wanted.clamp(versions.oldest, versions.newest),
            None => wanted,
        };
        format!("/v{spoken}{rest}")
    }

    /// Whether the engine speaks this version of the API, as far as is known.
    pub(crate) fn speaks(&self, version: ApiVersion) -> bool {
        self.up.borrow().is_none_or(|versions| version <= versions.newest)
    }

    /// Sends a request and gives the head of the answer; given up when the engine is found not to answer.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        self.unless_down(self.client.send(request)).await
    }

    /// Sends a request and reads the whole answer, in at most `within`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        within: Duration,
    ) -> Result<Bytes, Error> {
        let json = body.is_some();
        let mut request = self.client.request(method, path, body.map_or_else(empty, full))?;
        if json {
            let kind = http::HeaderValue::from_static("application/json");
            request.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        }
        self.unless_down(self.client.call(request, within)).await
    }

    /// Has a thing read again and waits until every new snapshot shows it as it is now.
    pub(crate) async fn observe(&self, touched: Touched) {
        if !self.observed(touched, false).await {
            tracing::warn!(node = self.node.0, ?touched, "a change could not be read back just now");
        }
    }

    /// The same, and keeps what holds a name, a place or an address for it until then; longer than the caller waits if it must.
    pub(crate) async fn observe_holding(self: &Arc<Self>, touched: Touched, held: impl Send + 'static) {
        self.observed_holding(touched, false, held).await;
    }

    /// The same for a container that was created just now. Its engine has told of it by then, as a rule, and it is being read
    /// already.
    pub(crate) async fn observe_new_holding(self: &Arc<Self>, id: ContainerId, held: impl Send + 'static) {
        self.observed_holding(Touched::Container(id), true, held).await;
    }

    async fn observed_holding(self: &Arc<Self>, touched: Touched, new: bool, held: impl Send + 'static) {
        if self.observed(touched, new).await {
            return;
        }
        // Until it has been read, or its node has left the fleet: what is there must not be promised to anybody else.
        tracing::warn!(
            node = self.node.0,
            ?touched,
            "a change could not be read back just now; what was promised to it is kept"
        );
        let link = Arc::clone(self);
        tokio::spawn(async move {
            while !link.observed(touched, new).await && !link.observations.is_closed() {
                tokio::time::sleep(OBSERVE_AGAIN).await;
            }
            drop(held);
        });
    }

    /// Whether it was read back in time.
    async fn observed(&self, touched: Touched, new: bool) -> bool {
        let (done, wait) = oneshot::channel();
        let observe = async {
            // An error means that the engine went away: the state says so then.
            self.observations.send(Observation { touched, new, done }).await.is_ok() && wait.await.is_ok()
        };
        tokio::time::timeout(OBSERVE_WITHIN, observe).await.unwrap_or(false)
    }

    async fn unless_down<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut up = self.up.subscribe();
        let endpoint = self.client.endpoint().clone();
        let down = |unsent| Error::Unreachable { endpoint, unsent, source: "it does not answer".into() };
        if up.borrow_and_update().is_none() {
            return Err(down(true));
        }
        let doubt = async {
            loop {
                tokio::time::sleep(IMPATIENCE).await;
                self.doubt.notify_one();
            }
        };
        tokio::select! {
            answer = call => {
                if !answer.as_ref().is_err_and(|error| error.class() == Class::Unavailable) {
                    self.note_heard();
                }
                answer
            }
            _ = up.wait_for(Option::is_none) => Err(down(false)),
            () = doubt => unreachable!("doubt never ends"),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.set_suspect(false);
    }
}

// === impl SuspectCount ===

impl SuspectCount {
    /// Whether no engine is slow to answer. One that has just become so may be missed, as it would have been a moment ago.
    pub(super) fn is_zero(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    fn count(&self, more: bool) {
        match more {
            true => self.0.fetch_add(1, Ordering::Relaxed),
            false => self.0.fetch_sub(1, Ordering::Relaxed),
        };
    }
}
