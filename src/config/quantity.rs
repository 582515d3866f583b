//! Durations, sizes and percentages: text → value → text.

use std::time::Duration;

/// No duration in a file or flag is longer than this: a week.
pub const DURATION_MAX: Duration = Duration::from_hours(7 * 24);
/// What a duration looks like, for messages.
pub const DURATION_FORM: &str = "a duration such as 100ms, 30s, 5m, 1h or 1m30s";
/// What a size looks like, for messages.
pub const SIZE_FORM: &str = "a size such as 256Mi, 4Gi, 500M or a number of bytes";
/// No size is larger than this: 1 EiB.
pub const SIZE_MAX: u64 = 1 << 60;

/// Longest text that is tried: longer ones are never meant.
const TEXT_MAX: usize = 64;

const DURATION_UNITS: [(&str, u128); 7] = [
    // Longest first where one is the beginning of another.
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

const SIZE_UNITS: [(&str, u64); 10] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
];

/// Reads a duration in Go's form: `100ms`, `30s`, `1m30s`, `1.5h`, `0`. `None` when it is not one.
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() || text.len() > TEXT_MAX {
        return None;
    }
    let mut nanos: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (mantissa, scale, after) = decimal(rest)?;
        // `m` is the beginning of `ms`: the longest unit that fits is meant.
        let (unit, factor) =
            DURATION_UNITS.iter().filter(|(u, _)| after.starts_with(u)).max_by_key(|(u, _)| u.len())?;
        nanos = nanos.checked_add(mantissa.checked_mul(*factor)? / scale)?;
        rest = &after[unit.len()..];
    }
    let secs = u64::try_from(nanos / 1_000_000_000).ok()?;
    Some(Duration::new(secs, (nanos % 1_000_000_000) as u32))
}

/// The shortest text that reads back as this duration.
pub fn show_duration(d: Duration) -> String {
    let mut nanos = d.as_nanos();
    if nanos == 0 {
        return "0s".into();
    }
    let mut out = String::new();
    for unit in ["h", "m", "s", "ms", "us", "ns"] {
        let factor = DURATION_UNITS.iter().find(|(u, _)| *u == unit).map_or(1, |(_, f)| *f);
        if nanos >= factor {
            out.push_str(&(nanos / factor).to_string());
            out.push_str(unit);
            nanos %= factor;
        }
    }
    out
}

/// Reads a size: `256Mi`, `1.5Gi`, `500M`, `1000`. `None` when it is not one or above [`SIZE_MAX`].
pub fn size(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > TEXT_MAX {
        return None;
    }
    let (mantissa, scale, unit) = decimal(text)?;
    let factor = match unit {
        "" => 1,
        _ => SIZE_UNITS.iter().find(|(u, _)| *u == unit)?.1,
    };
    let bytes = mantissa.checked_mul(u128::from(factor))?;
    // A part of a byte is a mistake: `1.5` is not a size.
    (bytes % scale == 0)
        .then_some(bytes / scale)
        .and_then(|b| u64::try_from(b).ok())
        .filter(|b| *b <= SIZE_MAX)
}

/// The shortest text that reads back as this size.
pub fn show_size(bytes: u64) -> String {
    let whole = |(_, f): &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(*f);
    match SIZE_UNITS.iter().filter(whole).max_by_key(|(_, f)| *f) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => bytes.to_string(),
    }
}

/// Reads `70%` as 70. `None` without the sign.
pub fn percent(text: &str) -> Option<f64> {
    let (mantissa, scale, rest) = decimal(text.strip_suffix('%')?)?;
    rest.is_empty().then_some(mantissa as f64 / scale as f64)
}

/// Reads digits with an optional fraction: (mantissa, power of ten to divide by, what follows).
fn decimal(text: &str) -> Option<(u128, u128, &str)> {
    // As many as [`SIZE_MAX`] has.
    const DIGITS_MAX: u32 = 19;
    let (mut mantissa, mut scale, mut digits, mut fraction) = (0u128, 1u128, 0u32, false);
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'0'..=b'9' => {
                digits += 1;
                if digits > DIGITS_MAX {
                    return None;
                }
                mantissa = mantissa * 10 + u128::from(b - b'0');
                if fraction {
                    scale *= 10;
                }
            }
            b'.' if !fraction => fraction = true,
            _ => return (digits > 0).then_some((mantissa, scale, &text[i..])),
        }
    }
    (digits > 0).then_some((mantissa, scale, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("100ms", 100),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("0.5s", 500),
            ("1h0m1s", 3_601_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "5", "-1s", "s", "1 s", "1d", "1s5", "..s", "1e3s", "999999999999999999999h", "1S"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("256Mi", 256 << 20),
            ("4Gi", 4 << 30),
            ("1G", 1_000_000_000),
            ("1.5Gi", 3 << 29),
            ("1k", 1000),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in ["", "-1", "1.5", "4GB", "4 Gi", "Gi", "1K", "99999999P", "0x10"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        assert_eq!(show_size(256 << 20), "256Mi");
        assert_eq!(show_size(0), "0");
        for most in [SIZE_MAX, SIZE_MAX - 1] {
            assert_eq!(size(&show_size(most)), Some(most));
        }
    }

    #[test]
    fn percents() {
        assert_eq!(percent("70%"), Some(70.0));
        assert_eq!(percent("0.5%"), Some(0.5));
        for bad in ["70", "%", "-1%", "7 %", "7%%"] {
            assert_eq!(percent(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn duration_round(nanos in 0u64..u64::MAX / 2) {
            let d = Duration::from_nanos(nanos);
            prop_assert_eq!(duration(&show_duration(d)), Some(d));
        }

        #[test]
        fn size_round(bytes in 0u64..=SIZE_MAX, shift in 0u32..60) {
            let bytes = bytes >> shift << (shift / 2);
            let bytes = bytes.min(SIZE_MAX);
            prop_assert_eq!(size(&show_size(bytes)), Some(bytes));
        }

        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = (duration(&text), size(&text), percent(&text));
        }
    }
}
