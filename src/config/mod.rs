//! Files, flags and environment → typed, validated, printable configuration.
//!
//! The way of a file: [`files`] finds and reads it, [`yaml`] makes nodes that know their line, [`decode`] reads
//! fields and collects every problem, [`scaled_service`] and `crate::inference` make [`spec::ServiceSpec`]s, and
//! [`mod@load`] checks them against each other. [`watch`] says when to do it again.

pub mod annotations;
pub mod command_line;
pub mod decode;
mod defaults;
pub mod field;
pub mod files;
pub mod flags;
pub mod heartbeat;
pub mod load;
pub mod meta;
pub mod models;
pub mod names;
pub mod node;
pub mod probe;
pub mod problem;
pub mod quantity;
pub mod scaled_service;
pub mod scaling;
pub mod similar;
pub mod spec;
mod subcommands;
pub mod watch;
pub mod yaml;

#[cfg(test)]
pub(crate) mod tests;

pub use load::{Loaded, check_one_machine, load};
pub use problem::{Problem, Problems};
