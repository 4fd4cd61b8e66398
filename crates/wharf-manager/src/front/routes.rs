//! One row per operation of the Docker Engine API, in the order of its reference.

use std::{future::Future, pin::Pin};

use http::{Method, Response};
use wharf_engine::Body;
use wharf_model::Class;

use super::{
    archive, build, call::Call, containers, doctor, events, everywhere, explain, images, local, networks, nodes, owner,
    pattern::Pattern, place, plugins, pull, registry, volumes,
};
use crate::Error;

/// What a handler gives.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

/// Answers a request.
pub(crate) type Handler = fn(Call) -> Answering;

/// Who answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// The manager, of itself.
    Local(Handler),
    /// The manager, of what it knows of the fleet.
    Snapshot(Handler),
    /// The engine that has the container, exec, network or volume.
    Owner(Handler),
    /// An engine that has the image.
    AnyHolder(Handler),
    /// Several engines, their answers folded into one.
    Every(Handler),
    /// The engine of a node that is chosen for it.
    Place(Handler),
    /// Nobody: the class and the reason are told.
    Refuse(Class, &'static str),
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) method: &'static Method,
    pub(crate) path: &'static str,
    pub(crate) pattern: Pattern,
    pub(crate) answer: Answer,
}

/// The row that answers a request, and the name in its path.
pub(crate) fn find(method: &Method, path: &str) -> Option<(&'static Route, super::pattern::Captured)> {
    ROUTES
        .iter()
        .filter(|route| *route.method == *method)
        .filter_map(|route| route.pattern.matches(path).map(|captured| (route, captured)))
        .max_by_key(|(route, _)| route.pattern.exactness())
}

macro_rules! rows {
    ($($method:ident $path:literal $answer:ident ( $($argument:tt)* );)*) => {
        &[$(Route {
            method: &Method::$method,
            path: $path,
            pattern: Pattern::new($path),
            answer: answer!($answer $($argument)*),
        }),*]
    };
}

macro_rules! answer {
    (NoSwarm) => {
        Answer::Refuse(
            Class::Unavailable,
            "This node is not a swarm manager. Wharf runs plain containers over all of its nodes; it needs no swarm \
             services, and does not serve them.",
        )
    };
    ($answer:ident $handler:path) => {
        Answer::$answer(|call| Box::pin($handler(call)))
    };
}

