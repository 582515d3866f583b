//! Clients and apps that are not ours. What they need is found or installed by `tests/setup`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::support::{Lab, NAME, Program, SOON, Setup, Way, holds, host, program, python, wait_until};

const HTTPX: &[&str] = &["httpx[http2]==0.28.1"];
const WEBSOCKETS: &[&str] = &["websockets==15.0.1"];
const UVICORN: &[&str] = &["uvicorn==0.35.0", "websockets==15.0.1"];
const HYPERCORN: &[&str] = &["hypercorn==0.18.0"];

fn script(name: &str) -> String {
    format!("{}/tests/proxy/py/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Starts a client; its arguments are the script, the traffic port as a URL, and the service's host.
fn client(
    lab: &Lab,
    python: &Path,
    name: &str,
    scheme: &str,
    to: SocketAddr,
    path: &str,
    more: &[&str],
) -> Program {
    let mut command = Command::new(python);
    command.arg(script(name)).arg(format!("{scheme}://{to}{path}")).arg(host(NAME)).args(more);
    Program::spawn(command, lab.dir())
}

async fn says(program: &Program, line: &str) {
    wait_until(SOON, format!("it says {line:?}"), async || {
        let log = program.log();
        holds(log.lines().any(|l| l == line), log)
    })
    .await;
}

#[tokio::test]
async fn httpx_over_both_protocols() {
    let python = python(HTTPX).await;
    for setup in Setup::ALL {
        let way = Way::through(setup).limit(1).start().await;
        for protocol in ["h1", "h2"] {
            let mut client =
                client(&way.lab, &python, "httpx_client.py", "http", way.traffic, "", &[protocol]);
            assert_eq!(client.wait(SOON).await, 0, "{way} {protocol}: {}", client.settled_log().await);
        }
        way.idle().await;
    }
}

/// uvicorn with its own directory for gates and what it says.
async fn uvicorn(setup: Setup) -> (Way, tempfile::TempDir) {
    let python = python(UVICORN).await;
    let dir = tempfile::TempDir::with_prefix("pilotlight-uvicorn-").unwrap();
    let (python, script) = (python.to_str().unwrap(), script("uvicorn_app.py"));
    let app = [python, &script, "$(PORT)", dir.path().to_str().unwrap()];
    (Way::through(setup).app(&app).limit(1).start().await, dir)
}

#[tokio::test]
async fn tokens_from_uvicorn_come_one_by_one() {
    for setup in Setup::ALL {
        let (way, dir) = uvicorn(setup).await;
        for h2 in [false, true] {
            let call = way.get("/stream");
            let mut stream = if h2 { call.h2() } else { call }.open(way.traffic).await.unwrap();
            for i in 0..3 {
                assert_eq!(stream.chunk().await.unwrap().unwrap(), format!("token {i}\n"), "{way} h2 {h2}");
                std::fs::write(dir.path().join(format!("gate-{i}")), "").unwrap();
            }
            assert_eq!(stream.rest().await.unwrap().text(), "end\n", "{way} h2 {h2}");
            for i in 0..3 {
                std::fs::remove_file(dir.path().join(format!("gate-{i}"))).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn websockets_to_uvicorn_hear_that_we_go() {
    let python = python(WEBSOCKETS).await;
    for setup in Setup::ALL {
        let (mut way, dir) = uvicorn(setup).await;
        let client = client(&way.lab, &python, "websockets_client.py", "ws", way.traffic, "/ws", &[]);
        says(&client, "ready").await;
        way.front().signal(Signal::TERM);
        says(&client, "closed 1001").await;
        let closed = dir.path().join("closed");
        wait_until(SOON, format!("{way}: the app hears it too"), async || {
            let code = std::fs::read_to_string(&closed).unwrap_or_default();
            holds(code == "1001\n", format!("{code:?}"))
        })
        .await;
        assert_eq!(way.front().wait(SOON).await, 0, "{way}");
    }
}

#[tokio::test]
async fn websockets_reach_an_http_2_app_by_extended_connect() {
    let (websockets, hypercorn) = (python(WEBSOCKETS).await, python(HYPERCORN).await);
    for setup in Setup::ALL {
        let script = script("hypercorn_app.py");
        let app = [hypercorn.to_str().unwrap(), &script, "$(PORT)"];
        let way = Way::through(setup).app(&app).protocol("h2c").start().await;
        let mut client = client(&way.lab, &websockets, "websockets_first.py", "ws", way.traffic, "/", &[]);
        assert_eq!(client.wait(SOON).await, 0, "{way}: {}", client.settled_log().await);
        assert_eq!(client.log(), "over 2", "{way}");
    }
}

async fn curl(way: &Way, args: &[&str]) -> String {
    let curl: PathBuf = program("curl").await;
    let mut command = Command::new(curl);
    command.args(["-sS", "--max-time", "60", "-H", &format!("host: {}", host(NAME))]).args(args);
    let mut program = Program::spawn(command, way.lab.dir());
    assert_eq!(program.wait(SOON).await, 0, "{way}: {}", program.settled_log().await);
    program.settled_log().await
}

#[tokio::test]
async fn curl_over_both_protocols() {
    for setup in Setup::ALL {
        let way = Way::through(setup).limit(1).start().await;
        let url = |path: &str| format!("http://{}{path}", way.traffic);
        let body = way.lab.path("body");
        // More than curl sends without asking for `100 Continue` first.
        std::fs::write(&body, "z".repeat(3_000_000)).unwrap();
        let body = format!("@{}", body.display());
        for version in ["--http1.0", "--http1.1", "--http2-prior-knowledge"] {
            let sunk = curl(&way, &[version, "--data-binary", &body, &url("/sink")]).await;
            assert!(sunk.contains("\"bytes\":3000000"), "{way} {version}: {sunk}");
            let events = curl(&way, &[version, "-N", &url("/sse?n=2")]).await;
            assert_eq!(events, "data: 0\n\ndata: 1\n", "{way} {version}");
            let head = curl(&way, &[version, "-I", &url("/bytes?n=5")]).await.to_ascii_lowercase();
            assert!(head.contains("content-length: 5"), "{way} {version}: {head}");
            let code =
                curl(&way, &[version, "-o", "/dev/null", "-w", "%{http_code}\n", &url("/status?code=404")])
                    .await;
            assert_eq!(code, "404", "{way} {version}");
        }
        way.idle().await;
    }
}

#[tokio::test]
async fn nginx_as_an_app() {
    let nginx = program("nginx").await;
    for setup in Setup::ALL {
        // nginx reads its port from a file only: a shell writes it.
        let dir = tempfile::TempDir::with_prefix("pilotlight-nginx-").unwrap();
        let at = dir.path().display();
        std::fs::write(dir.path().join("page.txt"), "from nginx\n".repeat(100_000)).unwrap();
        let config = format!(
            "daemon off; worker_processes 1; pid {at}/pid; error_log stderr; events {{}} http {{ access_log off; \
             client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; \
             scgi_temp_path {at}/s; server {{ listen 127.0.0.1:@PORT@; root {at}; location = / {{ return 200 ok; }} }} }}"
        );
        std::fs::write(dir.path().join("template"), config).unwrap();
        let run =
            format!("sed s/@PORT@/$0/ {at}/template > {at}/conf && exec {} -c {at}/conf", nginx.display());
        let user = format!("chmod -R a+rX {at}; {run}");
        let way = Way::through(setup).app(&["sh", "-c", &user, "$(PORT)"]).limit(2).start().await;
        for h2 in [false, true] {
            let over = |call: crate::support::Call| if h2 { call.h2() } else { call };
            let page = over(way.get("/page.txt")).send(way.traffic).await.unwrap();
            assert_eq!((page.status, page.body.len()), (200, 1_100_000), "{way} h2 {h2}");
            let part =
                over(way.get("/page.txt").header("range", "bytes=0-3")).send(way.traffic).await.unwrap();
            assert_eq!((part.status, part.text().as_str()), (206, "from"), "{way} h2 {h2}");
            assert_eq!(part.header("content-range"), "bytes 0-3/1100000", "{way} h2 {h2}");
            let etag = page.header("etag").to_owned();
            let same =
                over(way.get("/page.txt").header("if-none-match", &etag)).send(way.traffic).await.unwrap();
            assert_eq!((same.status, same.body.len()), (304, 0), "{way} h2 {h2}");
        }
        way.idle().await;
    }
}
