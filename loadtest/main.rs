//! `loadtest`: how a service that scales to zero behaves under load. It only needs a URL.

mod observe;
mod run;

fn main() {}
