//! The operations that are simulated.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::{Engine, State, answer::Refusal, render};

pub(crate) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// The largest body that is read.
const BODY_LIMIT: usize = 64 << 20;

/// What is asked.
struct Asked {
    method: Method,
    path: String,
    query: BTreeMap<String, String>,
    body: Bytes,
}

/// Whether a request changes anything.
pub(crate) fn changes(request: &Request<Incoming>) -> bool {
    *request.method() != Method::GET && *request.method() != Method::HEAD
}

/// Does what is asked, and answers.
pub(crate) async fn answer(engine: &Arc<Engine>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let read = http_body_util::Limited::new(body, BODY_LIMIT).collect().await;
    let Ok(body) = read.map(http_body_util::Collected::to_bytes) else {
        return refused(&Refusal::invalid("the body broke off".to_owned()));
    };
    let query = parts.uri.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty());
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let query =
        query.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(key, value)| (decode(key), decode(value)));
    let path = match versioned(engine, parts.uri.path()) {
        Ok(path) => decode(path),
        Err(refusal) => return refused(&refusal),
    };
    let asked = Asked { method: parts.method, path, query: query.collect(), body };
    route(engine, &asked).await.unwrap_or_else(|refusal| refused(&refusal))
}

/// Splits the version off.
fn versioned<'a>(engine: &Engine, path: &'a str) -> Result<&'a str, Refusal> {
    let Some(rest) = path.strip_prefix("/v") else { return Ok(path) };
    let Some((version, _)) = rest.split_once('/') else { return Ok(path) };
    let number = version.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let Some(number) = number else { return Ok(path) };
    let [oldest, newest] = engine.shape.api;
    if number > newest {
        let (major, minor) = newest;
        let message = format!("client version {version} is too new. Maximum supported API version is {major}.{minor}");
        return Err(Refusal::invalid(message));
    }
    if number < oldest {
        let (major, minor) = oldest;
        let message = format!("client version {version} is too old. Minimum supported API version is {major}.{minor}");
        return Err(Refusal::invalid(message));
    }
    Ok(&rest[version.len()..])
}

