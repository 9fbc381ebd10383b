//! `rbuild man DIR`: the manual pages, from what the commands say of themselves.
//!
//! Options and usage are clap's; examples and what to read next are those of `--help`; files, variables and
//! exit codes are tables here and beside what reads them. Not here: how pages are shown.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::command_line::CommandLine;
use super::config::KEYS;
use super::error::CommandError;
use super::exit_codes::EXIT_CODES;
use super::help::under_headings;
use super::ui;

/// Write the manual pages.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    rbuild man /usr/local/share/man            then: man rbuild-build\n  \
    rbuild man ./man && man -l ./man/man5/rbuild-config.5\n\n\
    `make install` does it, too.\n\n\
    See also: rbuild completion, rbuild config")]
pub struct ManArgs {
    /// Where to: pages go to man1 and man5 in this directory
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// What is read and written; for FILES.
const FILES: [(&str, &str); 6] = [
    ("/etc/rbuild/config.toml, ~/.config/rbuild/config.toml", "settings: rbuild-config(5)"),
    ("/etc/rbuild/registries.json, ~/.config/rbuild/registries.json", "how registries are reached"),
    ("/etc/docker/daemon.json, ~/.config/docker/daemon.json", "docker's settings for registries, read"),
    ("/etc/docker/certs.d/HOST/", "certificates for a registry"),
    ("~/.docker/config.json", "credentials and who keeps them, as docker has them"),
    ("/var/lib/rbuild, ~/.local/share/rbuild", "the store: images, layers, the cache, records of builds"),
];

/// The variables that count; for ENVIRONMENT.
const VARIABLES: [(&str, &str); 12] = [
    ("RBUILD_ROOT", "where the store is; --root is over it"),
    ("BUILDKIT_PROGRESS", "how builds show progress; --progress is over it"),
    ("NO_COLOR", "no colours"),
    ("XDG_CONFIG_HOME, XDG_DATA_HOME", "instead of ~/.config and ~/.local/share"),
    ("DOCKER_CONFIG", "the directory of docker's config.json, instead of ~/.docker"),
    ("DOCKER_AUTH_CONFIG", "credentials, as docker's config.json has them"),
    ("http_proxy, https_proxy, all_proxy, no_proxy", "proxies, in either case"),
    ("SSL_CERT_FILE, SSL_CERT_DIR", "certificates to trust instead of the system's"),
    ("GIT_SSL_CAINFO", "the same, for git"),
    ("SSH_AUTH_SOCK", "the agent that --ssh default lends to RUN steps"),
    ("SOURCE_DATE_EPOCH", "the time of what a build makes, for reproducible images"),
    ("BROWSER", "what `rbuild builds open` shows pages with"),
];

/// Runs the command.
pub fn man(args: &ManArgs) -> Result<(), CommandError> {
    let mut root = CommandLine::command();
    root.build();
    let (one, five) = (args.directory.join("man1"), args.directory.join("man5"));
    for folder in [&one, &five] {
        fs::create_dir_all(folder)
            .map_err(|error| CommandError::new(format!("cannot make `{}`: {error}", folder.display())))?;
    }
    let mut count = 0;
    let mut pages = Vec::new();
    collect("rbuild", &root, &mut pages);
    let names: Vec<String> = pages.iter().map(|(name, _)| name.clone()).collect();
    for (name, command) in pages {
        write(&one.join(format!("{name}.1")), &page(&name, command, &names)?)?;
        count += 1;
    }
    write(&five.join("rbuild-config.5"), &config_page())?;
    ui::line(&format!("wrote {} pages to `{}`", count + 1, args.directory.display()));
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    fs::write(path, text)
        .map_err(|error| CommandError::new(format!("cannot write `{}`: {error}", path.display())))
}

/// Lists a command and those below it, with the names of their pages.
fn collect(name: &str, command: &Command, pages: &mut Vec<(String, Command)>) {
    pages.push((name.to_owned(), command.clone()));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        collect(&format!("{name}-{}", sub.get_name()), sub, pages);
    }
}

/// Writes the line that a page begins with. Without a date: the same version gives the same pages.
fn title(name: &str, section: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(".TH \"{}\" \"{section}\" \"\" \"rbuild {version}\" \"rbuild\"\n", name.to_uppercase())
}

