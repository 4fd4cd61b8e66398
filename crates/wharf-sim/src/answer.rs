use http::StatusCode;

/// What an engine refuses, and how.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn not_found(message: String) -> Self {
        Self { status: StatusCode::NOT_FOUND, message }
    }

    pub(crate) fn conflict(message: String) -> Self {
        Self { status: StatusCode::CONFLICT, message }
    }

    pub(crate) fn forbidden(message: String) -> Self {
        Self { status: StatusCode::FORBIDDEN, message }
    }

    pub(crate) fn invalid(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message }
    }
}
