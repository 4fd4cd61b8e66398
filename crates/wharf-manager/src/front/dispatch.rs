//! From a request to its row, and from the row's result to an answer.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use wharf_engine::Body;
use wharf_model::ApiVersion;

use super::{
    Peer,
    answer::failure,
    call::{App, Call},
    newer::Newer,
    pattern::Captured,
    routes::{self, Answer, Handler},
    upload::Upload,
};
use crate::{API_NEWEST, API_OLDEST, Error, SERVER, view::query::Query};

/// Answers any request whatever.
pub(crate) async fn answer(app: App, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let result = route(app, request.map(Upload::new), peer).await;
    let mut response = result.unwrap_or_else(|error| {
        tracing::debug!("{method} {path}: {error}");
        failure(&error)
    });
    let headers = response.headers_mut();
    if let Ok(version) = HeaderValue::try_from(API_NEWEST.to_string()) {
        headers.insert("api-version", version);
    }
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
    response
}

async fn route(app: App, mut request: Request<Upload>, peer: Peer) -> Result<Response<Body>, Error> {
    let Row { handler, version, captured, newer } = row(&request, &peer)?;
    if let Some(newer) = newer {
        request.extensions_mut().insert(newer);
    }
    handler(Call { app, request, version, captured, client: peer.name() }).await
}

/// Who answers a request, and what its path says.
struct Row {
    handler: Handler,
    version: ApiVersion,
    captured: Captured,
    newer: Option<Newer>,
}

fn row(request: &Request<Upload>, peer: &Peer) -> Result<Row, Error> {
    if matches!(peer, Peer::Tcp(_)) {
        refuse_web_pages(request.headers())?;
    }
    let (version, path) = version(request.uri().path())?;
    let Some((route, captured)) = routes::find(request.method(), path) else {
        // Docker's words for both a path and a method that it does not know.
        return Err(Error::not_found("page not found"));
    };
    let query = request.uri().query().map(Query::parse).transpose()?;
    let newer = query.and_then(|query| Newer::of(request.method(), route.path, &query));
    match route.answer {
        Answer::Refuse(class, why) => Err(Error::new(class, why)),
        Answer::Local(handler)
        | Answer::Snapshot(handler)
        | Answer::Owner(handler)
        | Answer::AnyHolder(handler)
        | Answer::Every(handler)
        | Answer::Place(handler) => Ok(Row { handler, version, captured, newer }),
    }
}

/// A page in a browser of this machine reaches loopback ports, too, and could do anything on every node. No Docker client
/// sends `Origin`, as browsers do for what changes anything; and none calls a loopback port by a name of the page's own, as
/// a page does whose name was made to lead here.
fn refuse_web_pages(headers: &HeaderMap) -> Result<(), Error> {
    let refusal = || Error::invalid("requests of web pages are not served: use a Docker client, or the Unix socket");
    if headers.contains_key(header::ORIGIN) {
        return Err(refusal());
    }
    let Some(host) = headers.get(header::HOST) else { return Ok(()) };
    let host = host.to_str().map_err(|_| refusal())?;
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let ours =
        name == "localhost" || name.ends_with(".localhost") || !name.contains('.') || name.parse::<IpAddr>().is_ok();
    if ours { Ok(()) } else { Err(refusal()) }
}

/// Splits `/v1.41/info` into the version and the rest. Without a version the newest is meant.
fn version(path: &str) -> Result<(ApiVersion, &str), Error> {
    let split = path.strip_prefix("/v").and_then(|rest| rest.split_at_checked(rest.find('/')?));
    let Some((version, rest)) = split.and_then(|(version, rest)| Some((version.parse::<ApiVersion>().ok()?, rest)))
    else {
        return Ok((API_NEWEST, path));
    };
    if version > API_NEWEST {
        return Err(Error::invalid(format!(
            "client version {version} is too new. Maximum supported API version is {API_NEWEST}"
        )));
    }
    if version < API_OLDEST {
        return Err(Error::invalid(format!(
            "client version {version} is too old. Minimum supported API version is {API_OLDEST}, please upgrade your \
             client to a newer version"
        )));
    }
    Ok((version, rest))
}

/// The name that a request's path has, if a row answers it.
#[cfg(any(test, fuzzing))]
pub(crate) fn captured(method: &http::Method, path: &str) -> Option<String> {
    let (_, path) = version(path).ok()?;
    routes::find(method, path).map(|(_, captured)| captured.name)
}

#[cfg(test)]
mod tests {
    use wharf_model::ApiVersion;

    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{refuse_web_pages, version};
    use crate::API_NEWEST;

    #[test]
    fn web_pages_are_refused_and_clients_are_not() {
        let with = |name: &'static str, value: &'static str| {
            let header = (HeaderName::from_static(name), HeaderValue::from_static(value));
            refuse_web_pages(&HeaderMap::from_iter([header]))
        };
        for host in
            ["127.0.0.1:2380", "localhost", "[::1]:2380", "::1", "docker", "api.moby.localhost", "10.0.0.1:2375"]
        {
            assert_eq!(with("host", host), Ok(()), "{host}");
        }
        assert!(with("host", "evil.example:2380").is_err());
        assert!(with("origin", "http://127.0.0.1:8000").is_err() && with("origin", "null").is_err());
    }

    #[test]
    fn the_version_is_split_off_once() {
        assert_eq!(version("/v1.30/info"), Ok((ApiVersion::new(1, 30), "/info")));
        assert_eq!(version("/info"), Ok((API_NEWEST, "/info")));
        assert_eq!(version("/volumes/v1.2"), Ok((API_NEWEST, "/volumes/v1.2")));
        assert_eq!(version("/version"), Ok((API_NEWEST, "/version")));
    }

    #[test]
    fn a_version_out_of_range_is_refused_in_dockers_words() {
        let refusal = |path| version(path).unwrap_err().message;
        assert_eq!(refusal("/v9.99/info"), "client version 9.99 is too new. Maximum supported API version is 1.51");
        assert!(
            refusal("/v1.10/info").starts_with("client version 1.10 is too old. Minimum supported API version is 1.24")
        );
    }
}
