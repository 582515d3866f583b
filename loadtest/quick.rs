//! `loadtest run --url URL --rate 100 --duration 10s`: a scenario without a file.

use pilotlight::config::problem::{Pos, Problem, Problems};
use serde_json::{Map, Value, json};

use crate::scenario::{self, Loaded, Overrides};

/// What the flags say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quick {
    /// Where.
    pub(crate) url: String,
    /// Requests per second.
    pub(crate) rate: f64,
    /// How long.
    pub(crate) duration: String,
    /// As in a scenario.
    pub(crate) protocol: Option<String>,
    /// As in a scenario.
    pub(crate) method: Option<String>,
    /// `NAME: VALUE`.
    pub(crate) headers: Vec<String>,
    /// A text, or `@FILE`.
    pub(crate) body: Option<String>,
    /// As in a scenario.
    pub(crate) timeout: Option<String>,
    /// Random instead of even.
    pub(crate) poisson: bool,
}

/// The flag that a field comes from.
const FLAGS: [(&str, &str); 7] = [
    ("url", "--url"),
    ("constant", "--rate"),
    ("for", "--duration"),
    ("protocol", "--protocol"),
    ("method", "--method"),
    ("timeout", "--timeout"),
    ("body", "--body"),
];

// === impl Quick ===

impl Quick {
    /// The scenario, by the rules for files.
    pub(crate) fn load(&self, overrides: &Overrides) -> Result<(Loaded, String), Problems> {
        let text = self.yaml();
        let file = std::path::Path::new("command line");
        match scenario::parse(text.as_bytes(), file, overrides) {
            Ok(loaded) => Ok((loaded, text)),
            Err(problems) => Err(Problems(problems.0.into_iter().map(by_flag).collect())),
        }
    }

    /// JSON is YAML, too.
    fn yaml(&self) -> String {
        let mut service =
            Map::from_iter([("url".to_owned(), json!(self.url)), ("name".to_owned(), json!("url"))]);
        let texts = [("protocol", &self.protocol), ("method", &self.method), ("timeout", &self.timeout)];
        for (name, value) in texts {
            service.extend(value.as_ref().map(|value| (name.to_owned(), json!(value))));
        }
        let pairs = self.headers.iter().map(|header| header.split_once(':').unwrap_or((header, "")));
        let mut headers: Map<String, Value> =
            pairs.map(|(name, value)| (name.trim().to_ascii_lowercase(), json!(value.trim()))).collect();
        if let Some(body) = &self.body {
            // Whoever writes JSON means JSON.
            let structured = |value: &Value| value.is_object() || value.is_array();
            let text = body.strip_prefix('@').is_none();
            if text && serde_json::from_str(body).is_ok_and(|value| structured(&value)) {
                headers.entry("content-type").or_insert(json!("application/json"));
            }
            let body = body
                .strip_prefix('@')
                .map_or_else(|| json!({ "text": body }), |file| json!({ "file": file }));
            service.insert("body".into(), body);
        }
        service.insert("headers".into(), headers.into());
        let spacing = if self.poisson { "random" } else { "even" };
        let scenario = json!({
            "name": "command line",
            "services": [service],
            "load": [{ "constant": self.rate, "spacing": spacing, "for": self.duration }],
        });
        serde_json::to_string_pretty(&scenario).expect("keys are texts")
    }
}

/// A place in a text that nobody wrote helps nobody: the flag does.
fn by_flag(problem: Problem) -> Problem {
    let last = problem.field.rsplit('.').next().unwrap_or_default();
    let field = match FLAGS.iter().find(|(field, _)| *field == last) {
        Some((_, flag)) => (*flag).to_owned(),
        None if problem.field.contains("headers") => "--header".to_owned(),
        None if problem.field.contains("body") => "--body".to_owned(),
        None => problem.field,
    };
    let Pos { line, column } = Pos::default();
    Problem { field, line, column, ..problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_a_scenario() {
        let quick = Quick {
            url: "http://127.0.0.1:1/x".into(),
            rate: 10.0,
            duration: "2s".into(),
            headers: vec!["X-A: b: c".into()],
            body: Some("hi".into()),
            ..Quick::default()
        };
        let (loaded, _) = quick.load(&Overrides::default()).unwrap();
        let service = &loaded.scenario.services[0];
        assert_eq!(service.method, hyper::Method::POST);
        assert_eq!(service.headers[0].0, "x-a");
        assert!((loaded.scenario.expected() - 20.0).abs() < 1e-9);
    }

    #[test]
    fn mistakes_name_the_flag() {
        let quick = Quick { url: "nowhere".into(), rate: -1.0, duration: "soon".into(), ..Quick::default() };
        let text = quick.load(&Overrides::default()).unwrap_err().to_string();
        for flag in ["--url", "--rate", "--duration"] {
            assert!(text.contains(&format!("command line: {flag}: ")), "{text}");
        }
    }
}
