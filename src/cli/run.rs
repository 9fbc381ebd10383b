//! `rbuild run`: a command in a new container, in the foreground.
//!
//! Terminals, signals and exit codes are docker's. Not here: what a container
//! is (`container`).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::termios;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

use super::error::{CommandError, chain, code};
use super::run_image::{RunImageArgs, find_or_pull};
use super::ui;
use super::world::World;
use crate::container::{self, ContainerError, NetworkChoice, StartRequest, Wishes};
use crate::sandbox::Isolation;
use crate::sandbox::isolation::CHROOT_CONTAINER_WARNING;
use crate::sandbox::network::PublishedPort;
use crate::sandbox::{BindSource, Running, SandboxError, Stdio, TerminalSize, Volume};
use crate::sys::terminal::RawMode;

/// Run a command in a new container from an image.
#[derive(Debug, Args)]
#[command(
    override_usage = "rbuild run [OPTIONS] IMAGE [COMMAND] [ARG]...",
    after_help = "Examples:\n  rbuild run --rm flask\n  rbuild run -it debian:bookworm bash\n  \
        rbuild run --rm -p 5000:5000 -v \"$PWD\":/src:ro -w /src flask python3 app.py\n\n\
        The exit code is the command's own, 128 + n where signal n ended it, 127 where it was not found,\n\
        126 where it could not be executed, 125 where the container could not be started.\n\n\
    See also: rbuild images, rbuild build"
)]
pub struct RunArgs {
    /// Remove the container when it ends (this version always does: it has no command to start one again)
    #[arg(long)]
    pub rm: bool,
    /// Pass standard input on to the container
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Set an environment variable; without a value, take it from the environment
    #[arg(short, long = "env", value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,
    /// Bind a directory or file of this machine into the container
    #[arg(short, long = "volume", value_name = "HOST:CONTAINER[:ro]")]
    pub volumes: Vec<String>,
    /// The directory the command starts in
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// The user the command runs as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Run this program instead of the image's ENTRYPOINT
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// The container's network
    #[arg(long, value_name = "MODE", default_value = "default", value_parser = ["default", "none", "host"])]
    pub network: String,
    /// Let connections to a port of this machine reach one of the container
    #[arg(short, long = "publish", value_name = "[IP:]HOST:CONTAINER[/udp]")]
    pub ports: Vec<String>,
    #[command(flatten)]
    pub image: RunImageArgs,
    /// A name or id of an image, or the id of a build step; then the command and its arguments
    // One list: what follows the image is the container's, options too.
    #[arg(value_name = "IMAGE", required = true, trailing_var_arg = true)]
    pub image_and_command: Vec<String>,
}

/// Runs the command; the result is the exit code of the container.
pub fn run(world: &World, args: RunArgs) -> Result<u8, CommandError> {
    run_inner(world, args).map_err(|error| match error.code {
        code::FAILED | code::USAGE => error.code(code::RUN_FAILED),
        _ => error,
    })
}

fn run_inner(world: &World, args: RunArgs) -> Result<u8, CommandError> {
    let network = match args.network.as_str() {
        "none" => NetworkChoice::None,
        "host" => NetworkChoice::Host,
        _ => NetworkChoice::Default,
    };
    let mut ports = args.ports.iter().map(|port| parse_port(port)).collect::<Result<Vec<_>, _>>()?;
    if network != NetworkChoice::Default && !ports.is_empty() {
        ui::note(&format!("warning: published ports have no effect with --network {}\n", args.network));
        ports.clear();
    }
    let volumes = args.volumes.iter().map(|volume| parse_volume(volume)).collect::<Result<Vec<_>, _>>()?;
    if args.tty && args.interactive && !ui::in_is_terminal() {
        return Err(CommandError::usage("the input device is not a TTY")
            .hint("leave out -t where standard input is no terminal"));
    }
    let store = world.open_store()?;
    let Some((name, command)) = args.image_and_command.split_first() else {
        return Err(CommandError::usage("an image is needed"));
    };
    let (image, layers, config) = find_or_pull(world, &store, name, &args.image)?;
    let from_environment = |entry: &String| match entry.contains('=') {
        true => Some(entry.clone()),
        false => std::env::var(entry).ok().map(|value| format!("{entry}={value}")),
    };
    let wishes = Wishes {
        entrypoint: args.entrypoint.clone(),
        args: command.to_vec(),
        env: args.env.iter().filter_map(from_environment).collect(),
        workdir: args.workdir.clone(),
        user: args.user.clone(),
        terminal: args.tty,
    };
    let id = crate::image::SnapshotId::from_bits(crate::sys::atomic::random_bits()?);
    let (stdio, ours) =
        if args.tty { (Stdio::default(), Pipes::default()) } else { pipes(args.interactive)? };
    // Before the container runs: a signal in between must not end this process alone.
    let signals = signals()?;
    let mut container = container::start(StartRequest {
        store: &store,
        launcher: &world.launcher,
        networks: world.networks(),
        resolv_conf: &world.resolv_conf,
        layers: &layers,
        image,
        config: &config,
        wishes: &wishes,
        id: id.as_str(),
        network,
        ports: &ports,
        volumes,
        terminal: args.tty.then(terminal_size),
        stdio,
    })
    .map_err(start_error)?;
    if world.launcher.isolation() == Isolation::Chroot {
        ui::note(&format!("{CHROOT_CONTAINER_WARNING}\n"));
    } else if container.shares_network {
        ui::note(
            "warning: the container uses the network of this machine, for it can have none of its own; see `rbuild doctor`\n",
        );
    }
    let terminal = container.terminal.take();
    attend(&container.running, terminal, signals, ours, args.interactive)
}

