//! Where replicas live.

pub mod process;
pub mod python;
