use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const SOON: Duration = Duration::from_secs(20);

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn prober(probe: &Probe, http: SocketAddr) -> Prober {
    Prober::new(probe, Addresses { http, grpc: None }, ExecContext::default())
}

fn get(path: &str) -> Probe {
    Probe::HttpGet { path: path.into(), port: None, headers: vec![("X-Test".into(), "yes".into())] }
}

fn exec(script: &str) -> Probe {
    Probe::Exec { command: vec!["sh".into(), "-c".into(), script.into()] }
}

/// Answers every connection with `answer`, and keeps what it was asked.
fn raw_server(listener: TcpListener, answer: &'static [u8]) -> tokio::sync::mpsc::UnboundedReceiver<String> {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = vec![0; 4096];
            let length = stream.read(&mut asked).await.unwrap_or(0);
            let _ = tell.send(String::from_utf8_lossy(&asked[..length]).into_owned());
            let _ = stream.write_all(answer).await;
        }
    });
    told
}

#[test]
fn a_probe_may_run_on_any_thread() {
    fn sendable<T: Send>(_: T) {}
    let probe = prober(&get("/"), SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    let now = clock::now();
    sendable(probe.until_ready(now, now));
}

#[tokio::test]
async fn tcp_follows_the_listener() {
    let (listener, address) = listener().await;
    let probe = prober(&Probe::TcpSocket { port: None }, address);
    probe.check().await.unwrap();
    drop(listener);
    assert!(matches!(probe.check().await, Err(ProbeFailure::Refused(a)) if a == address));
    let other = prober(&Probe::TcpSocket { port: Some(1) }, address);
    assert_eq!(other.address(), Some(SocketAddr::new(address.ip(), 1)));
}

#[tokio::test]
async fn an_app_that_listens_late_is_found_soon_after() {
    let (listener, address) = listener().await;
    drop(listener);
    let start = clock::now();
    let app = tokio::spawn(async move {
        sleep(Duration::from_millis(30)).await;
        let listener = TcpListener::bind(address).await.unwrap();
        (clock::now(), listener)
    });
    let probe = prober(&Probe::TcpSocket { port: None }, address);
    let took = probe.until_ready(start, start + SOON).await.unwrap();
    let (listens, _listener) = app.await.unwrap();
    let late = took.saturating_sub(listens - start);
    assert!(took >= Duration::from_millis(30) && late < Duration::from_millis(100), "{late:?} late");
}

#[tokio::test]
async fn gives_up_at_the_deadline_and_says_why() {
    let (listener, address) = listener().await;
    drop(listener);
    let start = clock::now();
    let failed =
        prober(&get("/"), address).until_ready(start, start + Duration::from_millis(500)).await.unwrap_err();
    assert!(matches!(failed.last, ProbeFailure::Refused(_)) && failed.attempts > 5, "{failed:?}");
    assert!(clock::now() - start < SOON);
}

#[tokio::test]
async fn http_judges_by_status() {
    for (answer, ready) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"[..], true),
        (b"HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n", true),
        (b"HTTP/1.0 204 No Content\r\n\r\n", true),
        (b"HTTP/1.1 200 OK\r\n\r\nendless", true),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", false),
        (b"HTTP/1.1 503 No\r\ncontent-length: 5\r\n\r\nwait!", false),
        (b"SSH-2.0-OpenSSH\r\n", false),
        (b"", false),
    ] {
        let (listener, address) = listener().await;
        let mut asked = raw_server(listener, answer);
        let result = prober(&get("/ready?a=1"), address).check().await;
        assert_eq!(result.is_ok(), ready, "{}: {result:?}", String::from_utf8_lossy(answer));
        let asked = asked.recv().await.unwrap();
        assert!(asked.starts_with("GET /ready?a=1 HTTP/1.1\r\n"), "{asked}");
        assert!(
            asked.contains(&format!("user-agent: {USER_AGENT}\r\n")) && asked.contains("x-test: yes\r\n"),
            "{asked}"
        );
        assert!(asked.contains(&format!("host: {address}\r\n")), "{asked}");
    }
}

#[tokio::test]
async fn a_huge_head_and_silence_are_failures() {
    let (first, address) = listener().await;
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let _asked = raw_server(first, Vec::leak(huge.into_bytes()));
    let huge = prober(&get("/"), address).check().await;
    assert!(matches!(huge, Err(ProbeFailure::Protocol(_))), "{huge:?}");

    let (_silent, address) = listener().await;
    for probe in [get("/"), Probe::Grpc { port: None, service: String::new() }] {
        let limit = Duration::from_millis(30);
        let silent = prober(&probe, address).with_timeout(limit).check().await;
        assert!(matches!(silent, Err(ProbeFailure::Timeout(t)) if t == limit), "{silent:?}");
    }
}

