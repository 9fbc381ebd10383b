//! "Did you mean": the nearest of some known words.

/// Returns the option nearest to `word`, if one is near enough to be what was meant.
///
/// Case does not count; a letter added, left out, changed, or swapped with its
/// neighbour counts one, and a third of the word's letters may be wrong.
pub fn nearest<'a>(word: &str, options: &[&'a str]) -> Option<&'a str> {
    const LONGEST: usize = 64;
    let word: Vec<char> = word.chars().take(LONGEST + 1).flat_map(char::to_lowercase).collect();
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let limit = word.len().div_ceil(3);
    options
        .iter()
        .map(|&option| (distance(&word, &option.to_lowercase().chars().collect::<Vec<_>>()), option))
        .filter(|&(distance, option)| distance <= limit && distance < option.chars().count())
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, option)| option)
}

/// Returns ` (did you mean X?)`, or nothing: what a message about a wrong word ends in.
pub fn did_you_mean(word: &str, options: &[&str]) -> String {
    nearest(word, options).map(|near| format!(" (did you mean {near}?)")).unwrap_or_default()
}

/// Returns the optimal string alignment distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let options = ["FROM", "RUN", "COPY", "ENTRYPOINT", "cache"];
        let check = |word, expect| assert_eq!(nearest(word, &options), expect, "{word}");
        check("RUNX", Some("RUN"));
        check("form", Some("FROM"));
        check("cach", Some("cache"));
        check("ENTRIPOINT", Some("ENTRYPOINT"));
        check("python-pip", None);
        check("x", None);
        check("", None);
        check(&"x".repeat(10_000), None);
    }
}