fn start_error(error: ContainerError) -> CommandError {
    if let ContainerError::Sandbox(sandbox) = &error
        && let Some(exec) = sandbox.exec()
    {
        return CommandError::new(chain(sandbox)).code(exec.exit_code());
    }
    let message = chain(&error);
    let failed = CommandError::new(message).code(code::RUN_FAILED);
    match &error {
        ContainerError::Sandbox(sandbox) if sandbox.overlay_refused().is_some() => {
            failed.hint("`--snapshotter copy` mounts no overlay; `rbuild doctor` says what there is")
        }
        _ => failed,
    }
}

/// Our ends of a container's standard streams.
#[derive(Default)]
pub(super) struct Pipes {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

/// Makes the standard streams of what is started, and our ends of them.
pub(super) fn pipes(interactive: bool) -> io::Result<(Stdio, Pipes)> {
    let (stdout, their_stdout) = io::pipe()?;
    let (stderr, their_stderr) = io::pipe()?;
    let mut stdio =
        Stdio { stdin: None, stdout: Some(their_stdout.into()), stderr: Some(their_stderr.into()) };
    let mut ours = Pipes { stdin: None, stdout: Some(stdout.into()), stderr: Some(stderr.into()) };
    if interactive {
        let (their_stdin, stdin) = io::pipe()?;
        stdio.stdin = Some(their_stdin.into());
        ours.stdin = Some(stdin.into());
    }
    Ok((stdio, ours))
}

/// Makes what hears the signals that are passed on; to be called before anything is started.
pub(super) fn signals() -> io::Result<Signals> {
    Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH])
}

/// Moves bytes and signals until what runs has ended; returns its exit code.
pub(super) fn attend(
    running: &Running,
    terminal: Option<OwnedFd>,
    mut signals: Signals,
    pipes: Pipes,
    interactive: bool,
) -> Result<u8, CommandError> {
    let mut raw = None;
    let mut readers = Vec::new();
    if let Some(master) = &terminal {
        if interactive && ui::in_is_terminal() {
            raw = Some(RawMode::enter(io::stdin().as_fd())?);
        }
        readers.push(pass_on(master.try_clone()?, Box::new(io::stdout())));
        if interactive {
            let input = io::stdin().as_fd().try_clone_to_owned()?;
            pass_on(input, Box::new(File::from(master.try_clone()?)));
        }
    }
    if let Some(stdout) = pipes.stdout {
        readers.push(pass_on(stdout, Box::new(io::stdout())));
    }
    if let Some(stderr) = pipes.stderr {
        readers.push(pass_on(stderr, Box::new(io::stderr())));
    }
    if let Some(stdin) = pipes.stdin {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        pass_on(input, Box::new(File::from(stdin)));
    }
    let handle = signals.handle();
    let exit = std::thread::scope(|scope| {
        let stop = running.stop_handle();
        let master = terminal.as_ref();
        scope.spawn(move || {
            let mut asked = 0;
            for signal in signals.forever() {
                if signal == SIGWINCH {
                    if let Some(master) = master {
                        let _ = termios::tcsetwinsize(master, window_size());
                    }
                    continue;
                }
                let _ = running.signal(signal);
                asked += i32::from(matches!(signal, SIGINT | SIGTERM));
                // A first process may ignore signals; whoever asks three times means it.
                if asked >= 3
                    && let Ok(stop) = &stop
                {
                    let _ = stop.kill();
                }
            }
        });
        let exit = running.wait();
        handle.close();
        exit
    });
    drop(terminal);
    for reader in readers {
        let _ = reader.join();
    }
    drop(raw);
    let exit = exit.map_err(|error: SandboxError| CommandError::new(chain(&error)).code(code::RUN_FAILED))?;
    if exit == crate::sandbox::Exit::OutOfMemory {
        ui::note("error: the container was killed because memory ran out\n");
    }
    Ok(exit.code().clamp(0, 255) as u8)
}

