//! Arguments of a command that are described only when it is the one asked for.
//!
//! A table of all arguments of all commands costs every start more than most commands do.
//! Not here: which commands there are (`command_line`).

use clap::{ArgMatches, Args, FromArgMatches};

/// The arguments `T` of a command.
#[derive(Debug)]
pub struct Late<T>(pub T);

impl<T: Args> Args for Late<T> {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.defer(|command| {
            // Said where the command is listed: that counts, not what `T` says of itself.
            let (about, long) = (command.get_about().cloned(), command.get_long_about().cloned());
            let command = T::augment_args(command).long_about(None::<&str>);
            let command = match about {
                Some(about) => command.about(about),
                None => command,
            };
            match long {
                Some(long) => command.long_about(long),
                None => command,
            }
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        T::augment_args_for_update(command)
    }
}

impl<T: FromArgMatches> FromArgMatches for Late<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches(matches).map(Late)
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches_mut(matches).map(Late)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}
