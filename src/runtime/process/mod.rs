//! Local processes: what one replica is made of on one machine.
//!
//! A replica is one process group. The parts here do not know services or scaling; the supervisor puts them together:
//!
//! - [`expand`]: `$(PORT)` and its kin in arguments and environment (pure);
//! - [`lookup`]: which file a command means, and why one cannot run;
//! - [`child`]: the process group itself: start, exit, termination. The leader is reaped last, because only an
//!   unreaped leader pins the group's id; after that the id may belong to a stranger;
//! - [`exit`]: how a process ended;
//! - [`ports`]: free loopback ports, and whose process listens on one;
//! - [`logs`]: bounded rotating logs;
//! - [`orphans`]: the state directory, and what an earlier run left behind; [`sweep`] kills it.

pub mod child;
pub mod exit;
pub mod expand;
pub mod logs;
pub mod lookup;
pub mod orphans;
pub mod ports;
mod procfs;
pub mod sweep;
