//! Finds the name that was probably meant by a misspelt one.

/// The candidate with the fewest edits, and how many those are.
pub(super) fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    let distances = candidates.into_iter().map(|candidate| (candidate, distance(name, candidate)));
    distances.min_by_key(|(_, distance)| *distance)
}

/// Levenshtein's distance: insertions, deletions and replacements of one byte, row by row of the usual table.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        let pairs =
            [("", "", 0), ("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("max_byte", "max_bytes", 1)];
        for (left, right, edits) in pairs {
            assert_eq!((distance(left, right), distance(right, left)), (edits, edits), "{left} {right}");
        }
        assert_eq!(closest("lisen", ["limits", "listen", "log"]), Some(("listen", 1)));
    }
}
