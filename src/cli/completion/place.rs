//! Where on a command line the word is that is being written: what kind of word it is, and what stands before it.
//!
//! Reads the words as clap would, but forgives all that is not finished. Not here: what the word can be (`values`).

use clap::{Arg, Command};

/// A place on a command line.
pub struct Place {
    /// The words of the command, `["image", "ls"]`; empty where none is written yet.
    pub path: Vec<String>,
    /// The command, with all its options; where none is written yet, `build`.
    pub command: Command,
    /// The words that name a command here, if one can stand here.
    pub commands: Vec<(String, String)>,
    pub what: What,
    /// The options given before, by their ids, with their values.
    pub options: Vec<(String, String)>,
    /// The words before that are no options.
    pub positionals: Vec<String>,
    /// The options of every command.
    pub globals: Vec<Arg>,
}

/// What is being written.
#[derive(Debug)]
pub enum What {
    /// An option's name.
    Option,
    /// The value of an option; what stands before it in the word (`--file=`), the value as far as it is written.
    Value(Box<Arg>, String, String),
    /// A word that is no option; the argument it is for, if there is one.
    Positional(Option<Box<Arg>>, String),
}

impl Place {
    /// Returns the last value that an option was given, by the option's id.
    pub fn option(&self, id: &str) -> Option<&str> {
        self.options.iter().rev().find(|(given, _)| given == id).map(|(_, value)| value.as_str())
    }
}

/// Reads the words before the one that is being written.
pub fn find(parser: &Command, before: &[String], current: &str) -> Place {
    let mut place = Place {
        path: Vec::new(),
        command: built(parser, "build"),
        commands: Vec::new(),
        what: What::Option,
        options: Vec::new(),
        positionals: Vec::new(),
        globals: parser.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect(),
    };
    let mut words = before.iter();
    let mut no_options = false;
    let mut open: Option<Arg> = None;
    while let Some(word) = words.next() {
        let option = word.len() > 1 && word.starts_with('-') && !no_options;
        if word == "--" && option {
            no_options = true;
        } else if option {
            let is_global = place.globals.iter().any(|arg| is_named(arg, word));
            if place.path.is_empty() && !is_global {
                place.path.push("build".to_owned());
            }
            match option_of(&place, word) {
                Some((arg, Some(value))) => place.options.push((arg.get_id().to_string(), value)),
                Some((arg, None)) if wants_value(&arg) => match words.next() {
                    Some(value) => place.options.push((arg.get_id().to_string(), value.clone())),
                    None => open = Some(arg),
                },
                _ => {}
            }
        } else if place.path.is_empty() {
            match parser.find_subcommand(word) {
                Some(found) => {
                    place.path.push(found.get_name().to_owned());
                    place.command = built(parser, found.get_name());
                }
                // `rbuild help COMMAND`: the words of a command follow.
                None if word == "help" => {}
                None => {
                    place.path.push("build".to_owned());
                    place.positionals.push(word.clone());
                }
            }
        } else if let Some(found) =
            place.command.find_subcommand(word).filter(|_| place.positionals.is_empty()).cloned()
        {
            place.path.push(found.get_name().to_owned());
            place.command = found;
        } else {
            place.positionals.push(word.clone());
            // What follows the image of a container is the container's.
            no_options |= positional(&place.command, 0).is_some_and(|arg| arg.is_trailing_var_arg_set());
        }
    }
    let named = |command: &Command| (command.get_name().to_owned(), about(command));
    let shown = |command: &Command| -> Vec<(String, String)> {
        command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(named).collect()
    };
    if place.path.is_empty() {
        place.commands = shown(parser);
        place.commands.push(("help".to_owned(), "Show what commands do".to_owned()));
    } else if place.positionals.is_empty() {
        place.commands = shown(&place.command);
    }
    place.what = what(&place, open, current, no_options);
    place
}

fn what(place: &Place, open: Option<Arg>, current: &str, no_options: bool) -> What {
    if let Some(arg) = open {
        return What::Value(Box::new(arg), String::new(), current.to_owned());
    }
    if current.starts_with('-') && current != "-" && !no_options {
        let Some((arg, Some(value))) = option_of(place, current) else { return What::Option };
        let before = current.len() - value.len();
        return What::Value(Box::new(arg), current[..before].to_owned(), value);
    }
    let arg = positional(&place.command, place.positionals.len());
    What::Positional(arg.cloned().map(Box::new), current.to_owned())
}

/// Returns a command with all that belongs to it; `find_subcommand` alone leaves out what is described late.
fn built(parser: &Command, name: &str) -> Command {
    let mut command = parser.find_subcommand(name).cloned().unwrap_or_default();
    command.build();
    command
}

pub fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn is_named(arg: &Arg, word: &str) -> bool {
    let Some(long) = word.strip_prefix("--") else { return false };
    let name = long.split('=').next().unwrap_or_default();
    arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
}

/// Finds the option that a word names, and the value that stands in the word itself: `--file=x`, `-fx`.
fn option_of(place: &Place, word: &str) -> Option<(Arg, Option<String>)> {
    let mut all = place.command.get_arguments().chain(&place.globals);
    if word.starts_with("--") {
        let value = word.split_once('=').map(|(_, value)| value.to_owned());
        return Some((all.find(|arg| is_named(arg, word))?.clone(), value));
    }
    // Several in one word, the last of which may have a value: `-qt app`.
    for (at, char) in word.char_indices().skip(1) {
        let arg = place.command.get_arguments().find(|arg| arg.get_short() == Some(char))?;
        let rest = &word[at + char.len_utf8()..];
        if wants_value(arg) || rest.is_empty() {
            let value = (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest).to_owned());
            return Some((arg.clone(), value));
        }
    }
    None
}

/// Tells whether the word after an option is its value.
fn wants_value(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

fn positional(command: &Command, at: usize) -> Option<&Arg> {
    let many =
        |arg: &&Arg| arg.is_trailing_var_arg_set() || matches!(arg.get_action(), clap::ArgAction::Append);
    command.get_positionals().nth(at).or_else(|| command.get_positionals().last().filter(many))
}
