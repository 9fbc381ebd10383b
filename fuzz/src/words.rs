//! Expansion: against the model for words made from trees, and for any text what must hold.

use rbuild::dockerfile::expand::{self, ExpandError, Expanded, ExpandedWords, Problem};

use super::choices::Choices;
use super::word_model::{self, Failure};
use super::word_tree::{self, Reading};

/// Reads the bytes both as text (first line: the value of every variable but `u` and `e`; then
/// the word) and as decisions that make a tree.
pub fn check(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let (value, word) = text.split_once('\n').unwrap_or(("", text));
        for escape in ['\\', '`'] {
            any_text(word, escape, value);
        }
    }
    tree(bytes);
}

fn any_text(word: &str, escape: char, value: &str) {
    let lookup = |name: &str| match name {
        "u" => None,
        "e" => Some(String::new()),
        _ => Some(value.to_owned()),
    };
    let whole = expand::expand(word, escape, &lookup);
    let split = expand::expand_words(word, escape, &lookup);
    match (&whole, &split) {
        (Ok(whole), Ok(split)) => consistent(whole, split),
        (Err(one), Err(other)) => assert_eq!(one, other),
        _ => panic!("{whole:?} but {split:?}"),
    }
    let most = word.len().max(4 << 20);
    for found in [&whole, &expand::expand_json(word, escape, &lookup)] {
        assert!(found.as_ref().is_ok_and(|out| out.text.len() <= most) || found.is_err());
    }
    assert_eq!(expand::expand_text(word, &lookup), expand::expand_json(word, '\\', &lookup));

    let unquoted = expand::unquote(word, escape);
    if !word.contains('$') {
        assert_eq!(unquoted, whole.map(|out| out.text), "{word:?} without variables");
    }
    let escaped: String = word.chars().flat_map(|c| [escape, c]).collect();
    let single = format!("'{}'", word.replace('\'', ""));
    for (quoted, expect) in [(escaped, word.to_owned()), (single, word.replace('\'', ""))] {
        let expect = Expanded { text: expect, unset: Vec::new() };
        assert_eq!(expand::expand(&quoted, escape, &lookup), Ok(expect.clone()), "{quoted:?}");
        assert_eq!(expand::unquote(&quoted, escape), Ok(expect.text), "{quoted:?}");
    }
}

/// Splitting takes away nothing but blanks.
fn consistent(whole: &Expanded, split: &ExpandedWords) {
    assert_eq!(whole.unset, split.unset);
    assert!(split.words.iter().all(|word| !word.is_empty()), "{split:?}");
    let solid = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    assert_eq!(solid(&whole.text), solid(&split.words.concat()));
    let mut rest = whole.text.as_str();
    for word in &split.words {
        rest = rest.trim_start().strip_prefix(word.as_str()).unwrap_or_else(|| {
            let at = rest.find(word.as_str()).unwrap_or_else(|| panic!("{word:?} is not in {rest:?}"));
            assert!(rest[..at].trim().is_empty(), "{word:?} in {rest:?}");
            &rest[at + word.len()..]
        });
    }
    assert!(rest.trim().is_empty(), "{rest:?} is in no word");
}

fn tree(bytes: &[u8]) {
    const IN_VALUES: [char; 14] = ['a', 'b', 'a', '/', '*', '?', '\\', '`', '}', 'é', ' ', '\'', '"', '$'];
    let mut choices = Choices::new(bytes);
    let reading = Reading { escape: choices.of(&['\\', '`']), quotes: !choices.one_in(4) };
    let values: Vec<(&'static str, String)> =
        ["a", "b", "Name"].into_iter().map(|name| (name, choices.text(&IN_VALUES, 6))).collect();
    let tree = word_tree::word(&mut choices, reading, None, 3);
    let mut word = String::new();
    word_tree::write(&tree, reading, &mut word);

    let lookup = |name: &str| values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    let about = || format!("{word:?}, {reading:?}, {values:?}");
    let expect = word_model::meaning(&tree, reading, &values);
    let found = if reading.quotes {
        expand::expand(&word, reading.escape, &lookup)
    } else {
        expand::expand_json(&word, reading.escape, &lookup)
    };
    let unset = |names: &[String]| names.iter().cloned().collect();
    let named = found.map(|out| (out.text, unset(&out.unset))).map_err(failure);
    let plain = expect.as_ref().map(|out| (out.text.clone(), out.unset.clone()));
    assert_eq!(named, plain.map_err(|failure| format!("{failure:?}")), "{}", about());
    if reading.quotes {
        let words = expand::expand_words(&word, reading.escape, &lookup);
        let named = words.map(|out| (out.words, unset(&out.unset))).map_err(failure);
        let plain = expect.map(|out| (out.words, out.unset));
        assert_eq!(named, plain.map_err(|failure| format!("{failure:?}")), "{}", about());
    }
}

fn failure(error: ExpandError) -> String {
    let failure = match error.problem {
        Problem::Required { name, message } => Failure::Required(name, message),
        Problem::BadPattern(_) => Failure::BadPattern,
        other => panic!("{other} in `{}`", error.word),
    };
    format!("{failure:?}")
}
