//! What integration tests stand on: a [`Lab`] of one's own, the programs in it, clients, and eyes on `/proc`.
//!
//! Three rules. Nothing waits by sleeping: [`wait_until`] polls a condition and says what it last saw. What a test
//! controls is a file that appears (gates), not a delay that hopefully suffices. Whatever a test started is gone when
//! it ends, also when it panics: every process carries the lab's directory in its environment and is found by it.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a harness panics with the place; that is its report")]

mod client;
mod lab;
mod load;
mod metrics;
mod payload;
mod procs;
mod program;
mod raw;
mod raw_app;
mod records;
mod serve;
mod setup;
mod wait;
mod way;
mod ways;
mod yaml;

pub(crate) use client::{Call, Open, Reply, Wire};
pub(crate) use lab::{Gate, Lab, free_range};
pub(crate) use load::{Load, Outcome, tally};
pub(crate) use metrics::{metrics, value};
pub(crate) use procs::{Proc, alive, cpu_time, kill, raise_open_files, rss_bytes, zombies};
pub(crate) use program::{Program, testapp, testapp_path};
pub(crate) use raw::Raw;
pub(crate) use raw_app::{AppConn, Message, RawApp};
pub(crate) use records::Record;
pub(crate) use serve::{QueueProxy, Serve, host};
pub(crate) use setup::{program, python};
pub(crate) use wait::{LONG, SOON, holds, wait_until};
pub(crate) use way::{NAME, Way};
pub(crate) use ways::{Setup, WayBuilder};
pub(crate) use yaml::Yaml;
