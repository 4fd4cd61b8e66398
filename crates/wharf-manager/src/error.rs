use wharf_model::Class;

/// A failure as the client is told: what kind, and a message that says what, where and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of failure it is; it decides the HTTP status.
    pub class: Class,
    /// For people, in Docker's words where Docker has some.
    pub message: String,
}

impl Error {
    /// A failure of that class.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// The request cannot be understood or makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Class::Invalid, message)
    }

    /// What is asked for is never allowed.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Class::Forbidden, message)
    }

    /// The named thing does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Class::NotFound, message)
    }

    /// The state of a thing forbids it.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Class::Conflict, message)
    }

    /// Who could answer cannot be reached now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Class::Unavailable, message)
    }

    /// Our own fault, or an answer that makes no sense.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Class::Internal, message)
    }
}
