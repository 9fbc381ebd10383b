//! The command line: docker's commands, one file each.
//!
//! `command_line` says what the words mean; a command's file turns its arguments
//! into a request, calls the library, prints. `error` has all errors for people,
//! `ui` all printing, `world` all that is read from the environment. Nothing
//! here does the work itself.

mod build;
mod cache_options;
mod call;
mod check;
mod command_line;
mod context;
mod contexts;
mod doctor;
mod error;
mod expand;
mod filter;
mod find;
mod findings;
mod graph;
mod guess;
mod history;
mod image_import;
mod images;
mod inspect;
mod json;
mod login;
mod logout;
mod no_effect;
mod parse;
mod resources;
mod rmi;
mod run;
mod step_inputs;
mod table;
mod tag;
mod targets;
mod template;
mod tree;
mod ui;
mod units;
mod world;

use std::ffi::OsString;

use clap::Parser;
use clap::error::ErrorKind;

use command_line::{Command, CommandLine};
use error::{CommandError, code};
use world::World;

/// Runs the program and returns its exit code. No other thread may run yet.
pub fn main(words: impl IntoIterator<Item = OsString>) -> u8 {
    let words = match command_line::complete(words) {
        Ok(words) => words,
        Err(error) => {
            ui::note(&error.text());
            return error.code;
        }
    };
    let is_run = words.get(1).is_some_and(|word| word == "run");
    let line = match CommandLine::try_parse_from(&words) {
        Ok(line) => line,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    ui::out(&error.render().to_string());
                    0
                }
                _ => {
                    ui::note(&guess::render(error));
                    if is_run { code::RUN_FAILED } else { code::USAGE }
                }
            };
        }
    };
    match dispatch(line) {
        Ok(code) => code,
        Err(error) => {
            ui::note(&error.text());
            error.code
        }
    }
}

fn dispatch(line: CommandLine) -> Result<u8, CommandError> {
    // What only reads text or keeps credentials needs no store, and no namespaces: a program that keeps
    // them is to see its user's own ids.
    match line.command {
        Command::Build(args) if args.is_call() => return call::build(&args),
        Command::Check(args) => return check::check(args),
        Command::Parse(args) => return parse::parse(args),
        Command::Expand(args) => return expand::expand(args),
        Command::Login(args) => return login::login(&line.global, args).map(|()| 0),
        Command::Logout(args) => return logout::logout(&line.global, args).map(|()| 0),
        _ => {}
    }
    let world = World::new(&line.global, line.command.needs_namespace())?;
    match line.command {
        Command::Build(args) => build::build(&world, *args)?,
        Command::Graph(args) => graph::graph(&world, args)?,
        Command::Context(args) => context::context(args)?,
        Command::Import(args) => image_import::import(&world, args)?,
        Command::Images(args) => images::images(&world, args)?,
        Command::Tag(args) => tag::tag(&world, args)?,
        Command::Rmi(args) => rmi::rmi(&world, args)?,
        Command::Inspect(args) => inspect::inspect(&world, args)?,
        Command::History(args) => history::history(&world, args)?,
        Command::Run(args) => return run::run(&world, args),
        Command::Doctor(args) => doctor::doctor(&world, args)?,
        Command::Check(_)
        | Command::Parse(_)
        | Command::Expand(_)
        | Command::Login(_)
        | Command::Logout(_) => {}
    }
    Ok(0)
}
