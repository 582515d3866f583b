//! `$(PORT)` and its kin, put into arguments and environment before a replica starts. No shell is involved.
//!
//! | written | becomes |
//! |---|---|
//! | `$(PORT)`, `$(GRPC_PORT)` | the replica's ports |
//! | `$PORT`, `$GRPC_PORT`, not followed by a letter, digit or `_` | the same |
//! | `$(NAME)`, NAME in the process's own `env` | its value, as in Kubernetes |
//! | `$$(NAME)`, `$$PORT`, `$$GRPC_PORT` | the reference itself, with one `$` |
//! | anything else | itself |
//!
//! `$$` elsewhere stays: `sh -c 'echo $$'` means the shell's process id, and on one machine shells are common. (Kubernetes
//! would make it one `$`.) A value sees the names defined before it, as in Kubernetes, so no reference is circular.

/// What the kernel does not take as one argument or variable any more (`MAX_ARG_STRLEN`). What grows to this, by values
/// made of values, is cut there, and the start fails for its length.
const TOO_LONG: usize = (128 << 10) + 4;
/// And of all together, which is 6 MiB at most. Beyond, nothing is put in.
const TOO_MUCH: usize = 8 << 20;

/// Ports of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// HTTP.
    pub http: u16,
    /// gRPC, when the app has a second port; without it `$(GRPC_PORT)` stays as it is.
    pub grpc: Option<u16>,
}

/// A command line and its environment, ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expanded {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// `PORT`, `GRPC_PORT`, then the process's own variables: a later entry of the same name wins.
    pub env: Vec<(String, String)>,
}

/// Puts `ports` and the variables of `env` into `command` and `env`.
#[must_use]
pub fn expand(command: &[String], env: &[(String, String)], ports: Ports) -> Expanded {
    let builtin = builtins(ports);
    let mut own: Vec<(String, String)> = Vec::with_capacity(env.len());
    let mut room = TOO_MUCH;
    for (name, value) in env {
        let value = substitute(value, &mut room, &|n| lookup(&builtin, n).or_else(|| lookup(&own, n)));
        own.push((name.clone(), value));
    }
    let argv = substitute_all(command, &mut room, &builtin, &own);
    let mut env = builtin;
    env.append(&mut own);
    Expanded { argv, env }
}

/// Puts the variables that [`expand`] made into another command of the same replica, such as an exec probe.
#[must_use]
pub fn expand_command(command: &[String], expanded: &Expanded, ports: Ports) -> Vec<String> {
    let mut room = TOO_MUCH;
    substitute_all(command, &mut room, &builtins(ports), &expanded.env)
}

fn builtins(ports: Ports) -> Vec<(String, String)> {
    let mut out = vec![("PORT".to_owned(), ports.http.to_string())];
    out.extend(ports.grpc.map(|p| ("GRPC_PORT".to_owned(), p.to_string())));
    out
}

type Variables = [(String, String)];

fn substitute_all(items: &[String], room: &mut usize, first: &Variables, then: &Variables) -> Vec<String> {
    let value_of = |name: &str| lookup(first, name).or_else(|| lookup(then, name));
    items.iter().map(|item| substitute(item, room, &value_of)).collect()
}

fn lookup<'a>(vars: &'a Variables, name: &str) -> Option<&'a str> {
    vars.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

/// One pass from left to right; what is put in is not looked at again. It takes of `room`.
fn substitute<'a>(input: &str, room: &mut usize, value_of: &dyn Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(reference) = after.strip_prefix('$').and_then(reference) {
            // Escaped: one `$` and the reference as it is written.
            out.push('$');
            out.push_str(reference.written);
            rest = &after[1 + reference.written.len()..];
        } else if let Some(reference) = reference(after) {
            if let Some(value) = value_of(reference.name) {
                let most = (*room).min(TOO_LONG.saturating_sub(out.len()));
                let fits = &value[..value.floor_char_boundary(most)];
                out.push_str(fits);
                *room -= fits.len();
                if fits.len() < value.len() {
                    return out;
                }
            } else {
                out.push('$');
                out.push_str(reference.written);
            }
            rest = &after[reference.written.len()..];
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

struct Reference<'a> {
    name: &'a str,
    /// What follows the `$`.
    written: &'a str,
}

