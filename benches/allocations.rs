//! What one request allocates in the steady state, and where:
//! `cargo bench --profile profiling --bench allocations`.
//!
//! dhat notes the call stack of every allocation while a warm connection serves [`REQUESTS`]. Of each stack the table
//! shows the innermost frame outside Rust's own library, and the innermost that is ours. `DHAT_DIR=DIR` keeps dhat's
//! records, for its viewer (`dh_view.html` of valgrind).
#![allow(clippy::unwrap_used, reason = "a bench panics with the place")]

mod common;

use std::path::{Path as File, PathBuf};

use common::path::{Client, Path, Through};
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const REQUESTS: usize = 1_000;
/// Paths of frames that say nothing, as dhat writes them: Rust's library, small containers, and dhat.
const PLUMBING: [&str; 17] = [
    "???",
    "alloc/src/",
    "core/src/",
    "std/src/",
    "src/vec/",
    "src/raw_vec/",
    "src/collections/",
    "src/ops/",
    "src/slice/",
    "src/mem/",
    "iter/",
    "src/iter/",
    "dhat-",
    "smallvec-",
    "src/alloc.rs",
    "benches/allocations.rs",
    "counts/benches/allocations.rs",
];

/// One place in the program that allocates.
struct Site {
    blocks: f64,
    bytes: f64,
    place: String,
    ours: String,
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let dir = std::env::var_os("DHAT_DIR").map_or_else(|| dir.path().to_owned(), PathBuf::from);
    for (name, through, client) in [
        ("queue-proxy, GET", Through::QueueProxy, Client::Get),
        ("queue-proxy, POST", Through::QueueProxy, Client::Post),
        ("activator, POST", Through::Activator, Client::Post),
        ("queue-proxy, POST over h2c", Through::QueueProxy, Client::H2Post),
    ] {
        let mut path = Path::new(through, client);
        let file = dir.join(format!("{}.json", name.replace([',', ' '], "-")));
        let profiler = dhat::Profiler::builder().file_name(&file).trim_backtraces(Some(64)).build();
        path.requests(REQUESTS);
        drop(profiler);
        print(name, &sites(&file));
    }
}

fn print(name: &str, sites: &[Site]) {
    let blocks: f64 = sites.iter().map(|site| site.blocks).sum();
    let bytes: f64 = sites.iter().map(|site| site.blocks * site.bytes).sum();
    println!("\n{name}: {blocks:.1} blocks and {bytes:.0} bytes per request\n");
    println!("| blocks | bytes each | where | of ours |\n|---|---|---|---|");
    for Site { blocks, bytes, place, ours } in sites {
        println!("| {blocks:.2} | {bytes:.0} | {place} | {ours} |");
    }
}

/// From dhat's record; the largest first, without those that are once in a while.
fn sites(record: &File) -> Vec<Site> {
    let record: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let frames: Vec<&str> = record["ftbl"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    let number = |value: &Value| value.as_u64().unwrap() as f64;
    let sites = record["pps"].as_array().unwrap().iter().map(|site| {
        let stack = site["fs"].as_array().unwrap().iter().map(|f| frames[f.as_u64().unwrap() as usize]);
        let stack: Vec<(&str, &str)> = stack.filter_map(frame).collect();
        let place =
            stack.iter().find(|(_, path)| !PLUMBING.iter().any(|plumbing| path.starts_with(plumbing)));
        let ours = stack.iter().find(|(_, path)| path.starts_with("src/") && is_ours(path));
        let show = |found: Option<&(&str, &str)>| {
            found.map_or_else(String::new, |(name, path)| format!("`{}` {path}", short(name)))
        };
        Site {
            blocks: number(&site["tbk"]) / REQUESTS as f64,
            bytes: number(&site["tb"]) / number(&site["tbk"]),
            place: show(place),
            ours: show(ours),
        }
    });
    let mut sites: Vec<Site> = sites.filter(|site| site.blocks > 0.01).collect();
    sites.sort_by(|a, b| (b.blocks * b.bytes).total_cmp(&(a.blocks * a.bytes)));
    sites
}

/// The function and its place, out of `0xADDRESS: NAME (PATH:LINE:COLUMN)`.
fn frame(text: &str) -> Option<(&str, &str)> {
    let (name, path) = text.split_once(": ")?.1.rsplit_once(" (")?;
    Some((name, path.trim_end_matches(')').rsplit_once(':')?.0))
}

fn is_ours(path: &str) -> bool {
    let file = path.split(':').next().unwrap_or(path);
    File::new(env!("CARGO_MANIFEST_DIR")).join(file).is_file()
}

/// Without the types of its generics.
fn short(name: &str) -> String {
    let mut short = String::new();
    let mut depth = 0;
    for c in name.chars() {
        match c {
            '<' if !short.is_empty() => depth += 1,
            '>' if depth > 0 => depth -= 1,
            _ if depth == 0 => short.push(c),
            _ => {}
        }
    }
    short.replace("::{{closure}}", "").replace('|', "\\|")
}
