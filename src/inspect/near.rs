//! Names that are near to one that does not exist, for messages.

/// Returns up to three of the names that are nearest to `word`, the nearest first: those that
/// differ in few letters, or begin with it. Case does not count.
pub(super) fn near<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    const SHOWN: usize = 3;
    /// The longest word that is compared, in bytes. Longer ones are no slip of the hand.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return vec![];
    }
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    let mut found: Vec<(usize, &str)> = Vec::new();
    for name in names {
        let lower = name.to_lowercase();
        let begins = word.len() > 1 && (lower.starts_with(&word) || word.starts_with(&lower));
        let distance = distance(&word, &lower);
        if distance <= allowed || begins {
            found.push((distance, name));
        }
    }
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(SHOWN).map(|(_, name)| name).collect()
}

/// Returns a clause that names these: `; did you mean A, B?`, or nothing if there are none.
pub(super) fn did_you_mean(names: &[&str]) -> String {
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(", ")) }
}

/// Returns how many letters must be put in, taken out or replaced to make one word of the other.
/// `row` holds these numbers for the letters of `a` so far and each beginning of `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (at, one) in a.chars().enumerate() {
        let mut left_above = at;
        let mut left = at + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, other) in row.iter_mut().skip(1).zip(b.chars()) {
            let above = *cell;
            left = (above + 1).min(left + 1).min(left_above + usize::from(one != other));
            *cell = left;
            left_above = above;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{distance, near};

    #[test]
    fn distances_and_near_names() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("smap", "smap", 0),
            ("smap", "smep", 1),
            ("erms", "ers", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
        let models = ["Haswell", "Haswell-v4", "Broadwell", "EPYC"];
        assert_eq!(near("haswel", models), ["Haswell", "Haswell-v4"]);
        assert_eq!(near("epic", models), ["EPYC"]);
        assert!(near("zzz", models).is_empty());
    }
}
