//! Lines to the bytes that draw them over what was drawn before.
//!
//! Moves the cursor up over its own lines and nowhere else; changes no mode of the terminal, so that it is
//! as it was whenever this ends, however it ends. Not here: which lines, when.

use super::super::line::Line;
use crate::report::view::draw::{Size, Style};

/// Knows what is on the screen of what changes.
#[derive(Debug, Default)]
pub struct Painter {
    /// The lines drawn last.
    drawn: Vec<Line>,
}

impl Painter {
    /// Returns the bytes that put `kept` above and `live` in place of what was drawn last; nothing where
    /// nothing changed. `size` is the screen's now.
    ///
    /// A terminal that became narrower has wrapped what was drawn: its lines are counted as it shows them.
    pub fn frame(&mut self, kept: &[String], live: Vec<Line>, size: Size, style: Style) -> Vec<u8> {
        if kept.is_empty() && live == self.drawn {
            return Vec::new();
        }
        let columns = size.columns.max(1);
        let rows: usize = self.drawn.iter().map(|line| line.rows(columns)).sum();
        let mut out = String::from("\r");
        // Above the first row there is nothing of ours that could still be changed.
        let up = rows.min(size.rows.saturating_sub(1));
        if up > 0 {
            out.push_str(&format!("\x1b[{up}A"));
        }
        if !kept.is_empty() {
            out.push_str("\x1b[J");
        }
        for line in kept {
            out.push_str(line);
            out.push_str("\r\n");
        }
        for line in &live {
            if style.colour {
                out.push_str(&line.painted());
            } else {
                out.push_str(&line.text());
            }
            out.push_str("\x1b[K\r\n");
        }
        out.push_str("\x1b[J");
        self.drawn = live;
        out.into_bytes()
    }
}
