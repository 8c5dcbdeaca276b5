//! Suggestions for misspelled names ("Did you mean …?").

/// Returns the probably intended name: at most a third of its letters differ.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (distance(written, name), name));
    let close = |(distance, name): &(usize, &str)| *distance <= (name.len() / 3).clamp(1, 3);
    scored.filter(close).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// Returns the number of letters to change, add, remove or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_get_a_suggestion_and_other_words_none() {
        let known = ["hold", "wait", "kill_blockers"];
        assert_eq!(nearest("hodl", known), Some("hold"));
        assert_eq!(nearest("killblocker", known), Some("kill_blockers"));
        assert_eq!(nearest("retention", known), None);
    }
}
