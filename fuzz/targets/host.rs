//! Which service a request is for, whom the admin port answers, and which requests start nothing.
#![no_main]

use std::net::IpAddr;

use arbitrary::Arbitrary;
use http::{HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use pilotlight::admin::guard::Guard;
use pilotlight::config::spec::NoWake;
use pilotlight::proxy::host;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    target: &'a str,
    hosts: Vec<&'a [u8]>,
    post: bool,
    origin: Option<&'a str>,
    rule: (Option<&'a str>, Option<&'a str>),
    agent: Option<&'a [u8]>,
}

/// A name of this machine: RFC 6761's, or a loopback address.
fn is_local(authority: &str) -> bool {
    let name = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.rsplit_once(':').map_or(authority, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let loopback = name.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback());
    loopback || name == "localhost" || name.ends_with(".localhost")
}

fn matches(rule: Option<&str>, text: Option<&str>) -> bool {
    match (rule, text) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(rule), Some(text)) if rule.ends_with('*') => {
            text.len() >= rule.len() - 1
                && text.as_bytes()[..rule.len() - 1] == rule.as_bytes()[..rule.len() - 1]
        }
        (Some(rule), Some(text)) => rule == text,
    }
}

fuzz_target!(|input: Input<'_>| {
    let Ok(uri) = input.target.parse::<http::Uri>() else { return };
    let mut request = Request::new(());
    *request.uri_mut() = uri.clone();
    if input.post {
        *request.method_mut() = http::Method::POST;
    }
    let mut fields = Vec::new();
    for host in input.hosts.iter().take(4) {
        if let Ok(value) = HeaderValue::from_bytes(host) {
            request.headers_mut().append("host", value);
            fields.push(*host);
        }
    }
    let named = host::of(&request).map(str::to_owned);
    if let Ok(host) = &named {
        assert!(fields.len() <= 1, "two hosts are no host");
        assert!(fields.iter().all(|field| field.eq_ignore_ascii_case(host.as_bytes())), "Host says another");
        let authority = uri.authority().map(http::uri::Authority::as_str);
        assert!(authority.is_none_or(|authority| authority == host), "the target says another");
        assert!(!host.contains(['@', '/', ',', ' ', '"', '\\']), "{host}");
        let name = host::without_port(host);
        assert!(host.starts_with(name));
        let rest = &host[name.len()..];
        let rest = rest.strip_prefix('.').unwrap_or(rest);
        assert!(
            rest.is_empty() || rest.starts_with(':') && !rest[1..].contains(':'),
            "{host} without {rest}"
        );
    }

    if let Some(Ok(origin)) = input.origin.map(HeaderValue::from_str) {
        request.headers_mut().append("origin", origin);
    }
    let guard = Guard::new(([127, 0, 0, 1], 8081).into(), []);
    if pilotlight::fuzz::admin_takes(&guard, &request) {
        let host = named.expect("the admin port wants a host");
        assert!(is_local(&host), "{host} gets in");
        let origin = request.headers().get("origin").map(HeaderValue::as_bytes);
        let same =
            origin.is_none_or(|origin| origin.eq_ignore_ascii_case(format!("http://{host}").as_bytes()));
        assert!(!input.post || same, "a page of another origin changes something");
    }

    if let Some(Ok(agent)) = input.agent.map(HeaderValue::from_bytes) {
        request.headers_mut().append("user-agent", agent);
    }
    let (path, user_agent) = (input.rule.0.map(str::to_owned), input.rule.1.map(str::to_owned));
    let rule = NoWake { path, user_agent };
    let agent = request.headers().get("user-agent").and_then(|agent| agent.to_str().ok());
    let expected = matches(input.rule.0, Some(request.uri().path())) && matches(input.rule.1, agent);
    assert_eq!(pilotlight::fuzz::no_wake(&rule, &request), expected);
});