#[tokio::test]
async fn a_probe_that_cannot_be_made_fails_at_once() {
    let (_listener, address) = listener().await;
    let probe =
        Probe::HttpGet { path: "/".into(), port: None, headers: vec![("bad header".into(), "x".into())] };
    let start = clock::now();
    let failed = prober(&probe, address).until_ready(start, start + SOON).await.unwrap_err();
    assert!(matches!(failed.last, ProbeFailure::Invalid(_)) && failed.attempts == 1, "{failed:?}");
}

/// A health service that says `serving` from the third question on.
async fn health(request: Request<Incoming>, asked: Arc<AtomicU32>) -> Result<Response<Body>, Infallible> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let response = Response::builder().header("content-type", "application/grpc");
    if body[..] != b"\0\0\0\0\x06\x0a\x04iris"[..] {
        let response = response.header("grpc-status", "5");
        return Ok(response
            .body(Full::new(Bytes::new()).with_trailers(std::future::ready(None).boxed()))
            .unwrap());
    }
    let status = if asked.fetch_add(1, Ordering::Relaxed) < 2 { 2 } else { 1 };
    let body = Full::new(Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]));
    let trailers =
        HeaderMap::from_iter([(::http::HeaderName::from_static("grpc-status"), "0".parse().unwrap())]);
    Ok(response.body(body.with_trailers(async { Some(Ok(trailers)) }.boxed())).unwrap())
}

type Trailers = futures_util::future::BoxFuture<'static, Option<Result<HeaderMap, Infallible>>>;
type Body = http_body_util::combinators::WithTrailers<Full<Bytes>, Trailers>;

#[tokio::test]
async fn grpc_waits_for_serving() {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        let asked = Arc::new(AtomicU32::new(0));
        while let Ok((stream, _)) = listener.accept().await {
            let asked = Arc::clone(&asked);
            let service = service_fn(move |request| health(request, Arc::clone(&asked)));
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(async move { server.serve_connection(TokioIo::new(stream), service).await });
        }
    });
    let check = |service: &str| prober(&Probe::Grpc { port: None, service: service.into() }, address);
    let unknown = check("other").check().await.unwrap_err();
    assert!(unknown.to_string().contains("NOT_FOUND"), "{unknown}");
    let not_yet = check("iris").check().await.unwrap_err();
    assert!(not_yet.to_string().contains("NOT_SERVING"), "{not_yet}");
    let start = clock::now();
    check("iris").until_ready(start, start + SOON).await.unwrap();
}

#[tokio::test]
async fn grpc_goes_to_its_own_port() {
    let addresses = Addresses {
        http: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        grpc: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 2))),
    };
    let at = |probe| Prober::new(&probe, addresses, ExecContext::default()).address().map(|a| a.port());
    assert_eq!(at(Probe::Grpc { port: None, service: String::new() }), Some(2));
    assert_eq!(at(Probe::Grpc { port: Some(3), service: String::new() }), Some(3));
    assert_eq!(at(get("/")), Some(1));
    assert_eq!(at(exec("true")), None);
}

#[tokio::test]
async fn exec_runs_where_the_replica_does() {
    let dir = tempfile::tempdir().unwrap();
    let context = ExecContext { env: vec![("A".into(), "1".into())], working_dir: dir.path().into() };
    let (_listener, http) = listener().await;
    let addresses = Addresses { http, grpc: None };
    let probe = Prober::new(&exec("test \"$A\" = 1 && test -f flag"), addresses, context);
    let failed = probe.check().await.unwrap_err();
    assert_eq!(failed.to_string(), "sh: exit status: 1");
    let flag = dir.path().join("flag");
    tokio::spawn(async move {
        sleep(Duration::from_millis(20)).await;
        std::fs::write(flag, "").unwrap();
    });
    let start = clock::now();
    probe.until_ready(start, start + SOON).await.unwrap();
    let gone = prober(&Probe::Exec { command: vec!["/no/such".into()] }, http).check().await.unwrap_err();
    assert!(gone.to_string().starts_with("/no/such: "), "{gone}");
}

#[tokio::test]
async fn exec_is_killed_with_its_group_at_the_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pids");
    let script = format!("sleep 60 & echo $! $$ > {0}.new; mv {0}.new {0}; wait", file.display());
    let (_listener, http) = listener().await;
    let probe = prober(&exec(&script), http).with_timeout(Duration::from_secs(1));
    let slow = probe.check().await;
    assert!(matches!(slow, Err(ProbeFailure::Timeout(_))), "{slow:?}");
    let pids = std::fs::read_to_string(file).unwrap();
    let gone = async {
        // A zombie that its new parent has not reaped has an empty command line.
        while pids
            .split_whitespace()
            .any(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| !c.is_empty()))
        {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, gone).await.unwrap();
}
