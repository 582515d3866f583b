//! A run as one page.

use std::fmt::Write as _;

use super::charts::{of_generator, of_service};
use super::codes::Kind;
use super::markup::escape;
use super::numbers::{count, ms, number, seconds, share};
use super::page::Page;
use super::replicas::Replicas;
use super::table::{cold_starts, details, replicas_text, verdict_text};
use crate::run::{Finished, Quantiles, Run, ServiceRun, Totals};

/// Points of all charts together: what bounds the page.
const POINTS_MOST: usize = 3_600;
/// Points of one chart, at most and at least.
const POINTS: std::ops::RangeInclusive<usize> = 40..=360;
/// More services than this are in the table alone.
const CHARTED_MOST: usize = 24;
/// Of the scenario's text.
const TEXT_MOST: usize = 200_000;
/// Rows of codes and of cold starts.
const ROWS_MOST: usize = 50;
const HEAD: [&str; 12] =
    ["", "sent", "ok", "failed", "requests/s", "p50", "p75", "p90", "p95", "p99", "p99.9", "max"];

/// The page.
pub(crate) fn render(run: &Run) -> String {
    let mut page = Page::default();
    head(&mut page, run);
    let charted = run.services.len().min(CHARTED_MOST);
    let points = (POINTS_MOST / charted.max(1)).clamp(*POINTS.start(), *POINTS.end());
    if run.services.len() > 1 {
        overview(&mut page, run);
    }
    for (place, section) in run.services.iter().take(charted).enumerate() {
        service(&mut page, run, section, place, points);
    }
    if charted < run.services.len() {
        page.line("notice", &format!("Charts are of the first {charted} services; the table above has all."));
    }
    generator(&mut page, run);
    if !run.scenario_text.is_empty() {
        let text: String = run.scenario_text.chars().take(TEXT_MOST).collect();
        page.add("<h2>Scenario</h2>");
        page.add(&format!("<details><summary>the file</summary><pre>{}</pre></details>", escape(&text)));
    }
    page.finish(&format!("{} – loadtest", run.scenario))
}

fn head(page: &mut Page, run: &Run) {
    page.add(&format!("<h1>{}</h1>", escape(&run.scenario)));
    let ended = match run.finished {
        Finished::Complete => "",
        Finished::Interrupted => ", interrupted",
        Finished::LimitReached => ", ended by a limit",
    };
    page.line("faint", &format!("{}, {}{ended}", run.started, seconds(run.duration_s)));
    for warning in &run.generator.warnings {
        page.line("notice", warning);
    }
    let sum = |of: fn(&Totals) -> u64| run.services.iter().map(|service| of(&service.total)).sum::<u64>();
    let (sent, ok) = (sum(|total| total.sent), sum(|total| total.ok));
    let failed = sent.saturating_sub(ok);
    let starts: u64 = run.services.iter().map(|service| service.starts_count).sum();
    let mut figures = vec![
        (count(sent), "requests", ""),
        (share(failed, sent), "failed", if failed > 0 { "bad" } else { "" }),
    ];
    if let [only] = &run.services[..] {
        let latency = &only.total.latency_ms;
        figures.extend([
            (ms(latency.p50), "p50", ""),
            (ms(latency.p99), "p99", ""),
            (ms(latency.max), "longest", ""),
        ]);
        if let Some(first) = &only.total.first_token_ms {
            figures.push((ms(first.p50), "first token, p50", ""));
        }
        if let Some(tokens) = &only.total.tokens_per_s {
            figures.push((number(tokens.p50), "tokens/s, p50", ""));
        }
    } else {
        figures.push((count(run.services.len() as u64), "services", ""));
    }
    if starts > 0 {
        figures.push((count(starts), "waited for a start", ""));
    }
    let replicas: Vec<Replicas> =
        run.services.iter().filter_map(|service| Replicas::of(&service.observed)).collect();
    if !replicas.is_empty() {
        figures.push((number(replicas.iter().map(|r| r.ready_s).sum()), "replica-seconds", ""));
    }
    page.figures(&figures);
    if !run.thresholds.is_empty() {
        let failed = run.thresholds.iter().filter(|verdict| !verdict.passed).count();
        let (class, text) = match failed {
            0 => ("good", format!("All {} thresholds hold.", run.thresholds.len())),
            _ => ("bad", format!("{failed} of {} thresholds do not hold.", run.thresholds.len())),
        };
        page.line(class, &text);
        page.add("<ul class=\"checks\">");
        for verdict in &run.thresholds {
            let (class, sign) = if verdict.passed { ("good", "✓") } else { ("bad", "✗") };
            page.add(&format!("<li class=\"{class}\">{sign} {}</li>", escape(&verdict_text(verdict))));
        }
        page.add("</ul>");
    }
}

