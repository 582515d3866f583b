//! pilotlight
pub mod activator;
pub mod admin;
pub mod autoscaler;
pub mod clock;
pub mod config;
pub mod drain;
pub mod inference;
pub mod policy;
pub mod probe;
pub mod proxy;
pub mod queue_proxy;
pub mod runtime;
pub mod stat;
pub mod sync;
