//! Numbers as people read them.

use std::fmt::Write as _;

/// `1,234,567`
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three digits that count, or all of the whole part: `0.123`, `1.23`, `12.3`, `1,234`.
pub(crate) fn number(x: f64) -> String {
    let size = x.abs();
    let text = match () {
        () if !x.is_finite() => return "–".into(),
        () if size >= 99.95 => {
            let whole = count(size.round() as u64);
            return if x < 0.0 { format!("−{whole}") } else { whole };
        }
        () if size >= 9.995 => format!("{size:.1}"),
        () if size >= 0.9995 || size == 0.0 => format!("{size:.2}"),
        () => format!("{size:.3}"),
    };
    let text = if size == 0.0 { "0" } else { &text };
    if x < 0.0 { format!("−{text}") } else { text.to_owned() }
}

/// Of a round number: without the zeros that [`number`] gives it.
pub(crate) fn round(x: f64) -> String {
    let text = number(x);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Milliseconds of a round number, with their unit.
pub(crate) fn round_ms(x: f64) -> String {
    let (value, unit) = match x {
        x if x >= 10_000.0 => (x / 1000.0, "s"),
        x if x >= 1.0 || x <= 0.0 => (x, "ms"),
        _ => (x * 1000.0, "µs"),
    };
    format!("{} {unit}", round(value))
}

/// Milliseconds with the unit that suits them: `850 µs`, `12.3 ms`, `4.20 s`.
pub(crate) fn ms(x: f64) -> String {
    match x.abs() {
        size if size >= 9_999.5 => format!("{} s", number(x / 1000.0)),
        size if size >= 0.9995 || size == 0.0 => format!("{} ms", number(x)),
        _ => format!("{:.0} µs", x * 1000.0),
    }
}

/// Seconds: `4.2 s`, `1 min 30 s`, `2 h 5 min`.
pub(crate) fn seconds(s: f64) -> String {
    if s < 99.95 {
        return format!("{s:.1} s");
    }
    let whole = s.round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    let mut out = String::new();
    for (n, unit) in [(hours, "h"), (minutes, "min"), (seconds, "s")] {
        if n > 0 && !(unit == "s" && hours > 0) {
            let _ = write!(out, "{}{n} {unit}", if out.is_empty() { "" } else { " " });
        }
    }
    out
}

/// A share as a percentage, with as many digits as tell it from 0 and from 100 %.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".into();
    }
    percent(part as f64 / whole as f64)
}

/// The same of a fraction.
pub(crate) fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    match percent {
        p if p <= 0.0 || p >= 100.0 => format!("{p:.0} %"),
        p if (1.0..99.0).contains(&p) => format!("{p:.1} %"),
        p if (0.01..99.99).contains(&p) => format!("{p:.2} %"),
        p if p < 0.01 => "< 0.01 %".into(),
        _ => "> 99.99 %".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_read_them() {
        for (x, expected) in [
            (0.0, "0"),
            (0.1234, "0.123"),
            (0.9999, "1.00"),
            (1.234, "1.23"),
            (9.999, "10.0"),
            (12.34, "12.3"),
            (99.96, "100"),
            (1_234_567.0, "1,234,567"),
            (-1234.5, "−1,235"),
            (-0.5, "−0.500"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(number(x), expected, "{x}");
        }
        assert_eq!(
            [ms(0.85), ms(12.3), ms(4_200.0), ms(42_000.0)],
            ["850 µs", "12.3 ms", "4,200 ms", "42.0 s"]
        );
        assert_eq!(
            [round_ms(0.0), round_ms(0.5), round_ms(20.0), round_ms(20_000.0)],
            ["0 ms", "500 µs", "20 ms", "20 s"]
        );
        assert_eq!([seconds(4.2), seconds(90.0), seconds(100.0)], ["4.2 s", "90.0 s", "1 min 40 s"]);
        assert_eq!([seconds(3600.0), seconds(7500.0)], ["1 h", "2 h 5 min"]);
        assert_eq!(
            [share(0, 5), share(5, 5), share(1, 3), share(1, 100_000)],
            ["0 %", "100 %", "33.3 %", "< 0.01 %"]
        );
        assert_eq!([share(99_999, 100_000), share(1, 1000), share(0, 0)], ["> 99.99 %", "0.10 %", "–"]);
    }
}