async fn route(engine: &Arc<Engine>, asked: &Asked) -> Result<Response<Body>, Refusal> {
    let segments: Vec<_> = asked.path.trim_start_matches('/').split('/').collect();
    match (asked.method.as_str(), &*segments) {
        ("GET" | "HEAD", ["_ping"]) => Ok(plain(StatusCode::OK, "OK")),
        ("GET", ["version"]) => Ok(json_answer(&render::version(engine))),
        ("GET", ["info"]) => Ok(json_answer(&render::info(engine))),
        ("GET", ["events"]) => Ok(events(engine, asked)),
        ("GET", ["containers", "json"]) => Ok(list(engine, asked)),
        ("POST", ["containers", "create"]) => {
            let body = parsed(&asked.body)?;
            let id = engine.create(asked.query.get("name").map(String::as_str), body)?;
            Ok(with_status(StatusCode::CREATED, &json!({ "Id": id, "Warnings": [] })))
        }
        ("GET", ["containers", id, "json"]) => {
            let inside = engine.inside();
            let id = inside.find(id)?;
            Ok(json_answer(&render::inspect(&id, &inside.containers[&id], &inside)))
        }
        ("POST", ["containers", id, "rename"]) => {
            engine.rename(id, asked.query.get("name").map_or("", String::as_str))?;
            Ok(plain(StatusCode::NO_CONTENT, ""))
        }
        ("POST", ["containers", id, "wait"]) => wait(engine, id).await,
        ("POST", ["containers", id, action @ ("start" | "stop" | "kill" | "restart" | "pause" | "unpause")]) => {
            let changed = engine.act(id, action)?;
            Ok(plain(if changed { StatusCode::NO_CONTENT } else { StatusCode::NOT_MODIFIED }, ""))
        }
        ("DELETE", ["containers", id]) => {
            engine.remove(id, asked.flag("force"))?;
            Ok(plain(StatusCode::NO_CONTENT, ""))
        }
        ("GET", ["containers", id, "logs"]) => {
            engine.inside().find(id)?;
            Ok(plain(StatusCode::OK, ""))
        }
        ("PUT", ["containers", id, "archive"]) => {
            engine.put(id, asked.query.get("path").map_or("/", String::as_str), &asked.body)?;
            Ok(plain(StatusCode::OK, ""))
        }
        ("POST", ["images", "create"]) if asked.query.contains_key("fromSrc") => {
            let part = |key| asked.query.get(key).map_or("", String::as_str);
            engine.import(&format!("{}:{}", part("repo"), part("tag")));
            Ok(typed(StatusCode::OK, "{\"status\":\"imported\"}\n".to_owned()))
        }
        ("GET", ["images", "json"]) => Ok(json_answer(&Value::Array(images(engine)))),
        ("GET", ["images", name @ .., "json"]) => image(engine, &name.join("/")),
        ("GET", ["networks"]) => Ok(json_answer(&engine.inside().networks.values().cloned().collect())),
        ("POST", ["networks", "create"]) => {
            let id = engine.create_network(&parsed(&asked.body)?)?;
            Ok(with_status(StatusCode::CREATED, &json!({ "Id": id, "Warning": "" })))
        }
        ("GET", ["networks", name]) => {
            let inside = engine.inside();
            Ok(json_answer(&inside.network_inspect(&inside.network(name)?)))
        }
        ("POST", ["networks", name, "connect"]) => {
            engine.connect(name, &parsed(&asked.body)?)?;
            Ok(plain(StatusCode::OK, ""))
        }
        ("POST", ["networks", name, "disconnect"]) => {
            engine.disconnect(name, &parsed(&asked.body)?)?;
            Ok(plain(StatusCode::OK, ""))
        }
        ("DELETE", ["networks", name]) => {
            engine.remove_network(name)?;
            Ok(plain(StatusCode::NO_CONTENT, ""))
        }
        ("GET", ["volumes"]) => {
            let volumes: Vec<_> = engine.inside().volumes.values().cloned().collect();
            Ok(json_answer(&json!({ "Volumes": volumes, "Warnings": null })))
        }
        ("POST", ["volumes", "create"]) => {
            Ok(with_status(StatusCode::CREATED, &engine.create_volume(&parsed(&asked.body)?)))
        }
        ("GET", ["volumes", name]) => {
            let found = engine.inside().volumes.get(*name).cloned();
            found
                .map(|volume| json_answer(&volume))
                .ok_or_else(|| Refusal::not_found(format!("get {name}: no such volume")))
        }
        ("DELETE", ["volumes", name]) => {
            engine.remove_volume(name)?;
            Ok(plain(StatusCode::NO_CONTENT, ""))
        }
        // The simulator's own: what is wrong with this engine from now on.
        ("PUT", ["_sim", "faults"]) => {
            let faults = serde_json::from_slice(&asked.body).map_err(|error| Refusal::invalid(error.to_string()))?;
            engine.set_faults(faults);
            Ok(plain(StatusCode::NO_CONTENT, ""))
        }
        _ => Err(Refusal::not_found("page not found".to_owned())),
    }
}

impl Asked {
    fn flag(&self, key: &str) -> bool {
        self.query.get(key).is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false" | "False"))
    }

    /// The values of a filter, in either of the forms that clients send.
    fn filter(&self, key: &str) -> Vec<String> {
        let filters = self.query.get("filters").and_then(|text| serde_json::from_str::<Value>(text).ok());
        match filters.map(|filters| filters[key].clone()) {
            Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Some(Value::Object(values)) => values.keys().cloned().collect(),
            _ => Vec::new(),
        }
    }
}

