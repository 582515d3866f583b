//! `loadtest`: how a service that scales to zero behaves under load. It only needs a URL.

mod arrivals;
mod client;
mod engine;
mod outcome;
mod recorder;
mod run;
mod scenario;

fn main() {}
