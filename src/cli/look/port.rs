//! `rbuild port`: where a container's ports are published.

use clap::Args;

use crate::cli::error::CommandError;
use crate::cli::ui;
use crate::cli::world::World;

/// Show where the ports of a container are published.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild port web\n  rbuild port web 80\n  rbuild port web 53/udp\n\n\
    See also: rbuild ps, rbuild run")]
pub struct PortArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Only this port of the container
    #[arg(value_name = "PORT[/PROTOCOL]")]
    pub port: Option<String>,
}

/// Runs the command.
pub fn port(world: &World, args: PortArgs) -> Result<(), CommandError> {
    let store = world.open_store()?;
    let seen = super::find(&store, &args.container)?;
    let wanted = args.port.as_deref().map(|text| text.split_once('/').unwrap_or((text, "tcp")));
    if let Some((number, protocol)) = wanted
        && (number.parse::<u16>().is_err() || protocol.is_empty())
    {
        return Err(CommandError::usage(format!("bad port `{number}/{protocol}`"))
            .hint("a port is written PORT or PORT/PROTOCOL, as `53/udp`"));
    }
    let mut ports = seen.ports();
    ports.sort();
    let mut text = String::new();
    for port in ports {
        let Some((address, outside)) = port.outside else { continue };
        // An address of IPv6 is told from its port by brackets.
        let host = if address.contains(':') {
            format!("[{address}]:{outside}")
        } else {
            format!("{address}:{outside}")
        };
        match wanted {
            None => text.push_str(&format!("{}/{} -> {host}\n", port.inside, port.protocol)),
            Some((number, protocol)) if number.parse() == Ok(port.inside) && protocol == port.protocol => {
                text.push_str(&format!("{host}\n"));
            }
            Some(_) => {}
        }
    }
    match wanted {
        Some((number, protocol)) if text.is_empty() => {
            let said = format!("No public port '{number}/{protocol}' published for {}", args.container);
            Err(CommandError::new(said))
        }
        _ => {
            ui::out(&text);
            Ok(())
        }
    }
}
