//! How engines are found, and (to come) where what must outlive a process is kept.

pub mod discovery;
pub mod records;
