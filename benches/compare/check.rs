//! That all ways do the same job: one request through each, before any load.

use serde_json::Value;

use crate::h2load;
use crate::proxies::{Job, Wire};
use crate::rows::Shape;
use crate::site::{HOST, Site, Way};
use crate::support::{Call, Reply};

/// What a proxy may add to an answer, or leave out.
const OF_THE_HOP: [&str; 4] = ["server", "date", "connection", "keep-alive"];

/// Ends the bench when a way answers otherwise than the replica itself, or tells the replica less than the others do.
pub(crate) async fn same_job(site: &Site, shape: Shape, job: Job) {
    for way in &site.ways {
        let name = way.kind.name();
        let call = |call: Call| if job.client == Wire::H2 { call.h2() } else { call };
        let seen = call(Call::get(HOST, "/seen")).send(way.to).await.unwrap();
        assert_eq!(seen.status, 200, "{name}: {seen}");
        told(&name, &seen.json(), job);
        let direct = |call: Call| if job.app == Wire::H2 { call.h2() } else { call };
        let request = || match shape {
            Shape::Closed { path, body, .. } if body > 0 => Call::post(HOST, path, vec![0; body]),
            Shape::Closed { path, .. } => Call::get(HOST, path),
            Shape::Multiplexed { grpc: true, .. } => {
                let call = Call::post(HOST, h2load::METHOD, h2load::MESSAGE);
                call.header("content-type", "application/grpc").header("te", "trailers")
            }
            // Of streams the load itself sees whether they begin.
            _ => Call::get(HOST, "/"),
        };
        let through = call(request()).send(way.to).await.unwrap();
        let expected = direct(request()).send(site.replica).await.unwrap();
        same_answer(way, &through, &expected);
    }
}

/// The fields that say who asked.
fn told(name: &str, seen: &Value, job: Job) {
    let fields = seen["fields"].as_array().unwrap();
    let all = |name: &str| -> Vec<&str> {
        fields.iter().filter(|field| field[0] == name).map(|field| field[1].as_str().unwrap()).collect()
    };
    assert_eq!(all("x-forwarded-for"), ["127.0.0.1"], "{name}: {seen}");
    assert_eq!(all("x-forwarded-proto"), ["http"], "{name}: {seen}");
    assert_eq!(all("x-forwarded-host"), [HOST], "{name}: {seen}");
    let forwarded = format!("for=127.0.0.1;host=\"{HOST}\";proto=http");
    assert_eq!(all("forwarded"), [forwarded.as_str()], "{name}: {seen}");
    // Over h2, nginx says it in `host`, which RFC 9113 lets it.
    let host = seen["authority"].as_str().or_else(|| all("host").first().copied());
    let version = if job.app == Wire::H2 { "HTTP/2.0" } else { "HTTP/1.1" };
    assert_eq!((seen["version"].as_str(), host), (Some(version), Some(HOST)), "{name}: {seen}");
}

fn same_answer(way: &Way, through: &Reply, expected: &Reply) {
    let name = way.kind.name();
    let fields = |reply: &Reply| -> Vec<(String, String)> {
        let all = reply.headers.iter().chain(&reply.trailers);
        let all = all.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        let mut all: Vec<_> = all.filter(|(name, _)| !OF_THE_HOP.contains(&name.as_str())).collect();
        all.sort();
        all
    };
    assert_eq!(through.status, expected.status, "{name}: {through}");
    assert_eq!(through.body, expected.body, "{name}: another body");
    assert_eq!(fields(through), fields(expected), "{name}: other fields");
}
