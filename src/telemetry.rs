//! The log: one line per event that matters, for people or for programs, on standard error.

use std::fmt;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::clock;
use crate::config::flags::{LogConfig, LogFormat, LogLevel};

/// Begins logging. To be called once.
pub fn init(config: LogConfig) {
    // Its own steps; the libraries' only when they matter.
    let (theirs, ours) = match config.level {
        LogLevel::Error => (Level::ERROR, Level::ERROR),
        LogLevel::Warn => (Level::WARN, Level::WARN),
        LogLevel::Info => (Level::INFO, Level::INFO),
        LogLevel::Debug => (Level::WARN, Level::DEBUG),
        LogLevel::Trace => (Level::INFO, Level::TRACE),
    };
    let filter = Targets::new().with_default(theirs).with_target("pilotlight", ours);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // A closed terminal or a dead collector must not end the task that logs: without this a failed write is
        // itself printed to standard error, and that panics.
        .log_internal_errors(false);
    // A second call, as tests in one process make, keeps the first.
    let _ = match config.format {
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_target(false);
            tracing_subscriber::registry().with(filter).with(layer).try_init()
        }
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let layer = layer.with_ansi(colour).event_format(Lines);
            tracing_subscriber::registry().with(filter).with(layer).try_init()
        }
    };
}

/// `13:05:22 default/iris  ready in 1.83 s  key=value`: time, whose it is, what happened.
struct Lines;

#[derive(Default)]
struct Parts {
    message: String,
    service: String,
    rest: String,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let ansi = to.has_ansi_escapes();
        let paint = |code: &str| if ansi { format!("\x1b[{code}m") } else { String::new() };
        let (dim, bold, end) = (paint("2"), paint("1"), paint("0"));
        write!(to, "{dim}{}{end} ", time_of_day(clock::wall()))?;
        match *event.metadata().level() {
            Level::ERROR => write!(to, "{}error{end} ", paint("31"))?,
            Level::WARN => write!(to, "{}warn{end} ", paint("33"))?,
            Level::DEBUG | Level::TRACE => write!(to, "{dim}{}{end} ", event.metadata().level())?,
            Level::INFO => {}
        }
        if !parts.service.is_empty() {
            write!(to, "{bold}{}{end}  ", parts.service)?;
        }
        writeln!(to, "{}{}", parts.message, parts.rest)
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        // What apps and clients sent may be in here: no control characters reach a terminal.
        let text: String =
            format!("{value:?}").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        match field.name() {
            "message" => self.message = text,
            "service" => self.service = text,
            name => write!(self.rest, "  {name}={text}").expect("a String takes everything"),
        }
    }
}

/// `13:05:22`, UTC.
fn time_of_day(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()) % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_time_of_day_is_utc() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * 3 + 3_600 * 13 + 60 * 5 + 22);
        assert_eq!(time_of_day(at), "13:05:22");
    }
}