/// Writes the page of one command; `names` are those of all pages.
fn page(name: &str, command: Command, names: &[String]) -> Result<String, CommandError> {
    let is_root = name == "rbuild";
    let command = if is_root { command } else { under_headings(command) };
    let mut bytes = title(name, "1").into_bytes();
    let mut roff = Roff::default();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    roff.control("SH", ["NAME"]).text([roman(format!("{name} - {}", about.trim_end_matches('.')))]);
    roff.control("SH", ["SYNOPSIS"]);
    let usage = command.clone().render_usage().to_string();
    verbatim(&mut roff, usage.trim_start_matches("Usage: ").lines().map(str::trim));
    roff.control("SH", ["DESCRIPTION"]);
    let long = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    paragraphs(&mut roff, &long);
    bytes.extend(roff.to_roff().into_bytes());

    let help = command
        .get_after_long_help()
        .or(command.get_after_help())
        .map(ToString::to_string)
        .unwrap_or_default();
    Man::new(command.clone()).render_options_section(&mut bytes)?;

    let mut roff = Roff::default();
    let subs: Vec<&Command> =
        command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help").collect();
    if !subs.is_empty() {
        roff.control("SH", ["COMMANDS"]);
        for sub in subs {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            tagged(&mut roff, vec![bold(format!("{name}-{}", sub.get_name())), roman("(1)")], &about);
        }
    }
    let mut notes = String::new();
    let mut also = Vec::new();
    for part in help.split("\n\n") {
        if let Some(examples) = part.split("Examples:\n").nth(1) {
            notes.push_str(part.split("Examples:\n").next().unwrap_or_default());
            roff.control("SH", ["EXAMPLES"]);
            verbatim(&mut roff, examples.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)));
        } else if let Some(list) = part.strip_prefix("See also: ") {
            also = list.trim().split(", ").map(|name| name.replace(' ', "-")).collect();
        } else {
            notes.push_str(part);
            notes.push_str("\n\n");
        }
    }
    if !notes.trim().is_empty() {
        roff.control("SH", ["NOTES"]);
        verbatim(&mut roff, notes.trim_end().lines());
    }
    if is_root {
        table(&mut roff, "FILES", FILES.iter().copied());
        table(&mut roff, "ENVIRONMENT", VARIABLES.iter().copied());
    }
    let first = name.split('-').nth(1).unwrap_or_default();
    let codes: Vec<(&str, &str)> = EXIT_CODES
        .iter()
        .filter(|(_, of, _)| is_root || *of == "all" || *of == first)
        .map(|(code, _, meaning)| (*code, *meaning))
        .collect();
    table(&mut roff, "EXIT STATUS", codes.into_iter());
    roff.control("SH", ["SEE ALSO"]);
    if is_root {
        also = names.iter().skip(1).cloned().chain(["rbuild-config(5)".to_owned()]).collect();
    } else {
        also.insert(0, "rbuild".to_owned());
    }
    let also: Vec<Inline> = also
        .iter()
        .enumerate()
        .flat_map(|(i, page)| {
            let (page, section) = page.split_once('(').unwrap_or((page, "1)"));
            let end = if i + 1 == also.len() { "" } else { ", " };
            [bold(page), roman(format!("({section}{end}"))]
        })
        .collect();
    roff.text(also);
    bytes.extend(roff.to_roff().into_bytes());
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes the page of the configuration files.
fn config_page() -> String {
    let mut roff = Roff::default();
    roff.control("SH", ["NAME"]).text([roman("rbuild-config - settings of rbuild")]);
    roff.control("SH", ["DESCRIPTION"]);
    paragraphs(
        &mut roff,
        "The files are TOML: /etc/rbuild/config.toml for everyone, and over it, key by key, \
         $XDG_CONFIG_HOME/rbuild/config.toml (~/.config/rbuild/config.toml) for its user. Variables of the environment \
         are over both, and options of a command over these. A file that cannot be read, has an unknown key or a \
         wrong value is an error.\n\nSizes are written as \"10GB\" (in units of 1024), durations as \"1h30m\".",
    );
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            roff.control("SH", [format!("[{section}]").as_str()]);
        }
        let mut about = format!("{} Default: {}.", key.about, key.default);
        let mut over = vec![key.option];
        over.extend(key.variables);
        over.retain(|word| !word.is_empty());
        if !over.is_empty() {
            about.push_str(&format!(" Over it: {}.", over.join(", ")));
        }
        tagged(&mut roff, vec![bold(key.name), roman(" = "), italic(key.example)], &about);
    }
    roff.control("SH", ["SEE ALSO"]).text([
        bold("rbuild"),
        roman("(1), "),
        bold("rbuild-config"),
        roman("(1)"),
    ]);
    title("rbuild-config", "5") + &roff.to_roff()
}

fn table<'a>(roff: &mut Roff, heading: &str, rows: impl Iterator<Item = (&'a str, &'a str)>) {
    roff.control("SH", [heading]);
    rows.for_each(|(name, about)| tagged(roff, vec![bold(name)], about));
}

fn tagged(roff: &mut Roff, tag: Vec<Inline>, about: &str) {
    roff.control("TP", []).text(tag).text([roman(about)]);
}

fn verbatim<'a>(roff: &mut Roff, lines: impl Iterator<Item = &'a str>) {
    roff.control("nf", []);
    for line in lines {
        // A line with nothing in it is a blank line only as this.
        match line.trim().is_empty() {
            true => roff.control("sp", []),
            false => roff.text([roman(line)]),
        };
    }
    roff.control("fi", []);
}

fn paragraphs(roff: &mut Roff, text: &str) {
    for (i, paragraph) in text.split("\n\n").filter(|text| !text.trim().is_empty()).enumerate() {
        if i > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(paragraph.split_whitespace().collect::<Vec<_>>().join(" "))]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let mut root = CommandLine::command();
        root.build();
        let mut pages = Vec::new();
        collect("rbuild", &root, &mut pages);
        let names: Vec<String> = pages.iter().map(|(name, _)| name.clone()).collect();
        assert!(names.iter().any(|name| name == "rbuild-image-ls"), "{names:?}");
        for (name, command) in pages {
            let text = page(&name, command, &names).unwrap();
            for section in
                ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "SEE ALSO"]
            {
                let heading = [format!(".SH {section}\n"), format!(".SH \"{section}\"\n")];
                assert!(heading.iter().any(|heading| text.contains(heading)), "{name}: {section}\n{text}");
            }
        }
        let config = config_page();
        assert!(KEYS.iter().all(|key| config.contains(&key.name.replace('-', "\\-"))), "{config}");
    }
}