/// All services in one table.
fn overview(page: &mut Page, run: &Run) {
    page.add("<h2>Services</h2>");
    page.line("faint", "Latencies in ms, from the instant at which the scenario wanted the request sent. Warm-ups are left out.");
    let rows: Vec<_> = run
        .services
        .iter()
        .map(|service| (row_class(&service.total), totals(service.name.clone(), &service.total)))
        .collect();
    page.table(&HEAD, &rows);
    page.add("<nav>");
    for (place, service) in run.services.iter().take(CHARTED_MOST).enumerate() {
        page.add(&format!("<a href=\"#service-{place}\">{}</a>", escape(&service.name)));
    }
    page.add("</nav>");
}

fn service(page: &mut Page, run: &Run, service: &ServiceRun, place: usize, points: usize) {
    page.add(&format!("<h2 id=\"service-{place}\">{}</h2>", escape(&service.name)));
    page.line("faint", &format!("{}, {}", service.protocol, service.url));
    let mut rows = Vec::new();
    let took_part = |(_, totals): &(_, &Totals)| totals.sent + totals.dropped > 0;
    let phases: Vec<_> = run.phases.iter().zip(&service.phases).filter(took_part).collect();
    if phases.len() > 1 || phases.iter().any(|(phase, _)| phase.warm_up) {
        for (phase, sums) in phases {
            let name =
                if phase.warm_up { format!("{} (not counted)", phase.name) } else { phase.name.clone() };
            rows.push((if phase.warm_up { "aside" } else { row_class(sums) }, totals(name, sums)));
        }
    }
    let all = if service.total.ok < service.total.sent { "all failing" } else { "all" };
    rows.push((all, totals("all".into(), &service.total)));
    for (what, quantiles) in details(&service.total) {
        let mut row = vec![what.to_owned()];
        row.extend(std::iter::repeat_n(String::new(), 4));
        row.extend(cells(quantiles));
        rows.push(("aside", row));
    }
    page.table(&HEAD, &rows);
    page.line("faint", "Latencies in ms, from the instant at which the scenario wanted the request sent.");
    if service.total.dropped > 0 {
        let text = format!("{} requests were not sent: too many were open.", count(service.total.dropped));
        page.line("notice worse", &text);
    }
    if let Some(replicas) = Replicas::of(&service.observed) {
        page.line("", &format!("Replicas: {}.", replicas_text(&replicas)));
    }
    if let Some(text) = cold_starts(service) {
        page.line("", &format!("Cold starts: {text}."));
    }
    for error in &service.observe_errors {
        page.line("notice", &format!("Replicas were not seen: {error}"));
    }
    page.charts(&of_service(run, service, points));
    codes(page, service);
    starts(page, service);
}

fn codes(page: &mut Page, service: &ServiceRun) {
    let mut codes: Vec<_> = service.codes.iter().collect();
    if codes.is_empty() {
        return;
    }
    codes.sort_by_key(|(code, n)| (std::cmp::Reverse(**n), *code));
    let all: u64 = codes.iter().map(|(_, n)| **n).sum();
    let class = |code: &str| if Kind::of(code) == Kind::Good { "" } else { "bad" };
    let mut rows: Vec<_> = codes
        .iter()
        .take(ROWS_MOST)
        .map(|(code, n)| {
            let reason = service.reasons.get(*code).cloned().unwrap_or_default();
            (class(code), vec![(*code).clone(), count(**n), share(**n, all), reason])
        })
        .collect();
    if let Some(rest) = codes.get(ROWS_MOST..).filter(|rest| !rest.is_empty()) {
        let n: u64 = rest.iter().map(|(_, n)| **n).sum();
        rows.push(("aside", vec![format!("{} others", rest.len()), count(n), share(n, all), String::new()]));
    }
    page.add(&format!(
        "<details{}><summary>what came of the requests</summary>",
        if codes.len() > 1 { " open=\"\"" } else { "" }
    ));
    page.table(&["code", "requests", "share", "the first one's reason"], &rows);
    page.add("</details>");
}

