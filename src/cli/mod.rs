//! The command line: docker's commands, one file each.
//!
//! `command_line` says what the words mean; a command's file turns its arguments
//! into a request, calls the library, prints. `error` has all errors for people,
//! `ui` all printing, `world` all that is read from the environment. Nothing
//! here does the work itself.

mod annotations;
mod attach;
mod attached;
mod attend;
mod build;
mod builds;
mod cache_filter;
mod cache_mounts;
mod cache_options;
mod call;
mod check;
mod command_line;
mod commit;
mod completion;
mod config;
mod container_args;
mod container_env;
mod container_options;
mod containers;
mod context;
mod contexts;
mod cp;
mod csv;
mod diff;
mod diff_config;
mod doctor;
mod du;
mod error;
mod exec;
mod exit_codes;
mod expand;
mod export;
mod filter;
mod find;
mod findings;
mod foreground;
mod graph;
mod groups;
mod guess;
mod headings;
mod health_options;
mod help;
mod history;
mod hook;
mod image_import;
mod images;
mod inspect;
mod isolation;
mod json;
mod late;
mod layers;
mod load;
mod login;
mod logout;
mod look;
mod man;
mod near_files;
mod no_effect;
mod on_failure;
mod outputs;
mod panic;
mod parse;
mod pause;
mod progress;
mod prune;
mod pull;
mod pull_policy;
mod push;
mod quota;
mod reach;
mod registry;
mod report;
mod reset;
mod resources;
mod rm;
mod rmi;
mod rows;
mod run;
mod run_image;
mod save;
mod search;
mod serve;
mod shell;
mod shell_words;
mod snapshotter;
mod start;
mod stats;
mod step_inputs;
mod step_network;
mod stop;
mod system_df;
mod table;
mod tag;
mod targets;
mod template;
mod top;
mod tree;
mod ui;
mod units;
mod volume;
mod when;
mod why;
mod world;
mod wrap;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use command_line::{Command, CommandLine};
use error::{CommandError, code};
use late::Late;
use world::World;

/// Runs the program and returns its exit code. No other thread may run yet.
pub fn main(words: impl IntoIterator<Item = OsString>) -> u8 {
    let mut words = words.into_iter().peekable();
    let program = words.next();
    if words.peek().is_some_and(|word| word == completion::ASKED) {
        completion::answer(words.skip(1));
        return 0;
    }
    panic::guard(|| guarded(program.into_iter().chain(words)))
}

fn guarded(words: impl Iterator<Item = OsString>) -> u8 {
    world::panic_if_asked();
    // Described once: it is the larger part of what happens before the work.
    let mut parser = CommandLine::command();
    let words = match command_line::complete(&parser, words) {
        Ok(words) => words,
        Err(error) => {
            ui::note(&error.text());
            return error.code;
        }
    };
    if let Some(text) = help::prepare(&mut parser, &words) {
        ui::out(&text);
        return 0;
    }
    let asked = |at: usize, name: &str| words.get(at).is_some_and(|word| word == name);
    let is_run = asked(1, "run") || (asked(1, "container") && asked(2, "run"));
    let parsed = parser.try_get_matches_from_mut(&words).and_then(|mut matches| {
        CommandLine::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut parser))
    });
    let line = match parsed {
        Ok(line) => line,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    ui::out(&help::drawn(&error.render()));
                    0
                }
                kind => {
                    ui::note(&guess::render(error));
                    match (is_run, kind) {
                        // Docker's own answer to that.
                        (true, ErrorKind::MissingRequiredArgument) => code::FAILED,
                        (true, _) => code::RUN_FAILED,
                        (false, _) => code::USAGE,
                    }
                }
            };
        }
    };
    match dispatch(line) {
        Ok(0) if ui::lost().is_some() => {
            let why = ui::lost().unwrap_or_default();
            ui::note(&format!("error: cannot write to standard output: {why}\n"));
            code::FAILED
        }
        Ok(code) => code,
        Err(error) => {
            ui::note(&error.text());
            error.code
        }
    }
}

