//! What one request allocates in the steady state, and where: `cargo bench --bench allocations`.
//!
//! dhat's allocator notes the call stack of each allocation; a table shows the frames of each that are ours or hyper's.
//! `-- FILE` keeps dhat's own record, for its viewer.
#![allow(clippy::unwrap_used, reason = "a bench panics with the place")]

mod common;

use common::path::{Client, Path, Through};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const REQUESTS: usize = 1_000;

fn main() {
    for (name, through, client) in [
        ("nothing", Through::Nothing, Client::Post),
        ("queue-proxy get", Through::QueueProxy, Client::Get),
        ("queue-proxy post", Through::QueueProxy, Client::Post),
        ("activator post", Through::Activator, Client::Post),
        ("queue-proxy h2c post", Through::QueueProxy, Client::H2Post),
    ] {
        let mut path = Path::new(through, client);
        let file = std::env::temp_dir().join(format!("dhat-{}.json", name.replace([' ', ',', '/'], "_")));
        let profiler = dhat::Profiler::builder().file_name(&file).trim_backtraces(Some(64)).build();
        path.requests(REQUESTS);
        let stats = dhat::HeapStats::get();
        drop(profiler);
        println!("{name}: {} blocks, {} bytes -> {}", stats.total_blocks, stats.total_bytes, file.display());
    }
}
