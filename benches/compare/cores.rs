//! Who runs on which processor.
//!
//! The proxy has one for itself; generator, replicas and this program share the others. Left to itself the kernel
//! moves all of them about, and a round in which proxy and replica happen to sit side by side is not like one in which
//! they do not (benches/README.md has the spread of both).

use std::process::{Command, Stdio};

#[derive(Clone, Copy)]
pub(crate) struct Cores {
    pinned: bool,
}

const PROXY: &str = "1";
const REST: &str = "0";

// === impl Cores ===

impl Cores {
    /// Places this program; what it starts is placed likewise, and comes before every other program if it is
    /// `realtime`.
    pub(crate) fn new(pinned: bool, realtime: bool) -> Self {
        let enough = std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
        let cores = Self { pinned: pinned && enough };
        cores.place(std::process::id(), REST);
        if realtime {
            let mut chrt = Command::new("chrt");
            chrt.args(["--rr", "--all-tasks", "--pid", "1", &std::process::id().to_string()]);
            assert!(chrt.status().unwrap().success(), "--realtime needs root");
        }
        cores
    }

    /// Gives a proxy, all threads it has, the processor of its own.
    pub(crate) fn proxy(self, pid: u32) {
        self.place(pid, PROXY);
    }

    fn place(self, pid: u32, core: &str) {
        if self.pinned {
            let mut taskset = Command::new("taskset");
            taskset.args(["--all-tasks", "--cpu-list", "--pid", core, &pid.to_string()]);
            assert!(taskset.stdout(Stdio::null()).status().unwrap().success(), "taskset fails");
        }
    }
}
