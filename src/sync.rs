//! The two primitives that the breaker is built on, in one place so that `tests/loom` can put loom's in.

pub use std::sync::Arc;

pub use parking_lot::Mutex;