/// Copies bytes on a thread of its own until either end is closed.
fn pass_on(from: OwnedFd, mut to: Box<dyn Write + Send>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut from = File::from(from);
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            match from.read(&mut buffer) {
                // A terminal whose other end is gone gives EIO.
                Ok(0) => return,
                Ok(n) => {
                    if to.write_all(&buffer[..n]).and_then(|()| to.flush()).is_err() {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    })
}

fn window_size() -> termios::Winsize {
    [io::stdout().as_fd(), io::stdin().as_fd()]
        .into_iter()
        .find_map(|fd| termios::tcgetwinsize(fd).ok())
        .unwrap_or(termios::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 })
}

fn terminal_size() -> TerminalSize {
    let size = window_size();
    TerminalSize { rows: size.ws_row, columns: size.ws_col }
}

/// Parses `[IP:]HOST:CONTAINER[/tcp|/udp]`.
fn parse_port(text: &str) -> Result<PublishedPort, CommandError> {
    let bad = |why: &str| {
        CommandError::usage(format!("bad port `{text}`: {why}"))
            .hint("a port is written [IP:]HOST:CONTAINER[/udp], as in 8080:80")
    };
    let (address, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp") {
        return Err(bad("the protocol is tcp or udp"));
    }
    let number = |port: &str| match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(bad("a port is a number from 1 to 65535")),
    };
    let parts: Vec<&str> = address.split(':').collect();
    let (host_address, host, container) = match parts[..] {
        [host, container] => ("0.0.0.0", host, container),
        [ip, host, container] => (ip, host, container),
        _ => return Err(bad("it needs a port of this machine and one of the container")),
    };
    if host_address.parse::<std::net::Ipv4Addr>().is_err() {
        return Err(bad("the address must be an IPv4 address"));
    }
    Ok(PublishedPort {
        host_address: host_address.to_owned(),
        host_port: number(host)?,
        container_port: number(container)?,
        protocol: protocol.to_owned(),
    })
}

/// Parses `HOST:CONTAINER[:ro|rw]`; a missing directory of the host is made, as docker does.
fn parse_volume(text: &str) -> Result<Volume, CommandError> {
    let bad = |why: String| {
        CommandError::usage(format!("bad volume `{text}`: {why}"))
            .hint("a volume is written HOST:CONTAINER[:ro]")
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (host, target, read_only) = match parts[..] {
        [host, target] | [host, target, "rw"] => (host, target, false),
        [host, target, "ro"] => (host, target, true),
        [_, _, mode] => return Err(bad(format!("the mode `{mode}` is not ro or rw"))),
        _ => return Err(bad("it needs a path of this machine and a path in the container".to_owned())),
    };
    if !host.contains('/') && host != "." && host != ".." {
        return Err(bad(
            "named volumes are not supported by this version; a directory is written with a slash".to_owned(),
        ));
    }
    if !target.starts_with('/') || target.trim_matches('/').is_empty() {
        return Err(bad("the path in the container must be absolute and not /".to_owned()));
    }
    let host = std::path::absolute(Path::new(host)).map_err(|e| bad(e.to_string()))?;
    if !host.exists() {
        std::fs::create_dir_all(&host).map_err(|e| bad(format!("cannot make `{}`: {e}", host.display())))?;
    }
    Ok(Volume { source: BindSource::Path(host), target: PathBuf::from(target), read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_checked() {
        let port = parse_port("127.0.0.1:8080:80/udp").unwrap();
        assert_eq!(
            (port.host_address.as_str(), port.host_port, port.container_port),
            ("127.0.0.1", 8080, 80)
        );
        assert_eq!(parse_port("8080:80").unwrap().host_address, "0.0.0.0");
        for bad in ["80", "a:b", "0:80", "70000:80", "x:1:2", "1:2/sctp", ""] {
            assert!(parse_port(bad).is_err(), "{bad}");
        }
    }
}
