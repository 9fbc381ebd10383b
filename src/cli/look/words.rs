//! What people read of a container: its status, its command, its ports, in docker's words.
//!
//! Pure. Not here: what a state is (`container`).

use jiff::Timestamp;

use crate::cli::units;
use crate::container::{State, Status};

/// Returns docker's word for a state, as `ps` filters by it.
pub fn state(state: &State) -> &'static str {
    match state.status {
        Status::Created => "created",
        Status::Running => "running",
        Status::Paused => "paused",
        Status::Restarting => "restarting",
        Status::Exited => "exited",
    }
}

/// Returns the STATUS of a container: `Up 5 seconds (healthy)`, `Exited (127) 2 minutes ago`.
///
/// `health`: docker's word for it, where the container has a check.
pub fn status(state: &State, health: Option<&str>, now: Timestamp) -> String {
    let since = |time: Option<Timestamp>| {
        let seconds = time.map_or(0, |time| now.duration_since(time).as_secs());
        units::duration(seconds.max(0))
    };
    match (state.status, health) {
        (Status::Created, _) => "Created".to_owned(),
        (Status::Running, None) => format!("Up {}", since(state.started)),
        (Status::Running, Some("starting")) => format!("Up {} (health: starting)", since(state.started)),
        (Status::Running, Some(health)) => format!("Up {} ({health})", since(state.started)),
        (Status::Paused, _) => format!("Up {} (Paused)", since(state.started)),
        (Status::Restarting, _) => {
            format!("Restarting ({}) {} ago", state.exit_code, since(state.finished))
        }
        // Nobody was there to note when.
        (Status::Exited, _) if state.finished.is_none() || state.finished < state.started => {
            format!("Exited ({}), supervisor killed", state.exit_code)
        }
        (Status::Exited, _) => format!("Exited ({}) {} ago", state.exit_code, since(state.finished)),
    }
}

/// How many characters of a command a table has.
const COMMAND: usize = 20;

/// Returns the COMMAND of a container, in quotes; cut where it is not wanted whole.
pub fn command(args: &[String], whole: bool) -> String {
    let quoted = |arg: &String| if arg.contains(' ') { format!("'{arg}'") } else { arg.clone() };
    let mut words = Vec::with_capacity(args.len());
    words.extend(args.first().cloned());
    words.extend(args.iter().skip(1).map(quoted));
    let text = words.join(" ");
    go_quoted(&if whole { text } else { cut(&text, COMMAND) })
}

/// Cuts a text that has more characters, and shows that.
pub fn cut(text: &str, most: usize) -> String {
    match text.chars().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// Quotes as Go's `strconv.Quote` does.
fn go_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 || c == '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A port of a container, and where it is published.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub inside: u16,
    /// Address and port of the host; `None` where it is exposed alone.
    pub outside: Option<(String, u16)>,
    pub protocol: String,
}

/// Returns the PORTS of a container: `127.0.0.1:8080->80/tcp, 443/tcp`. Neighbours that lead to the same
/// numbers are one range.
pub fn ports(mut ports: Vec<Port>) -> String {
    ports.sort();
    let mut groups: Vec<((Option<String>, String), u16, u16)> = Vec::new();
    let (mut shown, mut others) = (Vec::new(), Vec::new());
    for port in ports {
        let address = match port.outside {
            Some((address, outside)) if outside != port.inside => {
                others.push(format!("{address}:{outside}->{}/{}", port.inside, port.protocol));
                continue;
            }
            outside => outside.map(|(address, _)| address),
        };
        let key = (address, port.protocol);
        match groups.iter_mut().find(|group| group.0 == key) {
            None => groups.push((key, port.inside, port.inside)),
            Some(group) if group.2.checked_add(1) == Some(port.inside) => group.2 = port.inside,
            Some(group) => {
                shown.push(range(&group.0, group.1, group.2));
                (group.1, group.2) = (port.inside, port.inside);
            }
        }
    }
    shown.extend(groups.iter().map(|(key, first, last)| range(key, *first, *last)));
    shown.append(&mut others);
    shown.join(", ")
}

