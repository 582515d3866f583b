//! "Did you mean": the known name that is nearest to a wrong one.

/// The known names, with the one that was probably meant first.
pub fn suggestion(given: &str, known: &[&str]) -> String {
    let all = known.join(", ");
    let near =
        known.iter().map(|k| (distance(given, k), k)).min().filter(|(d, k)| *d <= (k.len() / 3).max(1));
    match near {
        Some((_, name)) => format!("did you mean {name}? Known are {all}"),
        None => all,
    }
}

/// Edits (with swaps of neighbours) between two words, letters' case apart. Long words are far from everything.
fn distance(a: &str, b: &str) -> usize {
    const WORD_MAX: usize = 64;
    if a.len() > WORD_MAX || b.len() > WORD_MAX {
        return usize::MAX;
    }
    let (a, b) = (a.to_ascii_lowercase().into_bytes(), b.to_ascii_lowercase().into_bytes());
    let (mut before, mut last) = (Vec::new(), (0..=b.len()).collect::<Vec<_>>());
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let swap = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            let mut d =
                (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if swap {
                d = d.min(before[j - 2] + 1);
            }
            row.push(d);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested() {
        let known = ["concurrency", "scaling", "min", "max"];
        for (given, meant) in
            [("concurency", "concurrency"), ("Scaling", "scaling"), ("mni", "min"), ("scalling", "scaling")]
        {
            assert!(suggestion(given, &known).starts_with(&format!("did you mean {meant}?")), "{given}");
        }
        for far in ["replicas", "", &"x".repeat(1000)] {
            assert_eq!(suggestion(far, &known), known.join(", "), "{far}");
        }
    }
}
