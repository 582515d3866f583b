//! Scenarios as a whole.

use std::path::Path;

use super::*;

fn parsed(text: &str) -> Result<Loaded, String> {
    parse(text.as_bytes(), Path::new("s.yaml"), &Overrides::default())
        .map_err(|problems| problems.to_string())
}

fn set(text: &str, overrides: &[&str]) -> Result<Loaded, String> {
    let set = overrides.iter().map(|o| o.parse().unwrap()).collect();
    let overrides = Overrides { set, ..Overrides::default() };
    parse(text.as_bytes(), Path::new("s.yaml"), &overrides).map_err(|problems| problems.to_string())
}

const SMALL: &str = "services: [{url: 'http://h/'}]\nload: [{burst: 1}]";

#[test]
fn the_readme_tells_the_truth() {
    let readme = include_str!("../README.md");
    let (_, after) = readme.split_once("<!-- every field -->\n```yaml\n").unwrap();
    let (yaml, _) = after.split_once("```").unwrap();
    let scenario = parsed(yaml).unwrap().scenario;
    let names: Vec<&str> = scenario.services.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["iris-0", "iris-1", "chat", "ready", "echo"]);
    // The values that it calls defaults are those.
    assert_eq!(scenario.limits, Limits::default());
    let (small, shown) = (parsed(SMALL).unwrap().scenario, &scenario.services[0]);
    assert_eq!(small.seed, scenario.seed);
    let small = &small.services[0];
    assert_eq!((small.timeout, small.connections), (shown.timeout, shown.connections));
    assert_eq!((&small.success, &small.protocol), (&shown.success, &shown.protocol));
    let websocket = set(SMALL, &["services[0].protocol=websocket"]).unwrap().scenario;
    assert_eq!(websocket.services[0].protocol, scenario.services[4].protocol);
}

#[test]
fn every_kind_of_load_is_in_the_readme() {
    let readme = include_str!("../README.md");
    for kind in phase::KINDS {
        assert!(readme.contains(&format!("{kind}: ")), "{kind}");
    }
    for code in ["connect", "tls", "timeout", "reset", "body", "protocol", "no event", "cut off"] {
        assert!(readme.contains(&format!("`{code}`")), "{code}");
    }
}

#[test]
fn copies_have_names_hosts_and_numbers_of_their_own() {
    let text = "services: [{name: s, count: 3, url: 'http://m-{{index}}.localhost/{{copy}}/{{index}}'}]\nload: [{burst: 1}]";
    let services = parsed(text).unwrap().scenario.services;
    assert_eq!(services[2].name, "s-2");
    assert_eq!(services[2].host, "m-2.localhost");
    assert_eq!(services[2].path.render(7, &mut fastrand::Rng::with_seed(0)), "/2/7");
    assert!(
        parsed("services: [{name: a, url: 'http://h/'}, {name: a, url: 'http://h/'}]\nload: [{burst: 1}]")
            .unwrap_err()
            .contains("another service \"a\"")
    );
}

#[test]
fn fields_can_be_set_from_outside() {
    let scenario =
        set(SMALL, &["load[0].burst=7", "services[0].thresholds.p99=1s", "name=x"]).unwrap().scenario;
    assert_eq!((scenario.expected(), scenario.name.as_str()), (7.0, "x"));
    assert_eq!(scenario.services[0].thresholds.len(), 1);
    for (wrong, said) in [
        ("load[1].burst=7", "[1] of a list of 1"),
        ("load.burst=7", "burst of what is no map"),
        ("name[0]=7", "[0] of what is no list"),
        ("brust=7", "brust: unknown field"),
    ] {
        assert!(set(SMALL, &[wrong]).unwrap_err().contains(said), "{wrong}: {:?}", set(SMALL, &[wrong]));
    }
    for bad in ["a", "=1", "a[x]=1", "a..b=1", "a[1=2"] {
        assert!(bad.parse::<Override>().is_err(), "{bad}");
    }
}

#[test]
fn repeats_and_steps_are_written_out() {
    let text = "services: [{url: 'http://h/'}]
load: [{repeat: 2, load: [{burst: 1}, {steps: {rates: [1, 2], each: 1s}, name: s, warmUp: true}]}]";
    let scenario = parsed(text).unwrap().scenario;
    let names: Vec<_> = scenario.phases().map(|(_, p)| (p.name.clone(), p.warm_up)).collect();
    let expected = [
        ("burst of 1 #1", false),
        ("s, 1/s #1", true),
        ("s, 2/s #1", true),
        ("burst of 1 #2", false),
        ("s, 1/s #2", true),
        ("s, 2/s #2", true),
    ];
    assert_eq!(names, expected.map(|(name, warm_up)| (name.to_owned(), warm_up)));
}

#[test]
fn what_is_too_much_is_refused_or_told() {
    let endless = "services: [{url: 'http://h/'}]\nload: [{repeat: 1000, load: [{burst: 1}, {burst: 1}]}]";
    assert!(parsed(endless).unwrap_err().contains("at most 1000"));
    let long = "services: [{url: 'http://h/', count: 1000}]\nload: [{burst: 1}]";
    assert!(parsed(long).unwrap_err().contains("services × limits.duration"));
    let many = "services: [{url: 'http://h/'}]\nload: [{constant: 1000, for: 2h}]";
    let warnings: Vec<_> = parsed(many).unwrap().warnings.iter().map(ToString::to_string).collect();
    assert!(warnings[0].contains("limits.duration ends the run after 1h"), "{warnings:?}");
    assert!(warnings[1].contains("limits.requests ends the run after 1000000"), "{warnings:?}");
}

#[test]
fn one_document() {
    assert!(parsed("").unwrap_err().contains("nothing; allowed: one scenario"));
    assert!(parsed("a: 1\n---\nb: 1\n").unwrap_err().contains("a second document"));
    assert!(parsed("[]").unwrap_err().contains("a list; allowed: a map"));
}