fn starts(page: &mut Page, service: &ServiceRun) {
    if service.starts.is_empty() {
        return;
    }
    let part = |value: Option<f64>| value.map_or_else(|| "–".into(), number);
    let mut longest: Vec<_> = service.starts.iter().collect();
    longest.sort_by(|a, b| b.latency_ms.total_cmp(&a.latency_ms));
    let rows: Vec<_> = longest
        .iter()
        .take(ROWS_MOST)
        .map(|start| {
            let at = number(start.at_s);
            (
                "",
                vec![
                    at,
                    number(start.latency_ms),
                    part(start.queue_ms),
                    part(start.start_ms),
                    part(start.ready_ms),
                ],
            )
        })
        .collect();
    let shown = rows.len();
    page.add(&format!("<details><summary>the {shown} longest that waited for a start</summary>"));
    page.table(&["at, s", "answer, ms", "queue, ms", "start, ms", "ready, ms"], &rows);
    page.line("faint", "queue, start and ready are the service's own, from Server-Timing.");
    page.add("</details>");
}

fn generator(page: &mut Page, run: &Run) {
    let generator = &run.generator;
    page.add("<h2>Generator</h2>");
    let late = &generator.late_ms;
    let mut text = format!(
        "Sent {}; at most {} open at a time. Late by {} (p50), {} (p99), {} (longest).",
        count(generator.sent),
        count(generator.open_max),
        ms(late.p50),
        ms(late.p99),
        ms(late.max)
    );
    if generator.dropped > 0 {
        let _ = write!(text, " {} were not sent: too many were open.", count(generator.dropped));
    }
    page.line("", &text);
    if let Some(chart) = of_generator(run) {
        page.charts(&[chart]);
    }
}

fn row_class(total: &Totals) -> &'static str {
    if total.ok < total.sent { "failing" } else { "" }
}

fn totals(name: String, totals: &Totals) -> Vec<String> {
    let failed = totals.sent.saturating_sub(totals.ok);
    let mut row = vec![name, count(totals.sent), count(totals.ok), count(failed), number(totals.per_s)];
    row.extend(cells(&totals.latency_ms));
    row
}

