//! Requests as they once came: a CSV file with a column of times, or a file with one time a line.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// Requests of one trace.
const ROWS_MAX: usize = 1_000_000;
/// Bytes of one file.
const BYTES_MAX: u64 = 256 << 20;

/// Which requests of a file, and how fast.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Trace {
    /// The column with the times; none = the first one that has any.
    pub(crate) column: Option<String>,
    /// Of numbers; timestamps have none.
    pub(crate) unit: Unit,
    /// 60 makes a minute of an hour.
    pub(crate) speed: f64,
    /// Where to begin, in the trace's own time.
    pub(crate) from: Duration,
    /// How much of it, in the trace's own time.
    pub(crate) lasts: Option<Duration>,
}

/// What a number in a trace counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Seconds.
    Seconds,
    /// Thousandths.
    Millis,
    /// Millionths.
    Micros,
    /// Billionths.
    Nanos,
}

/// Why a trace cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    /// The file cannot be opened or read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It is no CSV.
    #[error("not CSV: {0}")]
    Csv(#[from] csv::Error),
    /// The named column is not in the first line.
    #[error("no column {0:?}; its columns are {1}")]
    NoColumn(String, String),
    /// No column of the first two lines has times.
    #[error("no column with times in its first two lines")]
    NoTimes,
    /// A row without a time.
    #[error("line {0}: {1:?} is no time")]
    NoTime(u64, String),
    /// More rows than are held.
    #[error("more than {ROWS_MAX} requests; `from` and `for` choose a part")]
    TooMany,
    /// Nothing in the chosen part.
    #[error("no request in the chosen part")]
    Empty,
}

// === impl Trace ===

impl Trace {
    /// Reads the file: offsets from the beginning of the chosen part, scaled, in order.
    pub(crate) fn read(&self, file: &Path) -> Result<Vec<Duration>, TraceError> {
        self.parse(std::fs::File::open(file)?.take(BYTES_MAX))
    }

    /// The same of what is there already.
    pub(crate) fn parse(&self, input: impl Read) -> Result<Vec<Duration>, TraceError> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .comment(Some(b'#'))
            .trim(csv::Trim::All)
            .from_reader(input);
        let mut column = None;
        let mut seconds = Vec::new();
        let mut record = csv::StringRecord::new();
        let mut first: Option<csv::StringRecord> = None;
        while reader.read_record(&mut record)? {
            if column.is_none() {
                column = self.column_in(&record, first.as_ref())?;
                if column.is_none() || first.is_none() && self.column.is_some() {
                    first = Some(record.clone());
                    continue;
                }
            }
            let text = column.and_then(|c| record.get(c)).unwrap_or_default();
            let line = record.position().map_or(0, csv::Position::line);
            let time = self.unit.read(text).ok_or_else(|| TraceError::NoTime(line, text.to_owned()))?;
            if seconds.len() == ROWS_MAX {
                return Err(TraceError::TooMany);
            }
            seconds.push(time);
        }
        seconds.sort_unstable_by(f64::total_cmp);
        let begin = seconds.first().copied().unwrap_or(0.0) + self.from.as_secs_f64();
        let end = self.lasts.map_or(f64::INFINITY, |lasts| begin + lasts.as_secs_f64());
        let chosen = seconds.into_iter().filter(|t| (begin..end).contains(t));
        let offsets: Vec<Duration> =
            chosen.map(|t| Duration::from_secs_f64((t - begin) / self.speed)).collect();
        if offsets.is_empty() { Err(TraceError::Empty) } else { Ok(offsets) }
    }

    /// Which column has the times. None: this line is a header, and the next one will tell.
    fn column_in(
        &self,
        record: &csv::StringRecord,
        header: Option<&csv::StringRecord>,
    ) -> Result<Option<usize>, TraceError> {
        if let Some(name) = &self.column {
            let found = record.iter().position(|field| field == name);
            let columns = || record.iter().collect::<Vec<_>>().join(", ");
            return found.map(Some).ok_or_else(|| TraceError::NoColumn(name.clone(), columns()));
        }
        let found = record.iter().position(|field| self.unit.read(field).is_some());
        if found.is_none() && header.is_some() { Err(TraceError::NoTimes) } else { Ok(found) }
    }
}

// === impl Unit ===

impl Unit {
    /// Seconds since whenever the trace counts from.
    fn read(self, text: &str) -> Option<f64> {
        let per_second = match self {
            Self::Seconds => 1.0,
            Self::Millis => 1e3,
            Self::Micros => 1e6,
            Self::Nanos => 1e9,
        };
        if let Ok(number) = text.parse::<f64>() {
            return (number.is_finite() && number.abs() < 1e19).then_some(number / per_second);
        }
        let time = humantime::parse_rfc3339_weak(text).ok()?;
        time.duration_since(UNIX_EPOCH).ok().map(|d| d.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        let unit = Unit::Seconds;
        Trace { column: None, unit, speed: 1.0, from: Duration::ZERO, lasts: None }
    }

    fn millis(trace: &Trace, text: &str) -> Result<Vec<u128>, String> {
        let read = trace.parse(text.as_bytes());
        read.map(|d| d.iter().map(Duration::as_millis).collect()).map_err(|e| e.to_string())
    }

    const AZURE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
        2023-11-16 18:17:03.9799600,4808,10\n\
        2023-11-16 18:17:04.0319600,3180,8\n\
        2023-11-16 18:18:03.9799600,110,27\n";

    #[test]
    fn timestamps_in_a_column() {
        assert_eq!(millis(&trace(), AZURE).unwrap(), [0, 52, 60_000]);
        let named = Trace { column: Some("TIMESTAMP".into()), ..trace() };
        assert_eq!(millis(&named, AZURE).unwrap(), [0, 52, 60_000]);
        let fast = Trace { speed: 60.0, ..named };
        assert_eq!(millis(&fast, AZURE).unwrap(), [0, 0, 1000]);
    }

    #[test]
    fn a_part_of_it() {
        let from = Duration::from_secs(10);
        assert_eq!(millis(&Trace { from, ..trace() }, AZURE).unwrap(), [50_000]);
        let lasts = Some(Duration::from_secs(1));
        assert_eq!(millis(&Trace { lasts, ..trace() }, AZURE).unwrap(), [0, 52]);
        let none = Trace { from, lasts, ..trace() };
        assert_eq!(millis(&none, AZURE).unwrap_err(), "no request in the chosen part");
    }

    #[test]
    fn a_number_a_line_in_any_order() {
        assert_eq!(millis(&trace(), "# seconds\n0.5\n2\n1\n\n").unwrap(), [0, 500, 1500]);
        let unit = Unit::Millis;
        assert_eq!(millis(&Trace { unit, ..trace() }, "5\n10\n").unwrap(), [0, 5]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let named = Trace { column: Some("when".into()), ..trace() };
        let no_column = "no column \"when\"; its columns are TIMESTAMP, ContextTokens, GeneratedTokens";
        assert_eq!(millis(&named, AZURE).unwrap_err(), no_column);
        assert_eq!(
            millis(&trace(), "a,b\nc,d\n").unwrap_err(),
            "no column with times in its first two lines"
        );
        assert_eq!(millis(&trace(), "1\n2\nx\n").unwrap_err(), "line 3: \"x\" is no time");
        assert_eq!(millis(&trace(), "").unwrap_err(), "no request in the chosen part");
        let Err(TraceError::Io(_)) = trace().read(Path::new("there/is/none")) else {
            panic!("there is no such file")
        };
    }
}