fn dispatch(mut line: CommandLine) -> Result<u8, CommandError> {
    line.command = line.command.ungrouped();
    if matches!(line.command, Command::Registry(_)) {
        registry::place(&mut line.global);
    }
    // What only reads text or keeps credentials needs no store, and no namespaces: a program that keeps
    // them is to see its user's own ids.
    match line.command {
        Command::Build(args) if args.is_call() => return call::build(&args),
        Command::Check(args) => return check::check(args),
        Command::Parse(args) => return parse::parse(args),
        Command::Expand(args) => return expand::expand(args),
        Command::Build(args) if args.dry_run => {
            why::dry_run(&World::new(&line.global, true)?, *args)?;
            return Ok(0);
        }
        Command::Build(args) => {
            // A program that waits for the image must not be in the user namespace that comes now.
            let early = |error| progress::early(args.progress.as_deref(), args.quiet, error);
            let outputs = args.read_outputs().map_err(early)?;
            let wanted = args.isolation.wanted(world::isolation_setting()).map_err(early)?;
            let world = World::isolated(&line.global, true, wanted).map_err(early)?;
            build::build(&world, *args, outputs)?;
            return Ok(0);
        }
        Command::Login(args) => {
            config::get()?;
            return login::login(&line.global, args).map(|()| 0);
        }
        Command::Logout(args) => return logout::logout(&line.global, args).map(|()| 0),
        Command::Search(args) => {
            config::get()?;
            return search::search(&line.global, args).map(|()| 0);
        }
        Command::Doctor(args) => return doctor::doctor(&line.global, args).map(|()| 0),
        Command::Config(args) => return config::config(&line.global, args).map(|()| 0),
        Command::Completion(args) => {
            completion::completion(&args);
            return Ok(0);
        }
        Command::Man(args) => return man::man(&args).map(|()| 0),
        Command::Hook(Late(group)) => return hook::hook(&line.global, group).map(|()| 0),
        Command::Serve(Late(args)) => return serve::serve(&line.global, &args).map(|()| 0),
        _ => {}
    }
    // A program that shows pages must not be in the user namespace that comes now.
    let viewer = match &line.command {
        Command::Builds(args) => args.viewer()?,
        _ => None,
    };
    let world = match &line.command {
        Command::Shell(args) => {
            let wanted = args.0.isolation.wanted(world::isolation_setting())?;
            World::isolated(&line.global, true, wanted)?
        }
        Command::Run(Late(args)) if args.container.options.isolation.isolation.is_some() => {
            let failed = |error: CommandError| error.code(code::RUN_FAILED);
            let wanted = args.container.options.isolation.wanted(None).map_err(failed)?;
            World::isolated(&line.global, true, wanted).map_err(failed)?
        }
        command => World::new(&line.global, command.needs_namespace())?,
    };
    match line.command {
        Command::Graph(args) => graph::graph(&world, args)?,
        Command::Why(args) => why::why(&world, args)?,
        Command::Context(args) => context::context(args)?,
        Command::Import(args) => image_import::import(&world, args)?,
        Command::Pull(args) => pull::pull(&world, args)?,
        Command::Export(args) => export::export(&world, args)?,
        Command::Load(args) => load::load(&world, args)?,
        Command::Save(args) => save::save(&world, args)?,
        Command::Images(args) => images::images(&world, args)?,
        Command::Tag(args) => tag::tag(&world, args)?,
        Command::Push(args) => push::push(&world, args)?,
        Command::Rmi(args) => rmi::rmi(&world, args)?,
        Command::Inspect(args) => inspect::inspect(&world, args)?,
        Command::History(args) => history::history(&world, args)?,
        Command::Ps(args) => look::ps(&world, args)?,
        Command::Logs(args) => look::logs(&world, args)?,
        Command::Port(args) => look::port(&world, args)?,
        Command::Rename(args) => look::rename(&world, args)?,
        Command::ContainerPrune(args) => look::prune(&world, args)?,
        Command::Run(Late(args)) => return run::run(&world, args),
        Command::Create(Late(args)) => run::create(&world, args)?,
        Command::Start(Late(args)) => return start::start(&world, args),
        Command::Attach(Late(args)) => return attach::attach(&world, args),
        Command::Exec(Late(args)) => return exec::exec(&world, args),
        Command::Top(Late(args)) => top::top(&world, args)?,
        Command::Stop(Late(args)) => stop::stop(&world, args)?,
        Command::Restart(Late(args)) => stop::restart(&world, args)?,
        Command::Kill(Late(args)) => stop::kill(&world, args)?,
        Command::Wait(Late(args)) => stop::wait(&world, args)?,
        Command::Pause(Late(args)) => pause::pause(&world, &args)?,
        Command::Unpause(Late(args)) => pause::unpause(&world, &args)?,
        Command::Stats(Late(args)) => stats::stats(&world, args)?,
        Command::Rm(Late(args)) => rm::rm(&world, args)?,
        Command::Commit(Late(args)) => commit::commit(&world, args)?,
        Command::Cp(Late(args)) => cp::cp(&world, args)?,
        Command::Volume(Late(group)) => volume::volume(&world, group)?,
        Command::Shell(args) => return shell::shell(&world, args.0),
        Command::Diff(args) => diff::diff(&world, args)?,
        Command::Layers(args) => layers::layers(&world, args)?,
        Command::Builds(args) => builds::builds(&world, args, viewer)?,
        Command::Report(args) => report::report(&world, args)?,
        Command::Registry(Late(args)) => registry::registry(&world, args)?,
        Command::ImagePrune(args) => prune::images(&world, args)?,
        Command::Prune(Late(args)) => prune::cache(&world, args)?,
        Command::Du(Late(args)) => du::du(&world, args)?,
        Command::Cache(Late(group)) => cache_mounts::cache_mounts(&world, group)?,
        Command::SystemReset(args) => reset::reset(&world, args)?,
        Command::SystemPrune(args) => prune::system(&world, args)?,
        Command::SystemDf(args) => system_df::df(&world, args)?,
        Command::Image(_) | Command::Container(_) | Command::System(_) | Command::Builder(_) => {}
        Command::Build(_)
        | Command::Check(_)
        | Command::Parse(_)
        | Command::Expand(_)
        | Command::Login(_)
        | Command::Logout(_)
        | Command::Search(_)
        | Command::Doctor(_)
        | Command::Config(_)
        | Command::Completion(_)
        | Command::Man(_)
        | Command::Hook(_)
        | Command::Serve(_) => {}
    }
    Ok(0)
}
