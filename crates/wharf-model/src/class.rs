/// What kind of failure an error is: decided where it is known, turned into an HTTP status in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The request cannot be understood or makes no sense (400).
    Invalid,
    /// What is asked for is never allowed (403).
    Forbidden,
    /// The named thing does not exist (404).
    NotFound,
    /// The thing exists, but its state, or another thing's, forbids it (409).
    Conflict,
    /// More was sent than is taken (413).
    TooLarge,
    /// Wharf does not do this (501).
    Unsupported,
    /// Who could answer cannot be reached now; later may be better (503).
    Unavailable,
    /// Our own fault, or an answer that makes no sense (500).
    Internal,
}
