//! The composition root: configuration → threads and tasks.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use crate::config::command_line::Exit;
use crate::config::flags::{self, Command};
use crate::drain::Drain;

pub mod limits;
pub mod queue_proxy;
pub mod serve;
pub mod signals;
pub mod thread;
pub mod validate;

/// A bad flag, variable or file (`EX_USAGE` of sysexits, which the contract names).
pub const EXIT_CONFIG: u8 = 64;
/// A second signal ended the program before it had drained.
pub const EXIT_FORCED: u8 = 1;
/// `timeouts.drain: 0s` is no bound; a program that was told to leave has one all the same.
const LONGEST_DRAIN: Duration = Duration::from_hours(24);
/// Closing connections takes no longer than their tasks take to look.
const CUT_OFF_WAIT: Duration = Duration::from_secs(1);

/// The whole program: reads the command line, runs what it asks for, says how it ended.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match flags::parse(args, &|name| std::env::var(name).ok()) {
        Ok(command) => command,
        Err(exit) => return leave(&exit),
    };
    let ended = match command {
        Command::Serve(config) => serve::run(config),
        Command::QueueProxy(config) => queue_proxy::run(config),
        Command::Validate(config) => Ok(validate::run(&config)),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("pilotlight: {error:#}");
        ExitCode::FAILURE
    })
}

fn leave(exit: &Exit) -> ExitCode {
    match exit {
        Exit::Text(text) => println!("{}", text.trim_end()),
        Exit::Bad(mistakes) => mistakes.iter().for_each(|mistake| eprintln!("{mistake}")),
    }
    ExitCode::from(exit.code() as u8)
}

/// Ends what the drain timeout did not see the end of.
async fn cut_off(drain: &Drain, left: usize, bound: Duration) {
    tracing::warn!("{left} requests were still there after {bound:?}: they are cut off");
    drain.abort();
    if tokio::time::timeout(CUT_OFF_WAIT, drain.finished()).await.is_err() {
        tracing::warn!("not all connections could be closed");
    }
}

/// A listener that belongs to no runtime yet.
fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address} ({flag}); is another program there?"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
