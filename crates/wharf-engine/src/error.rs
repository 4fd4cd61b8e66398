use std::time::Duration;

use http::StatusCode;
use wharf_model::{Class, Endpoint};

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request did not reach it, or its answer did not reach us.
    #[error("cannot reach the engine at {endpoint}: {}", chain(&**.source))]
    Unreachable {
        /// The engine.
        endpoint: Endpoint,
        /// Whether the request certainly never left: then it may be sent again, elsewhere, too.
        unsent: bool,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It did not answer in time.
    #[error("the engine at {endpoint} did not answer within {after:?}")]
    Late {
        /// The engine.
        endpoint: Endpoint,
        /// The time it had.
        after: Duration,
    },
    /// It answered with more than is sensible.
    #[error("the engine at {endpoint} answered with more than {limit} bytes")]
    TooLarge {
        /// The engine.
        endpoint: Endpoint,
        /// The limit.
        limit: usize,
    },
    /// It refused.
    #[error("{message}")]
    Refused {
        /// Its status code.
        status: StatusCode,
        /// Its own words.
        message: String,
    },
}

impl Error {
    pub(crate) fn unreachable(
        endpoint: &Endpoint,
        unsent: bool,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unreachable { endpoint: endpoint.clone(), unsent, source: source.into() }
    }

    /// What kind of failure this is.
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. } | Self::Late { .. } => Class::Unavailable,
            Self::TooLarge { .. } => Class::Internal,
            Self::Refused { status, .. } => match *status {
                StatusCode::NOT_FOUND => Class::NotFound,
                StatusCode::FORBIDDEN => Class::Forbidden,
                StatusCode::CONFLICT => Class::Conflict,
                StatusCode::NOT_IMPLEMENTED => Class::Unsupported,
                StatusCode::SERVICE_UNAVAILABLE => Class::Unavailable,
                status if status.is_client_error() => Class::Invalid,
                _ => Class::Internal,
            },
        }
    }

    /// Whether the engine may have done all the same what it was asked.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Unreachable { unsent, .. } => !unsent,
            Self::Late { .. } | Self::TooLarge { .. } => true,
            Self::Refused { .. } => false,
        }
    }
}

/// An error and its sources in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
