//! `loadtest`: how a service that scales to zero behaves under load. It only needs a URL.

mod arrivals;
mod client;
mod engine;
mod observe;
mod outcome;
mod recorder;
mod report;
mod run;
mod scenario;

fn main() {}