fn range((address, protocol): &(Option<String>, String), first: u16, last: u16) -> String {
    let numbers = if first == last { first.to_string() } else { format!("{first}-{last}") };
    match address {
        Some(address) => format!("{address}:{numbers}->{numbers}/{protocol}"),
        None => format!("{numbers}/{protocol}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_worded_as_docker_words_them() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let ago = |seconds: i64| Timestamp::from_second(now.as_second() - seconds).ok();
        let check = |status_: Status, started, finished, code, health, expect: &str| {
            let state = State { status: status_, started, finished, exit_code: code, ..State::default() };
            assert_eq!(status(&state, health, now), expect);
        };
        use Status::*;
        check(Created, None, None, 0, None, "Created");
        check(Running, ago(5), None, 0, None, "Up 5 seconds");
        check(Running, ago(0), None, 0, None, "Up Less than a second");
        check(Running, ago(130), ago(200), 0, Some("healthy"), "Up 2 minutes (healthy)");
        check(Running, ago(130), None, 0, Some("unhealthy"), "Up 2 minutes (unhealthy)");
        check(Running, ago(7200), None, 0, Some("starting"), "Up 2 hours (health: starting)");
        check(Running, ago(-9), None, 0, None, "Up Less than a second");
        check(Paused, ago(130), None, 0, Some("healthy"), "Up 2 minutes (Paused)");
        check(Restarting, ago(9), ago(3), 1, None, "Restarting (1) 3 seconds ago");
        check(Exited, ago(190), ago(125), 127, None, "Exited (127) 2 minutes ago");
        check(Exited, ago(190), ago(125), 0, Some("healthy"), "Exited (0) 2 minutes ago");
        check(Exited, ago(90000), ago(86400), 0, None, "Exited (0) 24 hours ago");
        check(Exited, ago(9), None, 137, None, "Exited (137), supervisor killed");
        check(Exited, ago(9), ago(20), 137, None, "Exited (137), supervisor killed");
    }

    #[test]
    fn commands_are_cut_and_quoted() {
        let check = |args: &[&str], whole, expect: &str| {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            assert_eq!(command(&args, whole), expect);
        };
        check(&["sh"], false, "\"sh\"");
        check(&["/bin/sh", "-c", "echo hi there"], true, "\"/bin/sh -c 'echo hi there'\"");
        check(&["/bin/sh", "-c", "echo hi there"], false, "\"/bin/sh -c 'echo hi…\"");
        check(&["12345678901234567890"], false, "\"12345678901234567890\"");
        check(&["123456789012345678901"], false, "\"1234567890123456789…\"");
        check(&["a\"b", "c\n\x1b[2J\u{85}"], true, "\"a\\\"b c\\n\\x1b[2J\\u0085\"");
        check(
            &["漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢"],
            false,
            "\"漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢漢…\"",
        );
        check(&[], false, "\"\"");
    }

    #[test]
    fn ports_are_worded_as_docker_words_them() {
        type Given<'a> = (u16, Option<(&'a str, u16)>, &'a str);
        let check = |list: &[Given<'_>], expect: &str| {
            let list = list.iter().map(|(inside, outside, protocol)| Port {
                inside: *inside,
                outside: outside.map(|(address, port)| (address.to_owned(), port)),
                protocol: (*protocol).to_owned(),
            });
            assert_eq!(ports(list.collect()), expect);
        };
        check(&[], "");
        check(
            &[(5000, Some(("0.0.0.0", 32769)), "tcp"), (5000, Some(("::", 32769)), "tcp")],
            "0.0.0.0:32769->5000/tcp, :::32769->5000/tcp",
        );
        check(
            &[(443, None, "tcp"), (80, Some(("127.0.0.1", 8080)), "tcp")],
            "443/tcp, 127.0.0.1:8080->80/tcp",
        );
        check(&[(53, None, "udp"), (53, None, "tcp")], "53/tcp, 53/udp");
        check(
            &[(80, None, "tcp"), (81, None, "tcp"), (82, None, "tcp"), (90, None, "tcp")],
            "80-82/tcp, 90/tcp",
        );
        check(
            &[(8001, Some(("0.0.0.0", 8001)), "tcp"), (8000, Some(("0.0.0.0", 8000)), "tcp")],
            "0.0.0.0:8000-8001->8000-8001/tcp",
        );
        check(&[(65535, None, "tcp"), (65534, None, "tcp")], "65534-65535/tcp");
    }
}
