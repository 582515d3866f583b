//! A comparison as one page, with both runs in each chart.

use super::super::chart::{Axis, Chart, Colour, Layer};
use super::super::charts::{curve, curve_tips, warm_ups};
use super::super::markup::escape;
use super::super::page::Page;
use super::super::series::{Latency, Stretches, steps};
use super::{Comparison, RULE, Verdict};
use crate::run::{Run, ServiceRun};

/// More services than this are in the tables alone.
const CHARTED_MOST: usize = 16;
const POINTS: usize = 160;
/// The first and the second run.
const COLOURS: [(Colour, &str); 2] = [(Colour::Blue, "A"), (Colour::Orange, "B")];

/// The page.
pub(crate) fn render(comparison: &Comparison, runs: [&Run; 2]) -> String {
    let mut page = Page::default();
    page.add("<h1>Two runs compared</h1>");
    for (name, run) in ["A", "B"].into_iter().zip(&comparison.runs) {
        page.line("faint", &format!("{name}  {run}"));
    }
    for remark in &comparison.remarks {
        page.line("notice", remark);
    }
    for (verdict, sentence) in comparison.sentences() {
        let class = match verdict {
            Verdict::Worse => "notice worse",
            Verdict::Better => "notice better",
            Verdict::Same | Verdict::Unknown | Verdict::Fact => "faint",
        };
        page.line(class, &sentence);
    }
    for (place, compared) in comparison.services.iter().enumerate() {
        page.add(&format!("<h2>{}</h2>", escape(&compared.name)));
        let rows: Vec<_> = compared
            .figures
            .iter()
            .map(|figure| {
                let mut row = vec![figure.what.to_owned()];
                for value in figure.values {
                    row.push(value.map_or_else(|| "–".into(), |value| figure.unit.show(value.value)));
                    let range = value.and_then(|value| value.range);
                    row.push(range.map_or_else(String::new, |range| figure.unit.show_range(range)));
                }
                row.push(figure.change().unwrap_or_default());
                row.push(figure.verdict.word().to_owned());
                let class = match figure.verdict {
                    Verdict::Better => "good",
                    Verdict::Worse => "bad",
                    Verdict::Same | Verdict::Unknown | Verdict::Fact => "",
                };
                (class, row)
            })
            .collect();
        page.table(&["", "A", "range of A", "B", "range of B", "B to A", ""], &rows);
        let service = |run: &'_ Run| run.services.iter().position(|service| service.name == compared.name);
        if let (true, Some(a), Some(b)) = (place < CHARTED_MOST, service(runs[0]), service(runs[1])) {
            page.charts(&charts(runs, [&runs[0].services[a], &runs[1].services[b]]));
        }
    }
    page.line("faint", RULE);
    page.finish("Two runs compared – loadtest")
}

fn charts(runs: [&Run; 2], services: [&ServiceRun; 2]) -> Vec<Chart> {
    let all = [
        latency("p50 over time", runs, services, |latency| latency.p50),
        latency("p99 over time", runs, services, |latency| latency.p99),
        distribution(services),
        replicas(runs, services),
    ];
    all.into_iter().flatten().collect()
}

fn base(title: &str, runs: [&Run; 2], services: [&ServiceRun; 2]) -> Chart {
    Chart {
        title: title.into(),
        x: Axis::time(runs[0].duration_s.max(runs[1].duration_s)),
        legend: COLOURS.map(|(colour, name)| (colour, name.to_owned())).into(),
        bands: warm_ups(runs[0], &services[0].name),
        ..Chart::default()
    }
}

fn latency(
    title: &str,
    runs: [&Run; 2],
    services: [&ServiceRun; 2],
    of: fn(&Latency) -> f64,
) -> Option<Chart> {
    let mut chart = base(title, runs, services);
    let mut values = Vec::new();
    for (service, (colour, _)) in services.into_iter().zip(COLOURS) {
        let stretches = Stretches::of(service, POINTS);
        let width = stretches.width_s as f64;
        let points: Vec<_> = stretches
            .all
            .iter()
            .filter_map(|s| Some((s.at_s + width / 2.0, of(s.latency.as_ref()?))))
            .collect();
        values.extend(points.iter().map(|(_, value)| *value));
        for line in points.chunk_by(|a, b| b.0 - a.0 <= width) {
            chart.layers.push(Layer::Line { colour, points: line.to_vec(), width: 4 });
        }
    }
    chart.layers.first()?;
    chart.y = Axis::ms(values.into_iter());
    Some(chart)
}

fn distribution(services: [&ServiceRun; 2]) -> Option<Chart> {
    let curves = services.map(|service| curve(&service.total.latency_ms));
    let most = services.iter().map(|service| service.total.latency_ms.count).max().unwrap_or(0);
    let mut chart = Chart {
        title: "Latency distribution".into(),
        note: "That share of the requests took at most so long; warm-ups are left out.".into(),
        legend: COLOURS.map(|(colour, name)| (colour, name.to_owned())).into(),
        x: Axis::nines(most),
        y: Axis::ms(curves.iter().flatten().flatten().map(|(_, y)| *y)),
        ..Chart::default()
    };
    if let [Some(a), Some(b)] = &curves
        && services[0].total.latency_ms.count == services[1].total.latency_ms.count
    {
        let (a, b) = (curve_tips(a, "A at most"), curve_tips(b, "B at most"));
        chart.tips =
            a.into_iter().zip(b).map(|((from, to, a), (_, _, b))| (from, to, format!("{a}\n{b}"))).collect();
    }
    for (points, (colour, _)) in curves.into_iter().zip(COLOURS) {
        chart.layers.extend(points.map(|points| Layer::Line { colour, points, width: 4 }));
    }
    chart.layers.first()?;
    Some(chart)
}

fn replicas(runs: [&Run; 2], services: [&ServiceRun; 2]) -> Option<Chart> {
    let mut chart = base("Ready replicas", runs, services);
    for (service, (colour, _)) in services.into_iter().zip(COLOURS) {
        let lines = steps(&service.observed, |look| look.ready, POINTS);
        chart.layers.extend(lines.into_iter().map(|points| Layer::Line { colour, points, width: 4 }));
    }
    chart.layers.first()?;
    let most =
        services.iter().flat_map(|service| service.observed.iter().filter_map(|look| look.ready)).max();
    chart.y = Axis::whole(most.unwrap_or(0));
    Some(chart)
}
