//! `rbuild cp`: files between a container and this machine, or as a tar.
//!
//! Not here: the rules (`container::files`).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::Args;

use super::containers;
use super::error::CommandError;
use super::save::no_terminal;
use super::world::World;
use super::{ui, units};
use crate::container::files::{self, ContainerFiles, Copied, CopyError, CopyOptions, End};
use crate::layer::LeftOut;

/// Copy files between a container and this machine.
#[derive(Debug, Args)]
#[command(
    override_usage = "rbuild cp [OPTIONS] CONTAINER:SRC DEST|-\n       rbuild cp [OPTIONS] SRC|- CONTAINER:DEST",
    after_help = "A directory is copied into DEST where that is one, else becomes DEST; of `DIR/.` its contents are \
    copied. `-` is a\ntar: on standard output what is read, on standard input what is unpacked in the directory DEST. \
    A container that\ndoes not run will do, too. What comes out of a container belongs to the caller, and brings no \
    devices, set-user-ID\nand set-group-ID along unless -a is given.\n\n\
    Examples:\n  rbuild cp web:/var/log/app.log .\n  rbuild cp ./conf/. web:/etc/app\n  \
    rbuild cp web:/etc - | tar -t\n\n\
    See also: rbuild diff, rbuild export"
)]
pub struct CpArgs {
    /// Keep owners: what comes in is root's otherwise, what goes out the caller's
    #[arg(short, long)]
    pub archive: bool,
    /// Copy what a link as SRC leads to, not the link
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Do not tell how much was copied
    #[arg(short, long)]
    pub quiet: bool,
    /// What is copied
    #[arg(value_name = "SRC")]
    pub source: OsString,
    /// Where it goes
    #[arg(value_name = "DEST")]
    pub destination: OsString,
}

/// Takes `CONTAINER:PATH` apart; `None` for a path of this machine.
fn split(text: &OsStr) -> Option<(String, OsString)> {
    let bytes = text.as_bytes();
    // As docker: a path that begins like one is one, whatever colons it holds.
    if bytes.starts_with(b"/") || bytes.starts_with(b".") {
        return None;
    }
    let at = bytes.iter().position(|byte| *byte == b':')?;
    let container = String::from_utf8(bytes[..at].to_vec()).ok()?;
    Some((container, OsString::from_vec(bytes[at + 1..].to_vec())))
}

/// Runs the command.
pub fn cp(world: &World, args: CpArgs) -> Result<(), CommandError> {
    let bad = |why: &str| Err(CommandError::usage(why));
    let options = CopyOptions { keep_owners: args.archive, follow: args.follow_link };
    if args.source.is_empty() {
        return bad("source can not be empty");
    }
    if args.destination.is_empty() {
        return bad("destination can not be empty");
    }
    match (split(&args.source), split(&args.destination)) {
        (Some(_), Some(_)) => bad("copying between containers is not supported"),
        (None, None) => bad("must specify at least one container source"),
        (Some((_, path)), None) if path.is_empty() => bad("source can not be empty"),
        (None, Some((_, path))) if path.is_empty() => bad("destination can not be empty"),
        (Some((container, path)), None) => out(world, &args, &container, &path, options),
        (None, Some((container, path))) => into(world, &args, &container, &path, options),
    }
}

fn out(
    world: &World,
    args: &CpArgs,
    container: &str,
    path: &OsStr,
    options: CopyOptions,
) -> Result<(), CommandError> {
    let to_tar = args.destination == "-";
    if to_tar && ui::out_is_terminal() {
        return Err(no_terminal());
    }
    let store = world.open_store()?;
    store.hold()?;
    let (kept, settings) = containers::find(&store, container)?;
    let opened = ContainerFiles::open(&store, &kept, &settings.mounts)?;
    let end = End { files: &opened, container, path };
    if to_tar {
        files::tar_out(&end, options.follow, &mut io::stdout().lock())?;
        return Ok(());
    }
    let copied = files::copy_out(&end, &args.destination, options).map_err(told)?;
    if copied.files.devices > 0 {
        let count = copied.files.devices;
        ui::note(&format!("warning: {count} device(s) were not copied: `-a` copies them, too\n"));
    }
    say(args, &copied, &args.destination.to_string_lossy());
    Ok(())
}

fn into(
    world: &World,
    args: &CpArgs,
    container: &str,
    path: &OsStr,
    options: CopyOptions,
) -> Result<(), CommandError> {
    let from_tar = args.source == "-";
    if from_tar && ui::in_is_terminal() {
        return Err(CommandError::usage("an archive is expected on standard input, which is a terminal")
            .hint("pipe it: `tar -c conf | rbuild cp - web:/etc`"));
    }
    let store = world.open_store()?;
    store.hold()?;
    let (kept, settings) = containers::find(&store, container)?;
    let opened = ContainerFiles::open_to_write(&store, &kept, &settings.mounts)?;
    let end = End { files: &opened, container, path };
    let copied = match from_tar {
        true => files::tar_in(io::stdin().lock(), &end),
        false => files::copy_in(&args.source, &end, options),
    };
    // What was written before an error stays, as with docker.
    let finished = opened.finish(&store);
    let copied = copied.map_err(told)?;
    finished?;
    say(args, &copied, &format!("{container}:{}", path.display()));
    Ok(())
}

fn told(error: CopyError) -> CommandError {
    CommandError::from(error)
}

fn say(args: &CpArgs, copied: &Copied, to: &str) {
    if copied.left_out != LeftOut::default() {
        let lost = ui::count_left_out(&copied.left_out);
        ui::note(&format!("warning: not all could be kept ({lost})\n"));
    }
    if !args.quiet {
        ui::note(&format!("Successfully copied {} to {to}\n", units::exact_size(copied.files.bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_words_name_a_container() {
        let check = |text: &str, expect: Option<(&str, &str)>| {
            let expect = expect.map(|(container, path)| (container.to_owned(), OsString::from(path)));
            assert_eq!(split(OsStr::new(text)), expect, "{text}");
        };
        check("web:/etc", Some(("web", "/etc")));
        check("web:a:b", Some(("web", "a:b")));
        check("web:", Some(("web", "")));
        check("./web:/etc", None);
        check("/web:/etc", None);
        check(".web:/etc", None);
        check("file", None);
        check("-", None);
    }
}
