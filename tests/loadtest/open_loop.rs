//! Requests leave when the scenario says, whatever the answers do; and the bounds of that.

use crate::ran::{run, start_run};
use crate::support::{LONG, Lab, testapp, wait_until};

#[tokio::test]
async fn a_server_that_stalls_holds_nothing_back_and_hides_nothing() {
    let lab = Lab::new();
    let (gate, record) = (lab.gate("gate"), lab.text_path("app.jsonl"));
    let (_app, addr) = testapp(lab.dir(), &["--record", &record]).await;
    let url = format!("http://{addr}/hold?file={gate}");
    let running = start_run(&lab, &["--url", &url, "--rate", "50", "--duration", "2s"]);
    // All of them arrive though none has been answered.
    wait_until(LONG, "100 requests at the app", async || match lab.events("app", "request").len() {
        100 => Ok(()),
        n => Err(n),
    })
    .await;
    assert_eq!(lab.events("app", "done").len(), 0);
    gate.open();
    let ran = running.end().await.checked().exits(0);
    assert_eq!(ran.total()["ok"], 100);
    assert_eq!(ran.run["generator"]["open_max"], 100);
    // The last one left 1.98 s after the first: that one waited for at least so long, and the median for half of it.
    let latency = |q: &str| ran.total()["latency_ms"][q].as_f64().unwrap();
    assert!(latency("max") >= 1980.0 && latency("p50") >= 980.0, "{}", ran.total());
}

#[tokio::test]
async fn more_than_may_be_open_are_counted_not_sent() {
    let lab = Lab::new();
    let gate = lab.gate("gate");
    let record = lab.text_path("app.jsonl");
    let (_app, addr) = testapp(lab.dir(), &["--record", &record]).await;
    let scenario = format!(
        "limits: {{open: 10}}
services: [{{name: held, url: 'http://{addr}/hold?file={gate}', thresholds: {{dropped: 0, errors: 50%}}}}]
load: [{{burst: 30}}]\n"
    );
    std::fs::write(lab.path("s.yaml"), scenario).unwrap();
    let running = start_run(&lab, &["s.yaml"]);
    wait_until(LONG, "10 requests at the app", async || match lab.events("app", "request").len() {
        10 => Ok(()),
        n => Err(n),
    })
    .await;
    gate.open();
    // Requests that nobody could send are errors, too: 20 of 30.
    let ran = running.end().await.checked().exits(1);
    assert_eq!((ran.total()["sent"].clone(), ran.total()["dropped"].clone()), (10.into(), 20.into()));
    assert_eq!(ran.run["generator"]["dropped"], 20);
    let failed: Vec<_> =
        ran.run["thresholds"].as_array().unwrap().iter().filter(|v| v["passed"] == false).collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(ran.run["generator"]["warnings"].to_string().contains("limits.open"), "{}", ran.run["generator"]);
}

#[tokio::test]
async fn failures_by_kind() {
    let lab = Lab::new();
    let reset = lab.text_path("reset");
    std::fs::write(&reset, "").unwrap();
    let (_dies, resets) = testapp(lab.dir(), &["--reset-while", &reset]).await;
    let (_app, addr) = testapp(lab.dir(), &[]).await;
    let scenario = format!(
        "services:
  - {{name: refused, url: 'http://127.0.0.1:1/'}}
  - {{name: unknown, url: 'http://there-is.no-such-host.invalid/'}}
  - {{name: reset, url: 'http://{resets}/'}}
  - {{name: timeout, url: 'http://{addr}/hang', timeout: 200ms}}
  - {{name: status, url: 'http://{addr}/status?code=503'}}
  - {{name: accepted, url: 'http://{addr}/status?code=503', success: [503]}}
  - {{name: no-event, url: 'http://{addr}/', protocol: sse}}
  - {{name: no-grpc, url: 'http://{addr}/', protocol: grpc, grpc: {{method: a.B/C}}, path: /x}}
  - {{name: no-websocket, url: 'http://{addr}/', protocol: websocket}}
load: [{{burst: 3}}]\n"
    );
    std::fs::write(lab.path("s.yaml"), scenario).unwrap();
    let ran = run(&lab, &["s.yaml"]).await.exits(0);
    let codes = |name: &str| {
        let services = ran.run["services"].as_array().unwrap();
        let service = services.iter().find(|s| s["name"] == name).unwrap();
        (
            service["codes"].to_string(),
            service["total"]["ok"].as_u64().unwrap(),
            service["reasons"].to_string(),
        )
    };
    for (name, code, ok) in [
        ("refused", "connect", 0),
        ("unknown", "connect", 0),
        ("timeout", "timeout", 0),
        ("status", "503", 0),
        ("accepted", "503", 3),
        ("no-event", "no event", 0),
        ("no-grpc", "grpc 0", 3),
        ("no-websocket", "200", 0),
    ] {
        let (codes, ok_seen, _) = codes(name);
        assert_eq!((codes, ok_seen), (format!("{{\"{code}\":3}}"), ok), "{name}");
    }
    // Depends on who is faster: the connection may break before it is one.
    let (reset, ok, _) = codes("reset");
    assert!(ok == 0 && (reset.contains("reset") || reset.contains("connect")), "{reset}");
    assert!(codes("refused").2.contains("Connection refused"), "{}", codes("refused").2);
}
