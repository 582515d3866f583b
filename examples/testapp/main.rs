//! A real app for tests and benches: what pilotlight starts, fills, kills and drains.
//!
//! Everything that a test wants to know goes into the `--record` file, one JSON line per event, so that the app's own
//! view (who reached it, how many at once) is there even after SIGKILL. It uses nothing of the `pilotlight` crate:
//! code under test must not vouch for itself.
#![allow(clippy::disallowed_methods, reason = "a program of its own: the clock rule is about pilotlight")]

mod app;
mod body;
mod flags;
mod pages;
mod record;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use clap::Parser as _;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use app::App;
use flags::Flags;

fn main() -> ExitCode {
    // First of all: cold starts are measured up to this instant.
    let boot = SystemTime::now();
    let flags = Flags::parse();
    let record = record::Record::open(flags.record.as_deref());
    record.write_at(boot, "boot", json!({}));
    if flags.boot_marker {
        println!("boot {}", record::nanos(boot));
        let _ = std::io::stdout().flush();
    }
    if let Some(code) = flags.fail_start {
        eprintln!("testapp: cannot start, exit status {code}");
        return ExitCode::from(code);
    }
    if flags.child && !spawn_child() {
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return failed("runtime", &e),
    };
    match runtime.block_on(run(Arc::new(App::new(flags, record)))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failed("listen", &e),
    }
}

fn failed(what: &str, error: &std::io::Error) -> ExitCode {
    eprintln!("testapp: {what}: {error}");
    ExitCode::FAILURE
}

/// A grandchild in the replica's process group: it is only gone if the whole group was killed.
fn spawn_child() -> bool {
    let child = std::process::Command::new("sleep").arg("3600").spawn();
    if let Err(e) = &child {
        eprintln!("testapp: sleep: {e}");
    }
    child.is_ok()
}

async fn run(app: Arc<App>) -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! {
        () = app.start() => {}
        // An app that is still starting has nothing to finish.
        _ = term.recv(), if !app.flags.ignore_sigterm => return Ok(()),
    }
    let main = listen(app.flags.host, app.flags.port).await?;
    let grpc = match app.flags.grpc_port {
        Some(port) => Some(listen(app.flags.host, port).await?),
        None => None,
    };
    let addr = main.local_addr()?;
    app.record.write("listen", json!({ "port": addr.port() }));
    println!("testapp listening on {addr}");
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = main.accept() => accepted,
            accepted = accept(grpc.as_ref()) => accepted,
            _ = term.recv() => {
                app.record.write("term", json!({}));
                if app.flags.ignore_sigterm {
                    continue;
                }
                break;
            }
        };
        let Ok((stream, _)) = accepted else { continue };
        if app.flags.reset_while.as_ref().is_some_and(|file| file.exists()) {
            let _ = stream.set_zero_linger();
            continue;
        }
        let _ = stream.set_nodelay(true);
        if app.flags.die_reading {
            tokio::spawn(die_reading(stream));
            continue;
        }
        let port = stream.local_addr().map_or(0, |addr| addr.port());
        let service = {
            let app = app.clone();
            service_fn(move |req| app::serve(app.clone(), port, req))
        };
        let builder = auto::Builder::new(TokioExecutor::new());
        let conn = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let conn = graceful.watch(conn);
        tokio::spawn(async move {
            let _ = conn.await;
        });
    }
    drop((main, grpc));
    graceful.shutdown().await;
    // Upgraded connections have left hyper; they are in flight all the same.
    app.idle().await;
    app.record.write("exit", json!({}));
    Ok(())
}

/// A probe that only connects does it no harm.
async fn die_reading(mut stream: tokio::net::TcpStream) {
    if stream.read(&mut [0; 8]).await.is_ok_and(|n| n > 0) {
        std::process::abort();
    }
}

async fn listen(host: Ipv4Addr, port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((host, port))).await
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(tokio::net::TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
