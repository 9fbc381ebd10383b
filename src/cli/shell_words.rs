//! Reads the lines of a shell that help and documents show, as far as they are used there: for tests of them.

#![cfg(test)]

/// Returns the words of each simple command of a line; a comment ends it. What is substituted is one word.
pub fn commands(line: &str) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut chars = line.chars().peekable();
    let mut blanks = 0;
    let mut redirected = false;
    let end = |word: &mut Option<String>, all: &mut Vec<Vec<String>>, redirected: &mut bool| {
        if let Some(word) = word.take()
            && !std::mem::take(redirected)
            && let Some(words) = all.last_mut()
        {
            words.push(word);
        }
    };
    while let Some(char) = chars.next() {
        if char == ' ' {
            blanks += 1;
            end(&mut word, &mut all, &mut redirected);
            continue;
        }
        // Three blanks part a command from what is said of it.
        if blanks >= 3 && all.iter().any(|words| !words.is_empty()) {
            break;
        }
        if char == '#' && blanks > 0 {
            break;
        }
        blanks = 0;
        match char {
            '|' | ';' | '&' | '(' | ')' => {
                redirected = false;
                end(&mut word, &mut all, &mut redirected);
                all.push(Vec::new());
            }
            '>' | '<' => {
                end(&mut word, &mut all, &mut redirected);
                redirected = true;
            }
            '\'' | '"' => {
                let text = word.get_or_insert_default();
                for inner in chars.by_ref().take_while(|&inner| inner != char) {
                    text.push(inner);
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            '$' if chars.peek() == Some(&'(') => {
                let mut depth = 0;
                let text = word.get_or_insert_default();
                text.push('x');
                for inner in chars.by_ref() {
                    depth += i32::from(inner == '(') - i32::from(inner == ')');
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => word.get_or_insert_default().push(char),
        }
    }
    end(&mut word, &mut all, &mut redirected);
    all.retain(|words| !words.is_empty());
    all
}

/// Returns the lines of a Markdown text that begin with `rbuild`, in blocks and in backticks.
pub fn of_document(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut in_block = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        match in_block {
            true => {
                let line = line.trim_start().trim_start_matches("$ ");
                match lines.last_mut() {
                    // A line that goes on in the next.
                    Some(last) if last.ends_with('\\') => {
                        last.pop();
                        last.push_str(line);
                    }
                    _ => lines.push(line.to_owned()),
                }
            }
            false => {
                prose.push_str(line);
                prose.push('\n');
            }
        }
    }
    lines.extend(prose.split('`').skip(1).step_by(2).map(|code| code.replace('\n', " ")));
    lines.retain(|line| line.starts_with("rbuild ") || line.contains(" rbuild "));
    lines.retain(|line| {
        line.starts_with("rbuild ") || line.contains("| rbuild ") || line.contains("&& rbuild ")
    });
    lines
}

#[test]
fn commands_are_found() {
    let check = |line: &str, expect: &[&[&str]]| assert_eq!(commands(line), expect, "{line}");
    check("rbuild images   # all", &[&["rbuild", "images"]]);
    check("a - | rbuild import - x:1", &[&["a", "-"], &["rbuild", "import", "-", "x:1"]]);
    check("rbuild graph . > g.svg", &[&["rbuild", "graph", "."]]);
    check("rbuild -t x:$(git log -1) '{{.A B}}'", &[&["rbuild", "-t", "x:x", "{{.A B}}"]]);
    check("source <(rbuild completion bash)   x", &[&["source"], &["rbuild", "completion", "bash"]]);
    check("rbuild -o out .      write files", &[&["rbuild", "-o", "out", "."]]);
}
