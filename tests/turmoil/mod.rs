//! The data path on a network that fails: client → activator → queue-proxy → app, two replicas, with lost, held and
//! reset connections between the hops. The production code on turmoil's sockets and clock (`src/net.rs`): what
//! happens is decided by a seed, and a minute takes a second.
//!
//! Part of the library's unit tests: `cargo test --lib turmoil`.

mod hosts;
mod story;
mod traffic;

use std::time::Duration;

use hosts::{APPS, LIMIT, PROXIES, Stage};
use story::{Outcome, Story};
use traffic::Http;

/// Of each kind of fault, so many different runs; `PILOTLIGHT_TURMOIL_SEEDS` says how many.
const SEEDS: u64 = 2;
/// In one run.
const FAULTS: usize = 12;

fn seeds() -> std::ops::Range<u64> {
    0..std::env::var("PILOTLIGHT_TURMOIL_SEEDS").map_or(SEEDS, |n| n.parse().unwrap())
}

/// What is done to the network or a host, and for how long.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Messages wait until the link is released: what TCP makes of loss that passes.
    Held,
    /// Messages are gone, and so is the connection they were for: TCP's segments come once here.
    Lost,
    /// The host dies and comes back: connections to it are reset.
    Crash,
}

/// A fault of `kind` every second or so, on any link between the hops, over mixed traffic.
fn run(seed: u64, kinds: &[Fault], http: &[Http]) -> Story {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut stage = Stage::new(seed);
    stage.clients(http, 8, 30);
    let mut at = Duration::from_secs(1);
    for _ in 0..FAULTS {
        let replica = random.usize(..APPS.len());
        let (proxy, app) = (PROXIES[replica], APPS[replica]);
        let (from, to) = if random.bool() { ("activator", proxy) } else { (proxy, app) };
        let length = Duration::from_millis(random.u64(50..2_500));
        let kind = kinds[random.usize(..kinds.len())];
        stage.at(at, move |sim| match kind {
            Fault::Held => sim.hold(from, to),
            Fault::Lost => sim.partition(from, to),
            Fault::Crash => sim.crash(to),
        });
        at += length;
        stage.at(at, move |sim| match kind {
            Fault::Held => sim.release(from, to),
            Fault::Lost => sim.repair(from, to),
            Fault::Crash => sim.bounce(to),
        });
        at += Duration::from_millis(random.u64(..1_000));
    }
    stage.run()
}

/// What must hold whatever happens.
fn check(seed: u64, story: &Story) {
    let wrong = story.wrong();
    assert!(wrong.is_empty(), "seed {seed}: {} wrong:\n{}\n{story}", wrong.len(), wrong.join("\n"));
    eprintln!("seed {seed}: {story}");
}

#[test]
fn held_messages_delay_and_lose_nothing() {
    for seed in seeds() {
        let story = run(seed, &[Fault::Held], &[Http::One, Http::Two]);
        check(seed, &story);
        // Shorter than any timeout.
        assert_eq!(story.outcomes(|o| *o != Outcome::Right), 0, "seed {seed}: {story}");
    }
}

#[test]
fn hosts_that_crash_cost_what_they_had() {
    for seed in seeds() {
        let story = run(seed, &[Fault::Crash], &[Http::One, Http::Two]);
        check(seed, &story);
        // Those who held a slot there; and an answer that is cut frees its slot before anybody looks at the replica.
        let failed = story.outcomes(|o| *o != Outcome::Right);
        assert!(failed <= 2 * FAULTS * LIMIT as usize, "seed {seed}: {story}");
    }
}

/// Over HTTP/1 alone: a shared connection would stay silent for all who come, and no kernel finds that out here.
#[test]
fn lost_messages_end_in_a_timeout_that_says_so() {
    for seed in seeds() {
        let story = run(seed, &[Fault::Lost], &[Http::One]);
        check(seed, &story);
    }
}

#[test]
fn all_of_it_at_once() {
    for seed in seeds() {
        let story = run(seed, &[Fault::Held, Fault::Lost, Fault::Crash], &[Http::One]);
        check(seed, &story);
    }
}

/// Of links alone: when a host crashes, tokio drops its tasks in no order of ours.
#[test]
fn the_same_seed_tells_the_same_story() {
    let story = || run(4, &[Fault::Held], &[Http::One, Http::Two]).told();
    assert_eq!(story(), story());
}

/// One replica of two cannot be reached for a while. It costs those who were there, nobody after them, and once the
/// link is back so is the replica.
#[test]
fn a_replica_behind_a_cut_link_leaves_the_set_and_comes_back() {
    for seed in seeds() {
        let mut stage = Stage::new(seed);
        stage.clients(&[Http::One], 8, 60);
        stage.at(Duration::from_secs(2), |sim| sim.partition("activator", PROXIES[0]));
        stage.at(Duration::from_secs(12), |sim| sim.repair("activator", PROXIES[0]));
        let story = stage.run();
        check(seed, &story);
        let failed = story.outcomes(|o| *o != Outcome::Right);
        // Those who held a slot there, and those who got one before it was in doubt.
        assert!(failed <= 2 * LIMIT as usize, "seed {seed}: {failed} failed: {story}");
        let late = Duration::from_secs(20);
        assert!(story.executed_at(APPS[0], late) > 0, "seed {seed}: it is back: {story}");
    }
}
