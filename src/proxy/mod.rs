//! proxy
pub mod breaker;