fn cells(quantiles: &Quantiles) -> Vec<String> {
    let Quantiles { p50, p75, p90, p95, p99, p999, max, .. } = *quantiles;
    let values = [p50, p75, p90, p95, p99, p999, max];
    values.into_iter().map(|value| if quantiles.count == 0 { "–".into() } else { number(value) }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::samples::Sample;
    use super::*;

    const HOSTILE: &str =
        "</title></script><script>alert('x')</script><img src=x onerror=alert(1)>\"'&\u{202e}\u{1b}[2J\n";

    /// Every page is XML too, so a strict parser can read it.
    fn parsed(page: &str, check: impl FnOnce(&roxmltree::Document<'_>)) {
        let options = roxmltree::ParsingOptions { allow_dtd: true, ..roxmltree::ParsingOptions::default() };
        match roxmltree::Document::parse_with_options(page, options) {
            Ok(document) => check(&document),
            Err(e) => panic!("{e}: {:?}", page.lines().nth(e.pos().row as usize - 1)),
        }
    }

    /// Nothing on the page acts or loads anything.
    fn is_inert(document: &roxmltree::Document<'_>) {
        for element in document.descendants().filter(roxmltree::Node::is_element) {
            let name = element.tag_name().name();
            assert!(
                !["script", "img", "iframe", "object", "link", "base", "form", "foreignObject"]
                    .contains(&name),
                "{name}"
            );
            for attribute in element.attributes() {
                let (key, value) = (attribute.name(), attribute.value());
                assert!(!key.starts_with("on") && key != "style" && key != "src", "{name} {key}={value}");
                assert!(key != "href" || value.starts_with('#'), "{value}");
            }
        }
    }

    #[test]
    fn is_one_well_formed_file() {
        let page = render(&Sample::default().run());
        assert!(page.starts_with("<!DOCTYPE html>"));
        parsed(&page, |document| {
            is_inert(document);
            let charts =
                document.descendants().filter(|n| n.has_tag_name("svg") || n.tag_name().name() == "svg");
            assert_eq!(charts.count(), 7);
        });
        // An address in it would be a request in waiting; SVG's namespace is implied in HTML.
        assert!(!page.replace("http://iris.default", "").contains("http://iris.default.localhost:8080/\""));
    }

    #[test]
    fn its_style_is_the_only_one_that_is_allowed() {
        use base64::Engine as _;
        use sha2::Digest as _;
        let page = render(&Sample::default().run());
        let (_, rest) = page.split_once("<style>").unwrap();
        let (style, _) = rest.split_once("</style>").unwrap();
        let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(style));
        assert!(page.contains(&format!("default-src 'none'; style-src 'sha256-{hash}'")));
    }

    #[test]
    fn hostile_texts_are_texts() {
        let mut run = Sample::default().run();
        let service = &mut run.services[0];
        service.codes.insert(HOSTILE.into(), 3);
        for second in &mut service.seconds {
            second.codes.insert(HOSTILE.into(), 1);
        }
        for text in [&mut service.name, &mut service.url, &mut service.protocol] {
            HOSTILE.clone_into(text);
        }
        service.observe_errors.push(HOSTILE.into());
        service.reasons.insert(HOSTILE.into(), HOSTILE.into());
        run.phases[0].name = HOSTILE.into();
        run.thresholds[0].what = HOSTILE.into();
        run.thresholds[0].unit = HOSTILE.into();
        run.generator.warnings.push(HOSTILE.into());
        run.services.push(run.services[0].clone());
        for text in [&mut run.scenario, &mut run.scenario_text, &mut run.started] {
            HOSTILE.clone_into(text);
        }
        let page = render(&run);
        parsed(&page, |document| {
            is_inert(document);
            let seen: String = document.descendants().filter_map(|n| n.text()).collect();
            assert!(seen.contains("<script>alert('x')</script>"));
        });
        assert!(!page.contains(['\u{1b}', '\u{202e}']));
        let table = super::super::table::render(&run, super::super::Paint::off());
        assert!(!table.contains('\u{1b}'), "{table}");
    }

    #[test]
    fn an_hour_and_many_services_stay_small() {
        let hour = Sample { seconds: 3_600, per_second: 3, ..Sample::default() };
        let many = Sample {
            services: (0..300).map(|i| format!("wake-{i}")).collect(),
            seconds: 60,
            per_second: 2,
            ..Sample::default()
        };
        for sample in [hour, many] {
            let page = render(&sample.run());
            assert!(page.len() < 2_000_000, "{}", page.len());
            parsed(&page, is_inert);
        }
    }

    #[test]
    fn a_run_of_nothing_is_a_page() {
        parsed(&render(&Run::default()), is_inert);
        let empty = ServiceRun { name: "idle".into(), ..ServiceRun::default() };
        parsed(&render(&Run { services: vec![empty], ..Run::default() }), is_inert);
    }

    /// To look at: `LOADTEST_SAMPLES=DIR cargo test --bin loadtest pages_to_look_at`.
    #[test]
    fn pages_to_look_at() {
        let Some(dir) = std::env::var_os("LOADTEST_SAMPLES").map(std::path::PathBuf::from) else { return };
        let one = Sample::default().run();
        println!("{}", super::super::table::render(&one, super::super::Paint::on()));
        std::fs::write(dir.join("one.html"), render(&one)).unwrap();
        let many =
            Sample { services: (0..8).map(|i| format!("wake-{i}")).collect(), ..Sample::default() }.run();
        println!("{}", super::super::table::render(&many, super::super::Paint::on()));
        std::fs::write(dir.join("many.html"), render(&many)).unwrap();
        let hour = Sample { seconds: 3_600, per_second: 10, ..Sample::default() }.run();
        std::fs::write(dir.join("hour.html"), render(&hour)).unwrap();
    }
}
