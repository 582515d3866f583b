//! The data plane as a client meets it: through the queue-proxy, through the activator, and through both in a row.
//!
//! README.md here says which test shows what. A test of a row takes a [`support::Setup`] and is run for each by
//! [`on_each_setup!`].
#![allow(clippy::unwrap_used, reason = "a test panics with the place; that is its report")]
#![allow(clippy::float_cmp, reason = "counts: whole numbers in metrics")]

#[path = "../support/mod.rs"]
mod support;

/// Makes a test of each `async fn NAME(setup: Setup)`, for each setup: `NAME::queue_proxy` and so on.
macro_rules! on_each_setup {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::support::Setup;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn queue_proxy() {
                super::$name(Setup::QueueProxy).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn activator() {
                super::$name(Setup::Activator).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn both_in_a_row() {
                super::$name(Setup::Both).await;
            }
        }
    )+};
}

mod bodies;
mod clients;
mod drain;
mod fairness;
mod grpc_errors;
mod grpc_python;
mod h1_apps;
mod h1_bodies;
mod h1_messages;
mod h2_apps;
mod h2_clients;
mod h2_crossing;
mod h2_ends;
mod h2_floods;
mod h2_flow;
mod h2_raw;
mod heartbeat;
mod limits;
mod model_clients;
mod models;
mod overload;
mod probing;
mod retries;
mod smuggling;
mod stats;
mod streams;
mod timeouts;
mod upgrades;