fn list(engine: &Engine, asked: &Asked) -> Response<Body> {
    let (ids, labels) = (asked.filter("id"), asked.filter("label"));
    let all = asked.flag("all");
    let now = engine.now();
    let inside = engine.inside();
    let mut text = String::with_capacity(512 * inside.containers.len().min(1 << 16) + 2);
    text.push('[');
    let exact = ids.first().and_then(|id| render::unhex(id)).and_then(|id| inside.containers.get_key_value(&id));
    let chosen: Box<dyn Iterator<Item = _>> = match (&*ids, exact) {
        ([_], Some(one)) => Box::new(std::iter::once(one)),
        _ => Box::new(
            inside
                .containers
                .iter()
                .filter(|(id, _)| ids.is_empty() || ids.iter().any(|wanted| render::hex(id).starts_with(wanted))),
        ),
    };
    for (id, container) in chosen {
        let up = matches!(container.state, State::Running | State::Paused);
        let labelled = labels.iter().all(|label| {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            let found = container.config.as_ref().and_then(|config| config["Labels"][key].as_str());
            found.is_some_and(|found| !label.contains('=') || found == value)
        });
        if (all || up) && labelled {
            if text.len() > 1 {
                text.push(',');
            }
            render::entry(&mut text, id, container, &inside, now);
        }
    }
    text.push(']');
    typed(StatusCode::OK, text)
}

fn images(engine: &Engine) -> Vec<Value> {
    let inside = engine.inside();
    let mut by_id: BTreeMap<&String, Vec<&String>> = BTreeMap::new();
    for (name, id) in &inside.images {
        by_id.entry(id).or_default().push(name);
    }
    by_id.into_iter().map(|(id, names)| render::image(id, &names)).collect()
}

fn image(engine: &Engine, name: &str) -> Result<Response<Body>, Refusal> {
    let inside = engine.inside();
    let id = inside.image(name).ok_or_else(|| Refusal::not_found(format!("No such image: {name}")))?;
    let names: Vec<_> = inside.images.iter().filter(|(_, known)| *known == id).map(|(name, _)| name).collect();
    Ok(json_answer(&render::image_inspect(id, &names)))
}

async fn wait(engine: &Arc<Engine>, reference: &str) -> Result<Response<Body>, Refusal> {
    let id = engine.inside().find(reference)?;
    let waiting = Arc::clone(engine);
    let ended = async move {
        let mut changes = waiting.changes.subscribe();
        loop {
            let code = match waiting.inside().containers.get(&id) {
                None => Some(0),
                Some(container) if container.state == State::Exited => Some(container.exit_code),
                Some(_) => None,
            };
            if let Some(code) = code {
                return Ok(Frame::data(format!("{{\"StatusCode\":{code}}}\n").into()));
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut response = Response::new(StreamBody::new(stream::once(ended)).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn events(engine: &Arc<Engine>, asked: &Asked) -> Response<Body> {
    // `seconds` or `seconds.nanoseconds`
    let since = asked.query.get("since").and_then(|text| {
        let (seconds, nanos) = text.split_once('.').unwrap_or((text, "0"));
        Some(seconds.parse::<i64>().ok()? * 1_000_000_000 + format!("{nanos:0<9}").parse::<i64>().ok()?)
    });
    let (engine, first) = (Arc::clone(engine), engine.events.begin(since));
    let lines = stream::unfold((engine, first), |(engine, number)| async move {
        let (line, next) = engine.events.next(number).await;
        let mut faults = engine.faults.subscribe();
        // It ends with an error only together with the engine.
        faults.wait_for(|faults| !faults.hung).await.ok();
        Some((Ok(Frame::data(Bytes::from(line.text.clone()))), (engine, next)))
    });
    Response::new(StreamBody::new(lines).boxed_unsync())
}

fn parsed(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::invalid(format!("invalid JSON: {error}")))
}

fn json_answer(value: &Value) -> Response<Body> {
    with_status(StatusCode::OK, value)
}

fn with_status(status: StatusCode, value: &Value) -> Response<Body> {
    typed(status, value.to_string())
}

fn typed(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed_unsync());
    *response.status_mut() = status;
    response
}

pub(crate) fn refused(refusal: &Refusal) -> Response<Body> {
    with_status(refusal.status, &json!({ "message": refusal.message }))
}
