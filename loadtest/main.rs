//! `loadtest`: how a service that scales to zero behaves under load. It only needs a URL.

mod observe;
mod report;
mod run;

fn main() {}
