//! Checks that the rooms of `src/` use each other as `docs/architecture.md` says.
//!
//! A room is a folder of `src/`. Every `crate::` path in a room must lead into
//! the room itself or into one its row of the table names.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// A row of the table.
#[derive(Debug)]
struct Room {
    floor: u32,
    may_use: BTreeSet<String>,
}

type Rooms = BTreeMap<String, Room>;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads the rows `| floor | `room` | what | may use |`.
fn read_table(text: &str) -> Rooms {
    let mut rooms = Rooms::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        // A row starts and ends with a bar, so the first and last cells are empty.
        let [_, floor, name, .., may_use, _] = cells.as_slice() else { continue };
        let (Ok(floor), Some(name)) =
            (floor.parse(), name.strip_prefix('`').and_then(|n| n.strip_suffix('`')))
        else {
            continue;
        };
        let may_use = may_use.split(',').map(str::trim).filter(|r| *r != "-").map(str::to_owned).collect();
        let doubled = rooms.insert(name.to_owned(), Room { floor, may_use }).is_some();
        assert!(!doubled, "`{name}` has two rows");
    }
    rooms
}

/// Returns what is wrong with the table itself.
fn check_table(rooms: &Rooms) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, room) in rooms {
        for used in &room.may_use {
            match rooms.get(used) {
                None => wrong.push(format!("the row of `{name}` names an unknown room `{used}`")),
                // Strictly downwards, so there can be no cycle.
                Some(other) if other.floor >= room.floor => wrong.push(format!(
                    "the row of `{name}` (floor {}) names `{used}`, which is not on a lower floor",
                    room.floor
                )),
                Some(_) => {}
            }
        }
    }
    wrong
}

/// Takes comments out, so that links in them are no arrows.
fn without_comments(source: &str) -> String {
    source
        .lines()
        .map(|line| match line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':')) {
            Some((at, _)) => &line[..at],
            None => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Returns the first words of what follows each `crate::`, groups included.
fn crate_paths(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, text) in source.match_indices("crate::") {
        let in_a_word = source[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        if in_a_word {
            continue;
        }
        let rest = &source[at + text.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group)),
            None => found.push(head(rest)),
        }
    }
    found
}

fn head(path: &str) -> String {
    path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Returns the first word of each member of a `use` group, given what follows its `{`.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = vec![head(group)];
    let mut depth = 1;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => heads.push(head(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads.retain(|h| !h.is_empty());
    heads
}

/// Returns the rooms reached by `super::super::room`, the way round `crate::`.
fn super_paths(source: &str, rooms: &Rooms) -> Vec<String> {
    source
        .match_indices("super::")
        .map(|(at, text)| head(&source[at + text.len()..]))
        .filter(|word| rooms.contains_key(word))
        .collect()
}

/// Returns each arrow of one file that the table does not allow.
fn check_file(room: &str, source: &str, rooms: &Rooms) -> Vec<String> {
    let Some(row) = rooms.get(room) else {
        return vec![format!("`{room}` has no row in the table")];
    };
    let source = without_comments(source);
    let mut used: BTreeSet<String> = crate_paths(&source).into_iter().collect();
    // A module of this room may have a room's name: only names that the room does not own count.
    used.extend(super_paths(&source, rooms).into_iter().filter(|name| !own_module(room, name)));
    used.remove(room);
    used.into_iter()
        .filter(|name| !row.may_use.contains(name))
        .map(|name| match rooms.contains_key(&name) {
            true => format!("`{room}` uses `{name}`, which its row does not name"),
            false => format!("`{room}` uses `crate::{name}`, which is no room"),
        })
        .collect()
}

fn own_module(room: &str, name: &str) -> bool {
    let folder = project().join("src").join(room);
    folder.join(format!("{name}.rs")).exists() || folder.join(name).is_dir()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(folder)
        .sort_by_file_name()
        .into_iter()
        .map(|entry| entry.expect("src is readable").into_path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .collect()
}

#[test]
fn rooms_use_only_what_the_table_allows() {
    let table = fs::read_to_string(project().join("docs/architecture.md")).expect("the table's page");
    let rooms = read_table(&table);
    assert!(rooms.len() > 10, "the table of docs/architecture.md was not understood: {rooms:?}");
    let mut wrong = check_table(&rooms);

    let src = project().join("src");
    let mut seen = BTreeSet::new();
    for path in rust_files(&src) {
        let inside = path.strip_prefix(&src).expect("found under src");
        if inside == Path::new("lib.rs") || inside == Path::new("main.rs") {
            continue;
        }
        let first = inside.iter().next().expect("a file has a name");
        let room = Path::new(first).file_stem().expect("a name").to_string_lossy().into_owned();
        let source = fs::read_to_string(&path).expect("a source file is UTF-8");
        wrong.extend(
            check_file(&room, &source, &rooms).into_iter().map(|w| format!("src/{}: {w}", inside.display())),
        );
        seen.insert(room);
    }
    for name in rooms.keys().filter(|name| !seen.contains(*name)) {
        wrong.push(format!("the table names `{name}`, and src/{name} does not exist"));
    }
    assert!(wrong.is_empty(), "{} arrows or rooms are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_check_sees_each_kind_of_wrong_arrow() {
    let rooms = read_table(
        "| floor | room | what | may use |\n|---|---|---|---|\n\
         | 0 | `ground` | a | - |\n| 1 | `first` | b | ground |\n| 2 | `top` | c | first |\n",
    );
    assert!(check_table(&rooms).is_empty());
    let check = |room: &str, source: &str, expect: &[&str]| {
        assert_eq!(check_file(room, source, &rooms), expect, "{source}");
    };
    check("top", "use crate::first::x;", &[]);
    check("top", "use crate::top::x; // crate::ground", &[]);
    check("ground", "use crate::first::x;", &["`ground` uses `first`, which its row does not name"]);
    check(
        "top",
        "use crate::{first::{a, b}, ground};",
        &["`top` uses `ground`, which its row does not name"],
    );
    check("top", "fn f() -> crate::ground::X {}", &["`top` uses `ground`, which its row does not name"]);
    check("top", "use super::super::ground::X;", &["`top` uses `ground`, which its row does not name"]);
    check("first", "use crate::cellar::x;", &["`first` uses `crate::cellar`, which is no room"]);
    check("attic", "", &["`attic` has no row in the table"]);
    check("ground", "let url = \"http://a\"; mycrate::first();", &[]);

    let upwards = read_table("| 0 | `a` | x | b |\n| 0 | `b` | x | nowhere |\n");
    assert_eq!(check_table(&upwards).len(), 2);
}
