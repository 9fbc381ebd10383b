//! What the screen shows of a state: pure, from state, width and height to lines.
//!
//! What stays ([`kept`]) goes above; what changes ([`live`]) is drawn anew many times a second and never
//! takes more than the screen has. Not here: controls that move the cursor (`paint`).

use std::time::Duration;

use super::super::line::{Ink, Line};
use super::super::{Step, Transfer};
use super::model::{Counts, End, Kept, Model, Moving, Running};
use super::tail::without_colours;

/// The most lines of one step's output.
const MOST_TAIL: usize = 6;
/// Narrower screens get the shorter form of everything.
const NARROW: usize = 48;

/// What a screen can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    pub colour: bool,
    pub signs: Signs,
}

/// The signs in front of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signs {
    Unicode,
    Ascii,
}

impl Signs {
    fn done(self) -> &'static str {
        if self == Signs::Unicode { "✓" } else { "+" }
    }

    fn failed(self) -> &'static str {
        if self == Signs::Unicode { "✗" } else { "x" }
    }

    /// Returns what stands for what was cut off.
    pub fn more(self) -> char {
        if self == Signs::Unicode { '…' } else { '~' }
    }
}

/// The size of a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub columns: usize,
    pub rows: usize,
}

/// Draws what stays on the screen as lines of a width; text is not cut.
pub fn kept(kept: &Kept, width: usize, style: Style) -> Vec<String> {
    let (step, end, took, why) = match kept {
        Kept::Text(text) => {
            let text = if style.colour { text.clone() } else { without_colours(text) };
            let reset =
                |line: &str| if line.contains('\x1b') { format!("{line}\x1b[0m") } else { line.into() };
            return text.lines().map(reset).collect();
        }
        Kept::Step { step, end, took, why } => (step, end, took, why),
    };
    let (ink, sign, text) = match end {
        End::Done => (Ink::Good, style.signs.done(), Ink::Plain),
        End::Cached { .. } => (Ink::Dim, "=", Ink::Dim),
        End::Failed => (Ink::Bad, style.signs.failed(), Ink::Bold),
        End::Stopped => (Ink::Dim, "-", Ink::Plain),
    };
    let right = match (end, took) {
        (End::Cached { from: Some(from) }, _) => format!("cached by {from}"),
        (End::Cached { from: None }, _) => "cached".to_owned(),
        (End::Stopped, _) => "stopped".to_owned(),
        (_, Some(took)) => seconds(*took),
        (_, None) => String::new(),
    };
    let line = Line::new().with(ink, sign).with(text, &format!(" {}", name(step)));
    let mut lines = vec![shown(with_right(line, &right, width, style.signs), style)];
    lines.extend(why.as_ref().map(|why| shown(reason(why, width, style.signs), style)));
    lines
}

/// Draws why a step was not cached, below it.
fn reason(why: &str, width: usize, signs: Signs) -> Line {
    let indent = if width < NARROW { " " } else { "   " };
    let text = if width < NARROW { why.to_owned() } else { format!("not cached: {why}") };
    Line::new().with(Ink::Plain, indent).with(Ink::Dim, &text).cut(width, signs.more())
}

/// Draws what changes.
pub fn live(model: &Model, now: Duration, size: Size, style: Style) -> Vec<Line> {
    // The cursor's own line is the last one.
    let rows = size.rows.saturating_sub(1).max(1);
    let width = size.columns.saturating_sub(1).max(1);
    let mut lines = Vec::new();
    let status = status(model, now, width, style.signs);
    let mut left = rows.saturating_sub(1);

    let moving: Vec<Vec<Line>> =
        model.transfers.iter().map(|(of, parts)| transfers(of, parts, now, width, style.signs)).collect();
    let running: Vec<&Running> = model.running.values().filter(|running| running.ended.is_none()).collect();
    // Each gets its own line first; the rest is shared.
    let mut shown = running.len().min(left);
    let mut hidden = running.len() - shown;
    if hidden > 0 && shown > 0 {
        (shown, hidden) = (shown - 1, hidden + 1);
    }
    left = left.saturating_sub(shown + usize::from(hidden > 0));
    let groups = moving.iter().filter(|group| !group.is_empty()).count();
    let for_moving = left.min(moving.iter().map(Vec::len).sum());
    let for_tails = left - for_moving;
    let each = for_tails.checked_div(shown).unwrap_or(0).min(MOST_TAIL);
    for running in &running[..shown] {
        lines.push(step(running, now, width, style.signs));
        let indent = if width < NARROW { " " } else { "   " };
        let why = running.why.as_ref().filter(|_| each > 0);
        lines.extend(why.map(|why| reason(why, width, style.signs)));
        let each = each - usize::from(why.is_some());
        let told = match &running.waits {
            Some(what) => vec![format!("waits {what}")],
            None => running.tail.last_lines(each),
        };
        for text in told.into_iter().take(each) {
            let line = Line::new().with(Ink::Plain, indent).with(Ink::Dim, &text);
            lines.push(line.cut(width, style.signs.more()));
        }
    }
    if hidden > 0 && rows > 1 {
        let more = if shown > 0 { "more steps" } else { "steps" };
        lines.push(Line::new().with(Ink::Dim, &format!("  {hidden} {more}")).cut(width, style.signs.more()));
    }
    let mut room = for_moving;
    for (at, group) in moving.iter().filter(|group| !group.is_empty()).enumerate() {
        // Those that come later are to have their first line, too.
        let most = room.saturating_sub(groups - at - 1).min(group.len());
        lines.extend_from_slice(&group[..most]);
        room -= most;
    }
    lines.push(status);
    lines
}

