//! Writes `ScaledService` objects.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};

/// A `ScaledService`, testapp unless [`Yaml::command`] says otherwise. Printed as block YAML by [`Yaml::text`].
#[derive(Clone)]
pub(crate) struct Yaml {
    name: String,
    spec: Value,
}

impl Yaml {
    /// A service that runs testapp, records to `record`, and goes back to zero as fast as validation allows.
    pub(crate) fn testapp(name: &str, record: &Path) -> Self {
        let program = super::program::testapp_path();
        let command = json!([program, "--port", "$(PORT)", "--record", record]);
        Self { name: name.to_owned(), spec: json!({ "process": { "command": command } }) }
            .set("scaling.window", "6s")
            .set("scaling.scaleToZeroAfter", "1s")
    }

    /// Adds arguments to the command.
    pub(crate) fn args<T: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        let command = self.spec["process"]["command"].as_array_mut().unwrap();
        command.extend(args.into_iter().map(|arg| json!(arg.as_ref().to_str().unwrap())));
        self
    }

    /// Another program.
    pub(crate) fn command(self, command: &[&str]) -> Self {
        self.set("process.command", json!(command))
    }

    /// Puts a value at a dotted path below `spec`.
    pub(crate) fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let mut at = &mut self.spec;
        for key in path.split('.') {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            at = &mut at[key];
        }
        *at = value.into();
        self
    }

    /// Concurrency limit per replica.
    pub(crate) fn limit(self, limit: u32) -> Self {
        self.set("concurrency.limit", limit)
    }

    /// Most replicas.
    pub(crate) fn max(self, max: u32) -> Self {
        self.set("scaling.max", max)
    }

    /// One YAML document.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("---\napiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\n");
        let _ = write!(text, "metadata:\n  name: {}\nspec:\n", self.name);
        block(&mut text, &self.spec, 1);
        text
    }
}

/// Maps as indented blocks; scalars and lists as JSON, which is YAML too.
fn block(text: &mut String, value: &Value, depth: usize) {
    for (key, value) in value.as_object().unwrap() {
        let _ = write!(text, "{:1$}{key}:", "", depth * 2);
        if value.is_object() {
            text.push('\n');
            block(text, value, depth + 1);
        } else {
            let _ = writeln!(text, " {value}");
        }
    }
}
