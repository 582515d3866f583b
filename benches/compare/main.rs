//! pilotlight beside HAProxy and nginx: `benches/compare/run`.
//!
//! Every way is given the same job (bounded concurrency, forwarding fields, kept connections), the same replicas and
//! the same load, in interleaved rounds; what carries over to other machines are the ratios within a round.
#![allow(clippy::unwrap_used, reason = "a bench panics with the place")]
#![allow(clippy::disallowed_methods, reason = "backend and generators are programs of their own")]

mod backend;
mod check;
#[path = "../common/mod.rs"]
mod common;
mod configs;
mod cores;
mod events;
mod h2load;
mod loads;
mod memory;
mod options;
mod paced;
mod proxies;
mod report;
mod rounds;
mod rows;
mod site;
#[path = "../../tests/support/mod.rs"]
mod support;
mod table;

use clap::Parser as _;
use options::Options;

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("backend") {
        return backend::main(arguments);
    }
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(rounds::run(&options));
}
