//! Closed-loop load by [wrk](https://github.com/wg/wrk): another's generator, so that we do not measure ourselves with
//! our own HTTP.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

/// What wrk sends.
pub(crate) struct Wrk {
    script: PathBuf,
    host: String,
    path: String,
}

/// What came of one run. Times in µs.
pub(crate) struct Run {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Answers other than 2xx and 3xx, and connections that broke.
    pub(crate) failed: u64,
}

const REPORT: &str = r#"
done = function(s, l, r)
  local e = s.errors
  io.write(string.format("\nRESULT %d %d %d %d %d\n", s.requests, s.duration, l:percentile(50), l:percentile(99),
    e.connect + e.read + e.write + e.timeout + e.status))
end
"#;

// === impl Wrk ===

impl Wrk {
    /// GET, or POST with a JSON body. Ends the program when wrk is not there.
    pub(crate) fn new(dir: &std::path::Path, host: &str, path: &str, body: Option<&str>) -> Self {
        if Command::new("wrk").arg("-v").output().is_err() {
            eprintln!("wrk is missing; on Debian: apt-get install wrk");
            std::process::exit(1);
        }
        let mut text = REPORT.to_owned();
        if let Some(body) = body {
            let body = body.replace('\n', " ");
            let _ = write!(text, "wrk.method = \"POST\"\nwrk.body = [==[{body}]==]\n");
            text.push_str("wrk.headers[\"Content-Type\"] = \"application/json\"\n");
        }
        let script = dir.join("wrk.lua");
        std::fs::write(&script, text).expect("the lab's directory can be written");
        Self { script, host: host.to_owned(), path: path.to_owned() }
    }

    /// One thread, so that it takes no more than one of the processors.
    pub(crate) fn run(&self, to: SocketAddr, connections: u32, seconds: u32) -> Run {
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "-c", &connections.to_string(), "-d", &format!("{seconds}s"), "--timeout", "10s"]);
        wrk.arg("-s").arg(&self.script).args(["-H", &format!("Host: {}", self.host)]);
        let output =
            wrk.arg(format!("http://{to}{}", self.path)).output().expect("wrk was there a moment ago");
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find_map(|line| line.strip_prefix("RESULT "));
        let line = line.unwrap_or_else(|| panic!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)));
        let n: Vec<u64> = line.split(' ').map(|n| n.parse().expect("the script prints numbers")).collect();
        let per_second = n[0] as f64 / (n[1] as f64 / 1e6);
        Run { requests: n[0], per_second, p50: n[2] as f64, p99: n[3] as f64, failed: n[4] }
    }
}
