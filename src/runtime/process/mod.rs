//! Local processes: what one replica is made of on one machine.
//!
//! A replica is one process group. The parts up to [`orphans`] do not know services or scaling:
//!
//! - [`expand`]: `$(PORT)` and its kin in arguments and environment (pure);
//! - [`lookup`]: which file a command means, and why one cannot run;
//! - [`child`]: the process group itself: start, exit, termination. The leader is reaped last, because only an
//!   unreaped leader pins the group's id; after that the id may belong to a stranger;
//! - `children`: what this process started, what it adopted, and what each may open;
//! - `kin`: which processes belong to a replica, though they left its group;
//! - [`exit`]: how a process ended;
//! - [`ports`]: free loopback ports, and whose process listens on one;
//! - `sock_diag`: who listens, asked of the kernel;
//! - [`logs`]: bounded rotating logs;
//! - [`orphans`]: the state directory, and the sweep of what an earlier run left behind;
//! - [`machine`]: what all replicas of the machine share;
//! - [`replica`]: one replica's life, from its environment to its end;
//! - [`supervisor`]: as many replicas of one service as are wanted.

pub mod child;
pub(crate) mod children;
pub mod exit;
pub mod expand;
mod kin;
pub mod logs;
pub mod lookup;
pub mod machine;
pub mod orphans;
pub mod ports;
pub(crate) mod procfs;
pub mod replica;
pub(crate) mod sock_diag;
pub mod supervisor;
pub mod sweep;