/// The reference at the start of `text`, which follows a `$`.
fn reference(text: &str) -> Option<Reference<'_>> {
    if let Some(inner) = text.strip_prefix('(') {
        let end = inner.find(')')?;
        return Some(Reference { name: &inner[..end], written: &text[..end + 2] });
    }
    let word = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let name = &text[..word];
    matches!(name, "PORT" | "GRPC_PORT").then_some(Reference { name, written: name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> String {
        let env = [("NAME".to_owned(), "v".to_owned())];
        expand(&[text.to_owned()], &env, Ports { http: 81, grpc: Some(82) }).argv.remove(0)
    }

    #[test]
    fn puts_ports_and_own_variables_in() {
        for (given, wanted) in [
            ("--port=$(PORT)", "--port=81"),
            ("$PORT", "81"),
            ("127.0.0.1:$PORT/x", "127.0.0.1:81/x"),
            ("$GRPC_PORT,$(GRPC_PORT)", "82,82"),
            ("$PORTS $PORT_ $PORT2", "$PORTS $PORT_ $PORT2"),
            ("$PORTÄ", "$PORTÄ"),
            ("$(NAME)$(OTHER)", "v$(OTHER)"),
            ("$NAME", "$NAME"),
            ("$$(PORT) $$PORT $$(OTHER)", "$(PORT) $PORT $(OTHER)"),
            ("echo $$ > pid; a$", "echo $$ > pid; a$"),
            ("$(PORT", "$(PORT"),
            ("$", "$"),
            ("$()", "$()"),
            ("${PORT}", "${PORT}"),
            ("$$$(PORT)", "$$(PORT)"),
        ] {
            assert_eq!(one(given), wanted, "{given}");
        }
    }

    #[test]
    fn a_value_sees_what_was_defined_before_it() {
        let env =
            [("A", "$(B)$(PORT)"), ("B", "$(A)!"), ("B", "$(B)?")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let got = expand(&["$(B)".into(), "$(GRPC_PORT)".into()], &env, Ports { http: 7, grpc: None });
        assert_eq!(got.argv, ["$(B)7!?", "$(GRPC_PORT)"]);
        let env: Vec<_> = got.env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(env, [("PORT", "7"), ("A", "$(B)7"), ("B", "$(B)7!"), ("B", "$(B)7!?")]);
    }

    #[test]
    fn values_of_values_do_not_grow_without_end() {
        let double = |n: u32| (format!("V{n}"), format!("$(V{0})$(V{0})", n - 1));
        let env: Vec<_> =
            std::iter::once(("V0".to_owned(), "laugh".to_owned())).chain((1..1000).map(double)).collect();
        let got = expand(&vec!["$(V999)".to_owned(); 1000], &env, Ports { http: 7, grpc: None });
        let longest = got.env.iter().map(|(_, value)| value.len()).max().unwrap();
        let all: usize = got.env.iter().map(|(_, value)| value).chain(&got.argv).map(String::len).sum();
        // Exec must fail for it, not a program run with half a value.
        assert!(((128 << 10) + 1..=TOO_LONG).contains(&longest), "{longest}");
        assert!(all <= TOO_MUCH + 10_000, "{all}");
    }

    #[test]
    fn an_own_port_variable_is_the_users_but_the_reference_is_ours() {
        let env = [("PORT".to_owned(), "8080".to_owned())];
        let ports = Ports { http: 7, grpc: None };
        let got = expand(&["$(PORT)".into()], &env, ports);
        assert_eq!(got.argv, ["7"]);
        assert_eq!(got.env.last(), Some(&("PORT".to_owned(), "8080".to_owned())));
        assert_eq!(expand_command(&["$PORT".into()], &got, ports), ["7"]);
    }
}
