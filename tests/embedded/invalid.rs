//! What cannot be meant is refused, all of it at once.

use std::fmt::Write as _;

use crate::support::{Lab, SOON};

/// One mistake per file: where it must be reported.
struct Mistake {
    file: &'static str,
    /// What the line of the mistake starts with; empty: sound by itself, and half of a clash.
    line: &'static str,
    /// The field as the message names it.
    field: &'static str,
    text: &'static str,
}

const HEAD: &str = "apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\n";
const RUN: &str = "  process:\n    command: [sleep, '1']\n";

/// Objects that cannot be called what they are called, with mistakes that have nothing to do with it.
const BAD_NAME_AND_MORE: &str = "HEADmetadata: {name: Not_A_Label}\nspec:\nRUN  scaling:\n    max: many\n---\n\
                                 apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: \
                                 {name: Not_A_Label_2}\nspec:\n  predictor:\n    model:\n      runtime: nobody\n      \
                                 modelFormat: {name: sklearn}\n      storageUri: ./not-there\n---\n\
                                 apiVersion: serving.kserve.io/v1alpha1\nkind: ServingRuntime\nmetadata: \
                                 {name: Not_A_Label_3}\nspec:\n  supportedModelFormats: []\n  containers: []\n";

const MISTAKES: &[Mistake] = &[
    Mistake {
        file: "unknown-field.yaml",
        line: "  speed: 3",
        field: "speed",
        text: "HEADmetadata: {name: unknown-field}\nspec:\nRUN  speed: 3\n",
    },
    Mistake {
        file: "wrong-type.yaml",
        line: "    max: many",
        field: "scaling.max",
        text: "HEADmetadata: {name: wrong-type}\nspec:\nRUN  scaling:\n    max: many\n",
    },
    Mistake {
        file: "negative.yaml",
        line: "    limit: -1",
        field: "concurrency.limit",
        text: "HEADmetadata: {name: negative}\nspec:\nRUN  concurrency:\n    limit: -1\n",
    },
    Mistake {
        file: "two-mistakes.yaml",
        line: "    window: soon",
        field: "scaling.window",
        text: "HEADmetadata: {name: two-mistakes}\nspec:\nRUN  scaling:\n    window: soon\n    min: -2\n",
    },
    Mistake {
        file: "two-mistakes.yaml",
        line: "    min: -2",
        field: "scaling.min",
        text: "HEADmetadata: {name: two-mistakes}\nspec:\nRUN  scaling:\n    window: soon\n    min: -2\n",
    },
    Mistake { file: "name-a.yaml", line: "", field: "", text: "HEADmetadata: {name: same}\nspec:\nRUN" },
    Mistake {
        file: "name-b.yaml",
        line: "metadata: {name: same}",
        field: "name",
        text: "HEADmetadata: {name: same}\nspec:\nRUN",
    },
    Mistake {
        file: "host-a.yaml",
        line: "",
        field: "",
        text: "HEADmetadata: {name: host-a}\nspec:\nRUN  hosts: [clash.example.com]\n",
    },
    Mistake {
        file: "host-b.yaml",
        line: "  hosts: [clash.example.com]",
        field: "hosts",
        text: "HEADmetadata: {name: host-b}\nspec:\nRUN  hosts: [clash.example.com]\n",
    },
    Mistake {
        file: "host-reserved.yaml",
        line: "  hosts: [free.localhost]",
        field: "hosts",
        text: "HEADmetadata: {name: host-reserved}\nspec:\nRUN  hosts: [free.localhost]\n",
    },
    Mistake {
        file: "bad-name.yaml",
        line: "metadata: {name: Not_A_Label}",
        field: "name",
        text: "HEADmetadata: {name: Not_A_Label}\nspec:\nRUN",
    },
    Mistake {
        file: "bad-name-and-more.yaml",
        line: "metadata: {name: Not_A_Label}",
        field: "name",
        text: BAD_NAME_AND_MORE,
    },
    Mistake {
        file: "bad-name-and-more.yaml",
        line: "    max: many",
        field: "scaling.max",
        text: BAD_NAME_AND_MORE,
    },
    Mistake {
        file: "bad-name-and-more.yaml",
        line: "      runtime: nobody",
        field: "runtime",
        text: BAD_NAME_AND_MORE,
    },
    Mistake {
        file: "bad-name-and-more.yaml",
        line: "      storageUri: ./not-there",
        field: "storageUri",
        text: BAD_NAME_AND_MORE,
    },
    Mistake {
        file: "bad-name-and-more.yaml",
        line: "  containers: []",
        field: "containers",
        text: BAD_NAME_AND_MORE,
    },
    Mistake {
        file: "kind.yaml",
        line: "kind: ScaledSurface",
        field: "kind",
        text: "apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledSurface\nmetadata: {name: kind}\n",
    },
    Mistake {
        file: "neither.yaml",
        line: "spec: {port: 8080}",
        field: "process",
        text: "HEADmetadata: {name: neither}\nspec: {port: 8080}\n",
    },
    Mistake {
        file: "runtime.yaml",
        line: "      runtime: nobody",
        field: "runtime",
        text: "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: runtime}\nspec:\n  \
               predictor:\n    model:\n      runtime: nobody\n      modelFormat: {name: sklearn}\n",
    },
    Mistake {
        file: "model.yaml",
        line: "      storageUri: ./no-such-directory",
        field: "storageUri",
        text: "apiVersion: serving.kserve.io/v1alpha1\nkind: ServingRuntime\nmetadata: {name: sk}\nspec:\n  \
               supportedModelFormats: [{name: sklearn, autoSelect: true}]\n  containers:\n  - name: kserve-container\n    \
               command: [sleep]\n    args: ['1']\n---\napiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\n\
               metadata: {name: model}\nspec:\n  predictor:\n    model:\n      modelFormat: {name: sklearn}\n      \
               storageUri: ./no-such-directory\n",
    },
    Mistake {
        file: "syntax.yaml",
        line: "spec: [",
        field: "",
        text: "HEADmetadata: {name: syntax}\nspec: [\n",
    },
];