pub(crate) const ROUTES: &[Route] = rows![
    // containers
    GET "/containers/json" Snapshot(containers::list);
    POST "/containers/create" Place(place::container);
    GET "/containers/{container}/json" Owner(containers::inspect);
    GET "/containers/{container}/top" Owner(owner::read);
    GET "/containers/{container}/logs" Owner(owner::read);
    GET "/containers/{container}/changes" Owner(owner::read);
    GET "/containers/{container}/export" Owner(owner::read);
    GET "/containers/{container}/stats" Owner(owner::read);
    POST "/containers/{container}/resize" Owner(owner::read);
    POST "/containers/{container}/start" Owner(owner::start);
    POST "/containers/{container}/stop" Owner(owner::change);
    POST "/containers/{container}/restart" Owner(owner::start);
    POST "/containers/{container}/kill" Owner(owner::change);
    POST "/containers/{container}/update" Owner(owner::change);
    POST "/containers/{container}/rename" Owner(containers::rename);
    POST "/containers/{container}/pause" Owner(owner::change);
    POST "/containers/{container}/unpause" Owner(owner::change);
    POST "/containers/{container}/attach" Owner(owner::read);
    GET "/containers/{container}/attach/ws" Owner(owner::read);
    POST "/containers/{container}/wait" Owner(owner::read);
    DELETE "/containers/{container}" Owner(owner::change);
    HEAD "/containers/{container}/archive" Owner(owner::read);
    GET "/containers/{container}/archive" Owner(owner::read);
    PUT "/containers/{container}/archive" Owner(owner::read);
    POST "/containers/prune" Every(everywhere::prune);
    // images
    GET "/images/json" Snapshot(images::list);
    POST "/build" Place(build::build);
    POST "/build/prune" Every(everywhere::prune_builds);
    POST "/images/create" Place(pull::create);
    GET "/images/{image}/json" AnyHolder(images::read);
    GET "/images/{image}/history" AnyHolder(images::read);
    POST "/images/{image}/push" AnyHolder(images::push);
    POST "/images/{image}/tag" Every(images::tag);
    DELETE "/images/{image}" Every(images::remove);
    GET "/images/search" Place(registry::ask);
    POST "/images/prune" Every(everywhere::prune);
    POST "/auth" Place(registry::login);
    // the system
    GET "/info" Snapshot(local::info);
    GET "/version" Local(local::version);
    GET "/_ping" Local(local::ping);
    HEAD "/_ping" Local(local::ping);
    POST "/commit" Owner(owner::commit);
    GET "/events" Every(events::stream);
    GET "/system/df" Every(everywhere::usage);
    GET "/images/{image}/get" AnyHolder(archive::save_one);
    GET "/images/get" AnyHolder(archive::save);
    POST "/images/load" Place(archive::load);
    POST "/containers/{container}/exec" Owner(owner::exec);
    POST "/exec/{exec}/start" Owner(owner::of_exec);
    POST "/exec/{exec}/resize" Owner(owner::of_exec);
    GET "/exec/{exec}/json" Owner(owner::of_exec);
    // volumes
    GET "/volumes" Snapshot(volumes::list);
    POST "/volumes/create" Place(volumes::create);
    GET "/volumes/{volume}" Owner(volumes::inspect);
    DELETE "/volumes/{volume}" Owner(volumes::remove);
    // Cluster volumes are Swarm's.
    PUT "/volumes/{volume}" NoSwarm();
    POST "/volumes/prune" Every(everywhere::prune_volumes);
    // networks
    GET "/networks" Snapshot(networks::list);
    GET "/networks/{network}" Owner(networks::inspect);
    DELETE "/networks/{network}" Owner(networks::remove);
    POST "/networks/create" Place(networks::create);
    POST "/networks/{network}/connect" Owner(networks::connect);
    POST "/networks/{network}/disconnect" Owner(networks::disconnect);
    POST "/networks/prune" Every(networks::prune);
    // plugins
    GET "/plugins" Every(plugins::list);
    GET "/plugins/privileges" Place(registry::plugin_privileges);
    POST "/plugins/pull" Place(plugins::pull);
    GET "/plugins/{plugin}/json" Owner(plugins::of_node);
    DELETE "/plugins/{plugin}" Owner(plugins::of_node);
    POST "/plugins/{plugin}/enable" Owner(plugins::of_node);
    POST "/plugins/{plugin}/disable" Owner(plugins::of_node);
    POST "/plugins/{plugin}/upgrade" Owner(plugins::of_node);
    POST "/plugins/create" Place(plugins::create);
    POST "/plugins/{plugin}/push" Owner(plugins::of_node);
    POST "/plugins/{plugin}/set" Owner(plugins::of_node);
    // swarm mode
    GET "/nodes" NoSwarm();
    GET "/nodes/{node}" NoSwarm();
    DELETE "/nodes/{node}" NoSwarm();
    POST "/nodes/{node}/update" NoSwarm();
    GET "/swarm" NoSwarm();
    POST "/swarm/init" NoSwarm();
    POST "/swarm/join" NoSwarm();
    POST "/swarm/leave" NoSwarm();
    POST "/swarm/update" NoSwarm();
    GET "/swarm/unlockkey" NoSwarm();
    POST "/swarm/unlock" NoSwarm();
    GET "/services" NoSwarm();
    POST "/services/create" NoSwarm();
    GET "/services/{service}" NoSwarm();
    DELETE "/services/{service}" NoSwarm();
    POST "/services/{service}/update" NoSwarm();
    GET "/services/{service}/logs" NoSwarm();
    GET "/tasks" NoSwarm();
    GET "/tasks/{task}" NoSwarm();
    GET "/tasks/{task}/logs" NoSwarm();
    GET "/secrets" NoSwarm();
    POST "/secrets/create" NoSwarm();
    GET "/secrets/{secret}" NoSwarm();
    DELETE "/secrets/{secret}" NoSwarm();
    POST "/secrets/{secret}/update" NoSwarm();
    GET "/configs" NoSwarm();
    POST "/configs/create" NoSwarm();
    GET "/configs/{config}" NoSwarm();
    DELETE "/configs/{config}" NoSwarm();
    POST "/configs/{config}/update" NoSwarm();
    // the rest
    GET "/distribution/{image}/json" Place(registry::ask);
    POST "/session" Place(build::buildkit);
    // Not in the reference: clients have them from the engine's source.
    POST "/grpc" Place(build::buildkit);
    POST "/build/cancel" Place(build::cancel);
    // Wharf's own
    GET "/wharf/nodes" Snapshot(nodes::list);
    GET "/wharf/nodes/{node}" Snapshot(nodes::inspect);
    POST "/wharf/nodes/{node}/labels" Local(nodes::label);
    GET "/wharf/doctor" Every(doctor::examine);
    POST "/wharf/tokens" Local(nodes::token);
    GET "/wharf/explain/{container}" Owner(explain::container);
    POST "/wharf/explain" Snapshot(explain::request);
];

#[cfg(test)]
mod tests;
