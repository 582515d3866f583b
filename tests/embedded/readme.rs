//! What the README says of a `ScaledService` is what the program reads: every field, and every default.

use pilotlight::config::load;
use pilotlight::config::spec::ServiceSpec;

use crate::support::Lab;

const README: &str = include_str!("../../README.md");

#[test]
fn the_readme_shows_every_default() {
    let shown = README.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let least = "apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata: {name: iris}\n\
                 spec: {process: {command: [a]}}\n";
    let (shown, least) = (spec(shown), spec(least));
    // Where the README shows an example rather than a default, it says so.
    let rest = |spec: ServiceSpec| ServiceSpec {
        source: least.source.clone(),
        workload: least.workload.clone(),
        hosts: Vec::new(),
        ..spec
    };
    assert_eq!(rest(shown), rest(least.clone()));
}

fn spec(text: &str) -> ServiceSpec {
    let lab = Lab::new();
    lab.write("one.yaml", text);
    let loaded = load::load(&[lab.path("services")]).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    loaded.services.into_iter().next().unwrap()
}