impl Mistake {
    fn text(&self) -> String {
        self.text.replace("HEAD", HEAD).replace("RUN", RUN)
    }

    /// `Err` when no line of the output says file, line and field.
    fn told(&self, output: &str) -> Result<(), String> {
        if self.line.is_empty() {
            return Ok(());
        }
        // A parser may only notice at the end of the input that a bracket was left open.
        let any_line = self.field.is_empty();
        let number = self.text().lines().position(|l| l.starts_with(self.line)).unwrap() + 1;
        let hit = output.lines().any(|line| {
            let Some((_, rest)) = line.split_once(self.file) else {
                return false;
            };
            let mut numbers = rest.split(|c: char| !c.is_ascii_digit());
            rest.contains(self.field) && (any_line || numbers.any(|n| n == number.to_string()))
        });
        if hit { Ok(()) } else { Err(format!("{}:{number}: {}", self.file, self.field)) }
    }
}

#[tokio::test]
async fn every_mistake_of_every_file_is_told_in_one_go() {
    let lab = Lab::new();
    for mistake in MISTAKES {
        lab.write(mistake.file, &mistake.text());
    }
    lab.write("good.yaml", &lab.app("good").text());
    let directory = lab.text_path("services");
    let mut serve = lab.serve().spawn();
    for (what, program) in
        [("validate", &mut lab.pilotlight(&["validate", "-f", &directory])), ("serve", &mut serve)]
    {
        assert_eq!(program.wait(SOON).await, 64, "{what}: {}", program.log());
        // The log's JSON escapes nothing that the messages need.
        let output = program.settled_log().await;
        let mut missing = String::new();
        for mistake in MISTAKES {
            if let Err(what) = mistake.told(&output) {
                let _ = writeln!(missing, "{what}");
            }
        }
        assert!(missing.is_empty(), "{what} does not tell of:\n{missing}\nit says:\n{output}");
        assert!(!output.contains("good.yaml"), "{what}: {output}");
    }
}

#[tokio::test]
async fn what_is_sound_is_0() {
    let lab = Lab::new();
    lab.services(&[&lab.app("iris"), &lab.app("other").limit(1).max(4)]);
    let (file, directory) = (lab.text_path("services/services.yaml"), lab.text_path("services"));
    for args in [&["validate", "-f", &file] as &[&str], &["validate", "-f", &directory]] {
        let mut program = lab.pilotlight(args);
        assert_eq!(program.wait(SOON).await, 0, "{}", program.log());
    }
    let mut missing = lab.pilotlight(&["validate", "-f", &file, "-f", &lab.text_path("services/none.yaml")]);
    assert_eq!(missing.wait(SOON).await, 64, "a file that is not there: {}", missing.log());
}

/// Asserts that this command line, with these variables, ends with 64 and tells of all of these words.
async fn refused(args: &[&str], variables: &[(&str, &str)], told: &[&str]) {
    let lab = Lab::new();
    let mut program = lab.pilotlight_with(args, variables);
    assert_eq!(program.wait(SOON).await, 64, "{args:?}: {}", program.log());
    let output = program.settled_log().await;
    assert!(told.iter().all(|word| output.contains(word)), "{args:?} tells of {told:?}: {output}");
}

#[tokio::test]
async fn bad_flags_and_variables_are_64_all_in_one_run() {
    refused(&["serve"], &[], &["-f"]).await;
    refused(&["serve", "-f", "x", "--listen", "bad", "--admin", "also"], &[], &["--listen", "--admin"]).await;
    refused(&["serve", "-f", "x"], &[("PILOTLIGHT_LISTEN", "bad")], &["PILOTLIGHT_LISTEN", "bad"]).await;
    let sidecar = ["queue-proxy", "--listen", "bad", "--app", "127.0.0.1:1", "--concurrency", "-1"];
    refused(&sidecar, &[], &["--listen", "--concurrency"]).await;
    refused(&["no-such-command"], &[], &["no-such-command"]).await;
}
