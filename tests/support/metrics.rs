//! `/metrics` as tests read it.

use std::net::SocketAddr;

use super::client::Call;

/// All that is counted now, from an admin port.
pub(crate) async fn metrics(admin: SocketAddr) -> Result<String, String> {
    Ok(Call::get("localhost", "/metrics").send(admin).await?.text())
}

/// The sum of all series of a metric; of those with a label, if it is named as in `name{label="value"}`.
pub(crate) fn value(metrics: &str, series: &str) -> f64 {
    let (name, label) = series.split_once('{').unwrap_or((series, ""));
    let of_it = |line: &&str| {
        let series = line.rsplit_once(' ').map_or("", |(series, _)| series);
        let (found, labels) = series.split_once('{').unwrap_or((series, ""));
        found == name && labels.contains(label.trim_end_matches('}'))
    };
    metrics.lines().filter(of_it).filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// No request holds a slot or waits for one: `Err` says what is there.
pub(crate) async fn idle(admin: SocketAddr) -> Result<(), String> {
    let metrics = metrics(admin).await?;
    let gauges = ["pilotlight_service_in_flight{", "pilotlight_service_queued{"];
    let lines: Vec<_> = metrics.lines().filter(|line| gauges.iter().any(|g| line.starts_with(g))).collect();
    super::wait::holds(lines.len() >= 2 && lines.iter().all(|line| line.ends_with(" 0")), lines.join("; "))
}
