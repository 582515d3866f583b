//! Replicas that come and go: kills, and edits of the files while requests run.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpgid};

use crate::site::{BOTH, DIRECT, Kill, Site, pid};
use crate::support::{Proc, kill};

/// Between two blows.
const PAUSE_MS: std::ops::Range<u64> = 700..2_000;

pub(crate) async fn until_over(site: Arc<Site>) {
    while !site.is_over() {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(PAUSE_MS))).await;
        match fastrand::u32(..10) {
            0..5 => kill_one(&site).await,
            5 => farewell(&site),
            _ => edit(&site),
        }
    }
}

/// SIGKILL to a replica's app, or to the queue-proxy in front of it.
async fn kill_one(site: &Site) {
    let service = if fastrand::bool() { DIRECT } else { BOTH };
    let state = site.serve.service(service).await;
    let replicas = state["replicas"].as_array().unwrap();
    let mut ready: Vec<u32> = replicas.iter().filter(|r| r["phase"] == "ready").filter_map(pid).collect();
    fastrand::shuffle(&mut ready);
    let Some(leader) = ready.pop() else { return };
    let group: Vec<Proc> =
        site.lab.processes().into_iter().filter(|p| group_of(p.pid) == Some(leader)).collect();
    // Gone meanwhile.
    if !group.iter().any(|process| process.pid == leader) {
        return;
    }
    let is_app = |p: &&Proc| p.command.split(' ').next().is_some_and(|program| program.ends_with("/testapp"));
    // In front of it is a queue-proxy, and beside it the shell that starts it again.
    let app = group.iter().filter(|process| process.pid != leader).find(is_app);
    let (victim, pids) = match app {
        // The queue-proxy stays.
        Some(app) if fastrand::bool() => (app.pid, vec![app.pid]),
        _ => (leader, group.iter().map(|process| process.pid).collect()),
    };
    site.turmoil.lock().kills.push(Kill { service, pids });
    kill(victim, Signal::KILL);
}

fn group_of(pid: u32) -> Option<u32> {
    let group = getpgid(Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
    u32::try_from(group.as_raw_nonzero().get()).ok()
}

/// A new version of two services, or one that leaves.
fn farewell(site: &Site) {
    site.edit(|settings| {
        let mut turmoil = site.turmoil.lock();
        turmoil.edits += 1;
        turmoil.farewells += 1;
        if fastrand::bool() {
            settings.version += 1;
        } else {
            settings.extra = !settings.extra;
        }
    });
}

/// A change that ends nothing.
fn edit(site: &Site) {
    site.turmoil.lock().edits += 1;
    site.edit(|settings| match fastrand::u32(..4) {
        0 => settings.direct_limit = fastrand::u32(2..=4),
        1 => settings.direct_max = fastrand::u32(2..=4),
        2 => settings.both_max = fastrand::u32(2..=4),
        _ => settings.extra = true,
    });
}
