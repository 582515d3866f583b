//! The data plane: every protocol and every failure, for the queue-proxy, for `serve`, and for both in a row.

#![allow(clippy::unwrap_used, reason = "a test panics with the place; that is its report")]

mod grpc_errors;
mod grpc_python;
mod h2_apps;
mod h2_clients;
mod h2_crossing;
mod h2_ends;
mod h2_floods;
mod h2_flow;
mod h2_front;
mod h2_raw;
#[path = "../support/mod.rs"]
mod support;
