use proptest::prelude::*;

use super::super::samples::Sample;
use super::super::{Paint, compare};
use super::*;

fn compared(a: &Sample, b: &Sample) -> Comparison {
    Comparison::of([Path::new("a.json"), Path::new("b.json")], [&a.run(), &b.run()])
}

fn verdicts(comparison: &Comparison, verdict: Verdict) -> Vec<&'static str> {
    comparison.with(verdict).iter().map(|(_, figure)| figure.what).collect()
}

fn sample(seed: u64) -> Sample {
    Sample { seed, seconds: 40, per_second: 60, ..Sample::default() }
}

#[test]
fn what_is_slower_is_worse() {
    let (a, b) = (sample(1), Sample { median_ms: 6.0, ..sample(2) });
    let slower = compared(&a, &b);
    for what in ["p50", "p90", "p99"] {
        assert!(verdicts(&slower, Verdict::Worse).contains(&what), "{slower:#?}");
        assert!(verdicts(&compared(&b, &a), Verdict::Better).contains(&what));
    }
    assert!(verdicts(&slower, Verdict::Better).is_empty());
    let text = compare::text(&slower, Paint::off());
    assert!(text.contains("Worse: iris, p50:"), "{text}");
    let widest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 100, "{widest}\n{text}");
}

#[test]
fn more_failures_are_worse() {
    let failing = compared(&sample(1), &Sample { failing: 5.0, ..sample(2) });
    assert_eq!(verdicts(&failing, Verdict::Worse), ["failed"], "{failing:#?}");
}

#[test]
fn chance_is_no_difference() {
    let mut said = 0;
    for seed in 0..20 {
        let same = compared(&sample(seed), &sample(seed + 100));
        said += same.with(Verdict::Better).len() + same.with(Verdict::Worse).len();
        assert!(same.with(Verdict::Same).len() >= 5, "{same:#?}");
    }
    // Of 20 × 8 figures; ranges that do not overlap are rarer than one in twenty.
    assert!(said <= 3, "{said}");
}

#[test]
fn a_short_run_tells_nothing() {
    let short =
        compared(&Sample { seconds: 5, ..sample(1) }, &Sample { seconds: 5, median_ms: 50.0, ..sample(2) });
    assert!(short.with(Verdict::Worse).is_empty(), "{short:#?}");
    assert!(verdicts(&short, Verdict::Unknown).contains(&"p50"));
}

#[test]
fn what_makes_them_hard_to_compare_is_said() {
    let mut b = Sample { per_second: 90, services: vec!["iris".into(), "new".into()], ..sample(2) }.run();
    b.scenario = "other".into();
    b.finished = Finished::Interrupted;
    b.generator.warnings.push("late".into());
    let a = Sample { services: vec!["iris".into(), "old".into()], ..sample(1) }.run();
    let comparison = Comparison::of([Path::new("a"), Path::new("b")], [&a, &b]);
    let remarks = comparison.remarks.join("\n");
    for expected in [
        "different names",
        "B did not run to its end",
        "B: late",
        "different load",
        "Only in A: old.",
        "Only in B: new.",
    ] {
        assert!(remarks.contains(expected), "{expected}: {remarks}");
    }
}

#[test]
fn the_page_is_well_formed() {
    let (mut a, b) = (sample(1).run(), Sample { median_ms: 9.0, ..sample(2) }.run());
    a.scenario = "<script>".into();
    let comparison = Comparison::of([Path::new("<a>"), Path::new("b")], [&a, &b]);
    let page = compare::html(&comparison, [&a, &b]);
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
    let document = roxmltree::Document::parse_with_options(&page, options).unwrap();
    assert!(!document.descendants().any(|node| node.tag_name().name() == "script"));
    assert_eq!(document.descendants().filter(|node| node.tag_name().name() == "svg").count(), 4);
    assert!(page.len() < 500_000, "{}", page.len());
    if let Some(dir) = std::env::var_os("LOADTEST_SAMPLES") {
        std::fs::write(Path::new(&dir).join("compare.html"), &page).unwrap();
        println!("{}", compare::text(&comparison, Paint::on()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_run_is_like_itself_and_turning_it_round_turns_the_words(
        seed in 0_u64..1000, other in 0_u64..1000, seconds in 0_u64..40, per_second in 0_u64..40,
        median_ms in 0.01_f64..5000.0, failing in 0.0_f64..100.0,
    ) {
        let a = Sample { seed, seconds, per_second, median_ms, failing, ..Sample::default() };
        let b = Sample { seed: other, median_ms: median_ms * 1.2, ..a.clone() };
        let itself = compared(&a, &a);
        prop_assert!(itself.with(Verdict::Better).is_empty() && itself.with(Verdict::Worse).is_empty());
        for figure in itself.services.iter().flat_map(|service| &service.figures) {
            prop_assert!(figure.change().is_none_or(|change| change == "="), "{figure:?}");
        }
        let (there, back) = (compared(&a, &b), compared(&b, &a));
        prop_assert_eq!(verdicts(&there, Verdict::Better), verdicts(&back, Verdict::Worse));
        prop_assert_eq!(verdicts(&there, Verdict::Worse), verdicts(&back, Verdict::Better));
        for figure in there.services.iter().flat_map(|service| &service.figures) {
            for Ranged { value, range } in figure.values.iter().flatten() {
                prop_assert!(range.is_none_or(|(low, high)| low <= *value && *value <= high), "{figure:?}");
            }
        }
    }
}
