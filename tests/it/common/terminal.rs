//! A small terminal: bytes in, a screen with what scrolled off it out.
//!
//! Knows the few controls that the terminal view uses, and panics at any other. A line that is wrapped is
//! wrapped anew when the width changes, as terminals of today do. Uses nothing of rbuild.

#![allow(dead_code)]

use unicode_width::UnicodeWidthChar;

/// A row of cells; what follows a wide character is empty.
#[derive(Debug, Clone, Default)]
struct Row {
    cells: Vec<String>,
    /// Whether the next row goes on with the same line.
    wrapped: bool,
}

/// The terminal.
pub struct Terminal {
    columns: usize,
    height: usize,
    /// All rows, with those that scrolled off.
    rows: Vec<Row>,
    /// The cursor: a row of all, and a column; one past the last where the next character wraps.
    row: usize,
    column: usize,
    colours: usize,
    /// Bytes of a character or control that is not complete.
    pending: Vec<u8>,
}

impl Terminal {
    pub fn new(columns: usize, height: usize) -> Terminal {
        let rows = vec![Row::default()];
        Terminal { columns, height, rows, row: 0, column: 0, colours: 0, pending: Vec::new() }
    }

    /// Returns all lines, rows that were wrapped put together, without spaces at ends and empty lines
    /// below the last.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut goes_on = false;
        for row in &self.rows {
            let text = row.cells.concat();
            match lines.last_mut().filter(|_| goes_on) {
                Some(line) => line.push_str(&text),
                None => lines.push(text),
            }
            goes_on = row.wrapped;
        }
        lines.iter_mut().for_each(|line| line.truncate(line.trim_end().len()));
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    }

    /// Returns the rows that are on the screen.
    pub fn screen(&self) -> Vec<String> {
        let rows = self.rows[self.top()..].iter();
        rows.map(|row| row.cells.concat().trim_end().to_owned()).collect()
    }

    /// Returns where the cursor is, as row of the screen and column.
    pub fn cursor(&self) -> (usize, usize) {
        (self.row - self.top(), self.column)
    }

    /// Returns how often a colour was chosen.
    pub fn colours(&self) -> usize {
        self.colours
    }

    /// Gives it another size.
    pub fn resize(&mut self, columns: usize, height: usize) {
        let (mut rows, mut cursor) = (Vec::new(), (0, 0));
        let mut at = 0;
        while at < self.rows.len() {
            let mut cells = Vec::new();
            let start = rows.len();
            let mut cursor_cell = None;
            loop {
                if at == self.row {
                    cursor_cell = Some(cells.len() + self.column);
                }
                cells.extend(self.rows[at].cells.iter().cloned());
                at += 1;
                if at == self.rows.len() || !self.rows[at - 1].wrapped {
                    break;
                }
            }
            let mut row = Row::default();
            for cell in cells {
                let wide =
                    !cell.is_empty() && cell.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>() > 1;
                if row.cells.len() + usize::from(wide) >= columns {
                    row.wrapped = true;
                    rows.push(std::mem::take(&mut row));
                }
                row.cells.push(cell);
            }
            rows.push(row);
            if let Some(cell) = cursor_cell {
                cursor = ((start + cell / columns).min(rows.len() - 1), cell % columns);
            }
        }
        self.rows = rows;
        (self.row, self.column) = cursor;
        (self.columns, self.height) = (columns, height);
    }

    /// Takes what a program wrote.
    pub fn write(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.pending);
        let (text, rest) = match std::str::from_utf8(&bytes) {
            Ok(text) => (text, &[][..]),
            Err(error) if error.error_len().is_none() => {
                let (good, rest) = bytes.split_at(error.valid_up_to());
                (std::str::from_utf8(good).unwrap(), rest)
            }
            Err(error) => panic!("no UTF-8: {error}"),
        };
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => self.down(),
                '\x1b' => {
                    let after = &text[at + 1..];
                    let end = after.find(|c: char| c.is_ascii_alphabetic());
                    let Some(end) = end else {
                        self.pending = text.as_bytes()[at..].to_vec();
                        break;
                    };
                    self.control(&after[..=end]);
                    chars.by_ref().take(end + 1).for_each(|_| ());
                }
                c => self.put(c),
            }
        }
        self.pending.extend_from_slice(rest);
    }

    fn top(&self) -> usize {
        self.rows.len().saturating_sub(self.height)
    }

    fn down(&mut self) {
        self.row += 1;
        if self.row == self.rows.len() {
            self.rows.push(Row::default());
        }
    }

    fn put(&mut self, c: char) {
        assert!(!c.is_control(), "a control reached the terminal: {c:?}");
        let width = c.width().unwrap_or(0);
        if width == 0 {
            let cells = &mut self.rows[self.row].cells;
            if let Some(cell) = cells.iter_mut().take(self.column).rev().find(|cell| !cell.is_empty()) {
                cell.push(c);
            }
            return;
        }
        if self.column + width > self.columns {
            self.rows[self.row].wrapped = true;
            self.down();
            self.column = 0;
        }
        let cells = &mut self.rows[self.row].cells;
        if cells.len() < self.column {
            cells.resize(self.column, " ".to_owned());
        }
        cells.truncate(cells.len().max(self.column));
        for (offset, text) in [(0, c.to_string()), (1, String::new())].into_iter().take(width) {
            match cells.get_mut(self.column + offset) {
                Some(cell) => *cell = text,
                None => cells.push(text),
            }
        }
        self.column += width;
    }

    fn control(&mut self, text: &str) {
        let number = || text[1..text.len() - 1].parse::<usize>().unwrap_or(1);
        match (text.as_bytes()[0], text.as_bytes()[text.len() - 1]) {
            (b'[', b'A') => self.row = self.row.saturating_sub(number()).max(self.top()),
            (b'[', b'K') if text == "[K" => self.erase_line(),
            (b'[', b'J') if text == "[J" => {
                self.erase_line();
                self.rows[self.row + 1..].iter_mut().for_each(|row| *row = Row::default());
            }
            (b'[', b'm') => self.colours += 1,
            _ => panic!("a control that the view must not use: {text:?}"),
        }
    }

    fn erase_line(&mut self) {
        let row = &mut self.rows[self.row];
        row.cells.truncate(self.column);
        row.wrapped = false;
    }
}
