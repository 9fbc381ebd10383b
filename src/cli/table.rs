//! Columns of text, aligned as docker's tables are: three blanks between them.

/// Lays out the rows of a listing command: no column is narrower than ten.
pub fn listing(rows: &[Vec<String>]) -> String {
    aligned(rows, 10)
}

/// Lays out rows of a table whose columns are at least twenty wide, as docker's of processes.
pub fn wide(rows: &[Vec<String>]) -> String {
    aligned(rows, 20)
}

/// Lays out rows; the first is the header. The last column is not padded.
pub fn layout(rows: &[Vec<String>]) -> String {
    aligned(rows, 0)
}

fn aligned(rows: &[Vec<String>], least: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(|column| (width(column) + 3).max(least)).collect();
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < row.len() {
                out.push_str(&" ".repeat(widths[column] - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        assert_eq!(layout(&[row("ID", "SIZE"), row("longer", "1B")]), "ID       SIZE\nlonger   1B\n");
        assert_eq!(listing(&[row("ID", "SIZE"), row("longer", "1B")]), "ID        SIZE\nlonger    1B\n");
        let wide = [row("ID", "SIZE"), row("longer text", "1B")];
        assert_eq!(listing(&wide), "ID            SIZE\nlonger text   1B\n");
        assert_eq!(layout(&[]), "");
    }
}
