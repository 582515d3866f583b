//! Where replicas live.

pub mod process;
