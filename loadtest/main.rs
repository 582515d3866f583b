//! `loadtest`: how a service that scales to zero behaves under load. It only needs a URL.

mod arrivals;
mod observe;
mod report;
mod run;
mod scenario;

fn main() {}
