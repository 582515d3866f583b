//! The composition root: configuration → threads and tasks.

pub mod limits;
pub mod queue_proxy;
pub mod serve;
pub mod signals;
pub mod thread;

/// A bad flag, variable or file (`EX_USAGE` of sysexits, which the contract names).
pub const EXIT_CONFIG: u8 = 64;
/// A second signal ended the program before it had drained.
pub const EXIT_FORCED: u8 = 1;
