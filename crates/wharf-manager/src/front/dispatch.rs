//! From a request to its row, and from the row's result to an answer.

use std::sync::Arc;

use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use wharf_engine::Body;
use wharf_model::ApiVersion;

use super::{
    answer::failure,
    call::{App, Call},
    routes::{self, Answer},
};
use crate::{API_NEWEST, API_OLDEST, Error, SERVER};

/// Answers any request whatever.
pub(crate) async fn answer(app: App, request: Request<Incoming>, client: Arc<str>) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let result = route(app, request, client).await;
    let mut response = result.unwrap_or_else(|error| {
        tracing::debug!("{method} {path}: {error}");
        failure(&error)
    });
    let version = HeaderValue::try_from(API_NEWEST.to_string());
    let headers = response.headers_mut();
    headers.extend(version.map(|version| (header::HeaderName::from_static("api-version"), version)));
    headers.insert("docker-experimental", HeaderValue::from_static("false"));
    headers.insert("ostype", HeaderValue::from_static("linux"));
    headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
    response
}

async fn route(app: App, request: Request<Incoming>, client: Arc<str>) -> Result<Response<Body>, Error> {
    let (version, path) = version(request.uri().path())?;
    let Some((route, captured)) = routes::find(request.method(), path) else {
        // Docker's words for both a path and a method that it does not know.
        return Err(Error::not_found("page not found"));
    };
    match route.answer {
        Answer::Refuse(class, why) => Err(Error::new(class, why)),
        Answer::Local(handler)
        | Answer::Snapshot(handler)
        | Answer::Owner(handler)
        | Answer::AnyHolder(handler)
        | Answer::Every(handler)
        | Answer::Place(handler) => handler(Call { app, request, version, captured, client }).await,
    }
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

#[cfg(test)]
mod tests {
    use wharf_model::ApiVersion;

    use super::version;
    use crate::API_NEWEST;

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
        assert_eq!(refusal("/v9.99/info"), "client version 9.99 is too new. Maximum supported API version is 1.41");
        assert!(
            refusal("/v1.10/info").starts_with("client version 1.10 is too old. Minimum supported API version is 1.24")
        );
    }
}
