//! What is under load: one `serve` with services of both kinds, and what is done to them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::Value;

use crate::ledger::Ledger;
use crate::support::{Lab, Serve, Yaml, testapp_path};

/// The app itself; replicas are killed, limits and versions change.
pub(crate) const DIRECT: &str = "direct";
/// A queue-proxy in front of the app; either is killed.
pub(crate) const BOTH: &str = "both";
/// The same, one replica for the whole soak, so that the queue-proxy's memory can be looked at.
pub(crate) const STEADY: &str = "steady";
/// Comes and goes with the configuration.
pub(crate) const EXTRA: &str = "extra";
/// Goes to zero and comes back.
pub(crate) const NAP: &str = "nap";

/// All of them.
pub(crate) const SERVICES: [&str; 5] = [DIRECT, BOTH, STEADY, EXTRA, NAP];
/// Slots of one replica at most.
pub(crate) const LIMIT: u32 = 4;

/// Everything that tasks share.
pub(crate) struct Site {
    pub(crate) lab: Lab,
    pub(crate) serve: Serve,
    pub(crate) ledger: Ledger,
    pub(crate) turmoil: Mutex<Turmoil>,
    pub(crate) over: AtomicBool,
    pub(crate) settings: Mutex<Settings>,
}

/// What was done to the replicas.
#[derive(Default)]
pub(crate) struct Turmoil {
    pub(crate) kills: Vec<Kill>,
    pub(crate) edits: usize,
    /// Edits that end replicas: a new version, a removed service.
    pub(crate) farewells: usize,
    /// Times that [`NAP`] was seen at zero.
    pub(crate) naps: usize,
}

/// Processes that were killed at one time.
pub(crate) struct Kill {
    pub(crate) service: &'static str,
    pub(crate) pids: Vec<u32>,
}

/// What the files say now.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) direct_limit: u32,
    pub(crate) direct_max: u32,
    pub(crate) both_max: u32,
    pub(crate) version: u32,
    pub(crate) extra: bool,
    pub(crate) steady_min: u32,
}

// === impl Site ===

impl Site {
    pub(crate) async fn start() -> Arc<Self> {
        let lab = Lab::new();
        let settings = Settings {
            direct_limit: LIMIT,
            direct_max: 3,
            both_max: 3,
            version: 0,
            extra: true,
            steady_min: 1,
        };
        settings.write(&lab);
        let serve = lab.serve().start().await;
        serve.wait_service(STEADY, "ready", |s| s["state"] == "ready").await;
        let (ledger, turmoil) = (Ledger::default(), Mutex::default());
        let (over, settings) = (AtomicBool::new(false), Mutex::new(settings));
        Arc::new(Self { lab, serve, ledger, turmoil, over, settings })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Where the next request goes.
    pub(crate) fn any_service() -> &'static str {
        match fastrand::u32(..100) {
            0..35 => DIRECT,
            35..70 => BOTH,
            70..90 => STEADY,
            _ => EXTRA,
        }
    }

    /// Changes the files.
    pub(crate) fn edit(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.settings.lock();
        change(&mut settings);
        settings.write(&self.lab);
    }

    /// Keeps logs and records beyond the end of the test.
    pub(crate) fn keep(&self) -> PathBuf {
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak");
        let _ = std::fs::remove_dir_all(&to);
        let copied = Command::new("cp").arg("-r").arg(self.lab.dir()).arg(&to).status();
        assert!(copied.unwrap().success());
        to
    }

    /// The pid of the queue-proxy of [`STEADY`].
    pub(crate) async fn steady_pid(&self) -> u32 {
        let service = self.serve.service(STEADY).await;
        pid(&service["replicas"][0]).unwrap()
    }
}

/// Of a replica as the admin API shows it.
pub(crate) fn pid(replica: &Value) -> Option<u32> {
    u32::try_from(replica["pid"].as_u64()?).ok()
}

// === impl Settings ===

impl Settings {
    fn write(&self, lab: &Lab) {
        let direct = lab.app(DIRECT).args(["--limit", &LIMIT.to_string(), "--start-delay", "100"]);
        let direct = direct.limit(self.direct_limit).max(self.direct_max);
        let both = both_hops(lab, BOTH).max(self.both_max);
        let version = self.version.to_string();
        let steady = both_hops(lab, STEADY).max(1).set("scaling.min", self.steady_min);
        let mut services = vec![
            direct.set("process.env.TESTAPP_VERSION", version.as_str()),
            both.set("process.env.TESTAPP_VERSION", version.as_str()),
            steady,
            lab.app(NAP).limit(2).max(2),
        ];
        if self.extra {
            services.push(lab.app(EXTRA).limit(LIMIT).max(1));
        }
        lab.services(&services.iter().collect::<Vec<_>>());
    }
}

/// A queue-proxy and, on the same port of another loopback address, its app, which is started again when it dies, as a
/// kubelet does.
fn both_hops(lab: &Lab, name: &str) -> Yaml {
    let (app, record) = (testapp_path().display(), lab.path(&format!("{name}.jsonl")));
    let pilotlight = env!("CARGO_BIN_EXE_pilotlight");
    let script = format!(
        "while :; do {app} --host 127.0.0.2 --port $PORT --limit {LIMIT} --record {} || sleep 0.05; done & \
         exec {pilotlight} queue-proxy --listen 127.0.0.1:$PORT --admin 127.0.0.1:0 --app 127.0.0.2:$PORT \
         --concurrency {LIMIT} --queue 1000 --log-format json",
        record.display()
    );
    Yaml::testapp(name, &record).command(&["sh", "-c", &script]).limit(LIMIT)
}
