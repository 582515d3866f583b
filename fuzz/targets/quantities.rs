//! Durations, sizes, percentages, names and versions: what is printed reads back, and what is read is what it says.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pilotlight::config::names;
use pilotlight::config::quantity::{SIZE_MAX, duration, percent, show_duration, show_size, size};
use pilotlight::runtime::python::constraint::Constraint;

/// The largest that can be printed: hours beyond have more digits than are read.
const LONGEST: Duration = Duration::from_secs(1 << 50);

fn sum(text: &str) -> Option<Duration> {
    duration(text).filter(|found| *found <= LONGEST)
}

fuzz_target!(|data: &[u8]| {
    if let Some(number) = data.first_chunk() {
        let number = u64::from_le_bytes(*number);
        let given = Duration::from_nanos(number);
        assert_eq!(duration(&show_duration(given)), Some(given));
        let given = number.min(SIZE_MAX);
        assert_eq!(size(&show_size(given)), Some(given));
    }
    let Ok(text) = str::from_utf8(data) else { return };
    if let Some(found) = sum(text) {
        assert_eq!(duration(&show_duration(found)), Some(found), "{text}");
        // Two after each other are their sum.
        if let (false, Some(twice)) = (text == "0", duration(&text.repeat(2))) {
            let whole = found * 2;
            // Parts of a nanosecond are dropped, for each term.
            assert!(whole <= twice && twice - whole < Duration::from_nanos(64), "{text}");
        }
    }
    if let Some(found) = size(text) {
        assert!(found <= SIZE_MAX);
        assert_eq!(size(&show_size(found)), Some(found), "{text}");
    }
    if let Some(found) = percent(text) {
        assert!(found.is_finite() && found >= 0.0, "{text}");
        let number: f64 = text.trim_end_matches('%').parse().expect("a number before the sign");
        assert!((number - found).abs() <= number * 1e-15, "{text}");
    }
    if let Some(host) = names::host(text) {
        assert_eq!(names::host(&host), Some(host.clone()));
        assert!(host.split('.').all(names::is_label));
        // What may be claimed is a target's authority, and comes back as the same host.
        let uri: http::Uri = format!("http://{host}/").parse().expect("a host");
        assert_eq!(uri.host(), Some(&host[..]));
    }
    if let Some(version) = names::python_version(text) {
        assert_eq!(names::python_version(&version), Some(version.clone()));
        let constraint: Result<Constraint, _> = version.parse();
        // `validate` has accepted it, so making the environment must not refuse it.
        assert!(constraint.is_ok(), "{version}");
    }
});
