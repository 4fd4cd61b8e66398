//! Making answers.

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use wharf_engine::{Body, Error as EngineError, empty, full};
use wharf_model::{Class, Node};

use crate::Error;

/// A JSON answer.
pub(crate) fn json(body: impl Into<Bytes>) -> Response<Body> {
    with_status(StatusCode::OK, body)
}

/// A JSON answer that is made while it is sent; as a whole if it is of one piece.
pub(crate) fn json_pieces(mut pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Response<Body> {
    let first = pieces.next().unwrap_or_default();
    let Some(second) = pieces.next() else { return json(first) };
    let frames = [first, second].into_iter().chain(pieces).map(|piece| Ok(Frame::data(piece.into())));
    let mut response = Response::new(StreamBody::new(stream::iter(frames)).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A JSON answer with another status than 200.
pub(crate) fn with_status(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer without a body.
pub(crate) fn nothing(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

/// The answer that tells of a failure: `{"message": …}`, with the status of its class.
pub(crate) fn failure(error: &Error) -> Response<Body> {
    let status = match error.class {
        Class::Invalid => StatusCode::BAD_REQUEST,
        Class::Forbidden => StatusCode::FORBIDDEN,
        Class::NotFound => StatusCode::NOT_FOUND,
        Class::Conflict => StatusCode::CONFLICT,
        Class::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Class::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Class::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    with_status(status, serde_json::json!({ "message": error.message }).to_string())
}

/// An engine's failure as the client is told: the engine's own words where it refused, else which node does not answer.
pub(crate) fn of_engine(error: &EngineError, node: &Node) -> Error {
    match error {
        EngineError::Refused { .. } => Error::new(error.class(), error.to_string()),
        _ => Error::new(error.class(), format!("{} does not answer: {error}", node.name)),
    }
}