/// Draws a step at work.
fn step(running: &Running, now: Duration, width: usize, signs: Signs) -> Line {
    let line = Line::new().with(Ink::Busy, ">").with(Ink::Plain, &format!(" {}", name(&running.step)));
    let time = seconds(now.saturating_sub(running.since));
    let time = match running.silent_since {
        Some(since) if width >= NARROW => {
            format!("no output for {}  {time}", seconds(now.saturating_sub(since)))
        }
        _ => time,
    };
    with_right(line, &time, width, signs)
}

fn name(step: &Step) -> String {
    let number = format!("{}/{}", step.number, step.total);
    let text = on_one_line(&step.text);
    match &step.stage {
        Some(stage) => format!("[{stage}] {number} {text}"),
        None => format!("{number} {text}"),
    }
}

/// Leaves one space of several: room is dear, and lines that go on are indented.
fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Draws a transfer: what it is, and its parts that are not complete.
fn transfers(of: &str, parts: &[Moving], now: Duration, width: usize, signs: Signs) -> Vec<Line> {
    let moving: Vec<&Moving> = parts.iter().filter(|part| !part.transfer.ended).collect();
    let (done, total) = parts.iter().fold((0u64, 0u64), |(done, total), part| {
        let of = part.transfer.total;
        (done.saturating_add(part.transfer.done), total.saturating_add(of))
    });
    let rate = moving.iter().map(|part| part.rate(now)).sum();
    let head = Line::new().with(Ink::Busy, ">").with(Ink::Plain, &format!(" {of}"));
    let mut lines = vec![with_right(head, &progress(done, total, rate), width, signs)];
    // Of one part all is said.
    if parts.len() > 1 {
        lines.extend(moving.iter().map(|part| bar(&part.transfer, part.rate(now), width, signs)));
    }
    lines
}

fn bar(transfer: &Transfer, rate: u64, width: usize, signs: Signs) -> Line {
    const BAR: u64 = 20;
    let line = Line::new().with(Ink::Plain, "   ").with(Ink::Dim, &transfer.part);
    let line = match transfer.total {
        0 => line,
        _ if width < 2 * NARROW - 24 => line,
        total => {
            let done = (u128::from(transfer.done.min(total)) * u128::from(BAR) / u128::from(total)) as usize;
            let arrow = if done < BAR as usize { ">" } else { "" };
            let text = format!(" [{:<20}]", "=".repeat(done) + arrow);
            line.with(Ink::Plain, &text)
        }
    };
    with_right(line, &progress(transfer.done, transfer.total, rate), width, signs)
}

/// Says how far a transfer is: `12.3MB/40MB 5.1MB/s`.
fn progress(done: u64, total: u64, rate: u64) -> String {
    // Of some nothing is known but that it goes on.
    if done == 0 && total == 0 {
        return String::new();
    }
    let total = if total > 0 { format!("/{}", bytes(total)) } else { String::new() };
    let rate = if rate > 0 { format!(" {}/s", bytes(rate)) } else { String::new() };
    format!("{}{total}{rate}", bytes(done))
}

/// Draws the last line: time and counts; what has no room is left out.
fn status(model: &Model, now: Duration, width: usize, signs: Signs) -> Line {
    let time = seconds(now);
    let mut words = Vec::new();
    if model.is_planned() {
        let Counts { steps, done, cached, running, stages, stages_done, .. } = model.counts();
        words.push(format!("{done}/{steps} steps done"));
        words.push(format!("{cached} cached"));
        words.push(format!("{running} running"));
        words.push(format!("{} to do", steps.saturating_sub(done + running)));
        if stages > 1 {
            words.push(format!("{stages_done}/{stages} stages"));
        }
    } else if model.transfers.is_empty() {
        words.push("preparing".to_owned());
    }
    let comma = if width < NARROW { " " } else { ", " };
    let mut text = String::new();
    for mut word in words {
        if width < NARROW {
            word = word.replace(" steps done", "");
        }
        let longer = if text.is_empty() { word } else { format!("{text}{comma}{word}") };
        if time.len() + 2 + longer.len() > width {
            break;
        }
        text = longer;
    }
    Line::new().with(Ink::Bold, &time).with(Ink::Plain, &format!("  {text}")).cut(width, signs.more())
}

/// Puts times and sizes at the right end; a narrow line keeps them as far as there is room for a few letters.
fn with_right(line: Line, right: &str, width: usize, signs: Signs) -> Line {
    let right = Line::new().with(Ink::Dim, right);
    if right.width() == 0 || right.width() + 10 > width {
        return line.cut(width, signs.more());
    }
    line.with_right(right, width, signs.more())
}

fn shown(line: Line, style: Style) -> String {
    if style.colour { line.painted() } else { line.text() }
}

/// Shows a time: `0.4s`, `12.3s`, `3m05s`, `2h03m`.
pub fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    match whole {
        0..60 => format!("{}.{}s", whole, time.subsec_millis() / 100),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
    }
}

/// Shows bytes: `512B`, `1.2kB`, `40.5MB`.
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.95 && unit + 1 < units.len() {
        (value, unit) = (value / 1000.0, unit + 1);
    }
    if unit == 0 { format!("{bytes}B") } else { format!("{value:.1}{}", units[unit]) }
}
