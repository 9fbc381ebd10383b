//! A graph as SVG: a box for each piece of work, in a column for each stage, lines for what it reads.
//!
//! Not here: where boxes and lines go (`layered`).

use std::fmt::Write as _;

use super::layered::{Placed, Plan, place};
use super::text::{escape, fit};

/// A graph to draw.
#[derive(Debug, Default)]
pub struct Picture {
    /// What it is, for who does not see it.
    pub title: String,
    /// The names of the columns, from the left.
    pub groups: Vec<String>,
    pub nodes: Vec<Node>,
    pub links: Vec<Link>,
}

/// A box.
#[derive(Debug, Default)]
pub struct Node {
    /// The place in [`Picture::groups`].
    pub group: usize,
    /// The instruction; what is too long is cut, and whole in the tooltip.
    pub text: String,
    /// A second line.
    pub detail: String,
    pub look: Look,
}

/// What a box looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Look {
    #[default]
    Plain,
    /// Files from outside.
    Source,
    Cached,
    Failed,
    /// It was not done, or not to its end.
    Faint,
}

/// A line from one box down to another.
#[derive(Debug)]
pub struct Link {
    pub from: usize,
    pub to: usize,
    /// What is read: `base`, `source`, ...
    pub kind: String,
}

const BOX_WIDTH: usize = 272;
const BOX_HEIGHT: usize = 46;
/// Between the boxes of a row.
const GAP: usize = 20;
/// Between rows: lines run sideways there.
const ROW_GAP: usize = 40;
/// Between two lines that run down beside a column.
const CHANNEL: usize = 12;
/// Round a column.
const MARGIN: usize = 14;
/// Above a column's boxes: its name.
const HEAD: usize = 30;
/// How many columns of text a box has.
const TEXT_COLUMNS: usize = 33;

/// The style of a drawing, for the page it is in.
pub const STYLE: &str = "\
.graph{--g-ground:#fff;--g-text:#1b1f24;--g-faint:#57606a;--g-line:#6e7781;--g-box:#fff;--g-edge:#8c959f;--g-column:#f1f3f5;\
--g-source:#ddf0ff;--g-source-edge:#2f6fab;--g-cached:#dcf5e1;--g-cached-edge:#1f7a37;--g-failed:#ffe3e0;\
--g-failed-edge:#b3261e}\
@media(prefers-color-scheme:dark){.graph{--g-ground:#0d1117;--g-text:#e6edf3;--g-faint:#9aa4af;--g-line:#8b949e;--g-box:#1c2229;\
--g-edge:#6e7681;--g-column:#151a20;--g-source:#12304a;--g-source-edge:#6cb0ee;--g-cached:#12351f;\
--g-cached-edge:#56c271;--g-failed:#4a1613;--g-failed-edge:#ff8a80}}\
.graph text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:var(--g-text)}\
.graph .detail{fill:var(--g-faint);font-size:11px}\
.graph .name{font-weight:bold}\
.graph .ground{fill:var(--g-ground)}\
.graph .column{fill:var(--g-column)}\
.graph rect.box{fill:var(--g-box);stroke:var(--g-edge);stroke-width:1.2}\
.graph .source rect.box{fill:var(--g-source);stroke:var(--g-source-edge)}\
.graph .cached rect.box{fill:var(--g-cached);stroke:var(--g-cached-edge)}\
.graph .failed rect.box{fill:var(--g-failed);stroke:var(--g-failed-edge);stroke-width:2}\
.graph .faint rect.box{stroke-dasharray:4 3}\
.graph path{fill:none;stroke:var(--g-line);stroke-width:1.5}\
.graph path.source{stroke-dasharray:6 4}\
.graph path.mount{stroke-dasharray:2 3}\
.graph .tip{fill:var(--g-line);stroke:none}";

/// Draws a graph as a file of its own.
pub fn svg(picture: &Picture) -> String {
    let style = format!("<style>{STYLE}</style><rect class=\"ground\" width=\"100%\" height=\"100%\"/>");
    let drawn = draw(picture, " xmlns=\"http://www.w3.org/2000/svg\"", &style);
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{drawn}\n")
}

/// Draws a graph for a page that has [`STYLE`].
pub fn inline(picture: &Picture) -> String {
    draw(picture, "", "")
}

/// Where columns and rows are, in units of the drawing.
struct Grid {
    /// The left edge of each column, its margin included.
    columns: Vec<usize>,
    widths: Vec<usize>,
    placed: Placed,
    width: usize,
    height: usize,
}

impl Grid {
    fn new(picture: &Picture) -> Grid {
        let plan = Plan {
            groups: picture.nodes.iter().map(|node| node.group).collect(),
            lines: picture.links.iter().map(|link| (link.from, link.to)).collect(),
        };
        let placed = place(&plan);
        let (mut columns, mut widths) = (Vec::new(), Vec::new());
        let mut x = MARGIN;
        for (slots, channels) in placed.widths.iter().zip(&placed.channels) {
            columns.push(x);
            let width = match slots {
                0 => 0,
                slots => slots * BOX_WIDTH + (slots - 1) * GAP + 2 * MARGIN,
            };
            widths.push(width);
            x += width + if width > 0 { GAP + channels * CHANNEL } else { 0 };
        }
        let rows = placed.rows.iter().max().map_or(0, |most| most + 1);
        let height = 3 * MARGIN + HEAD + (rows * (BOX_HEIGHT + ROW_GAP)).saturating_sub(ROW_GAP);
        Grid { columns, widths, width: x.max(120), height, placed }
    }

    /// Returns the left edge of a box.
    fn x(&self, picture: &Picture, node: usize) -> usize {
        self.columns[picture.nodes[node].group] + MARGIN + self.placed.slots[node] * (BOX_WIDTH + GAP)
    }

    /// Returns the top of a row.
    fn y(&self, row: usize) -> usize {
        MARGIN + HEAD + row * (BOX_HEIGHT + ROW_GAP)
    }
}

fn draw(picture: &Picture, namespace: &str, style: &str) -> String {
    let grid = Grid::new(picture);
    let (width, height) = (grid.width, grid.height);
    let title = escape(&picture.title);
    let mut out = format!(
        "<svg{namespace} class=\"graph\" role=\"img\" aria-label=\"{title}\" \
         width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">{style}\n"
    );
    let mut names = String::new();
    for (group, name) in picture.groups.iter().enumerate() {
        names += &column(&mut out, picture, &grid, group, name);
    }
    for (link, way) in picture.links.iter().zip(&grid.placed.ways) {
        line(&mut out, picture, &grid, link, *way);
    }
    // Over the lines, which may pass there.
    out.push_str(&names);
    for (place, node) in picture.nodes.iter().enumerate() {
        let (x, y) = (grid.x(picture, place), grid.y(grid.placed.rows[place]));
        let look = match node.look {
            Look::Plain => "",
            Look::Source => " source",
            Look::Cached => " cached",
            Look::Failed => " failed",
            Look::Faint => " faint",
        };
        let round = if node.look == Look::Source { 20 } else { 5 };
        let _ = writeln!(
            out,
            "<g class=\"node{look}\"><title>{}</title><rect class=\"box\" x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" \
             height=\"{BOX_HEIGHT}\" rx=\"{round}\"/><text x=\"{tx}\" y=\"{}\">{}</text><text class=\"detail\" \
             x=\"{tx}\" y=\"{}\">{}</text></g>",
            escape(&node.text),
            y + 19,
            escape(&fit(&node.text, TEXT_COLUMNS)),
            y + 36,
            escape(&fit(&node.detail, TEXT_COLUMNS + 3)),
            tx = x + 14,
        );
    }
    out.push_str("</svg>");
    out
}

/// Draws the ground of a column; returns its name, drawn.
fn column(out: &mut String, picture: &Picture, grid: &Grid, group: usize, name: &str) -> String {
    let rows: Vec<usize> = (0..picture.nodes.len())
        .filter(|node| picture.nodes[*node].group == group)
        .map(|node| grid.placed.rows[node])
        .collect();
    let (Some(first), Some(last)) = (rows.iter().min(), rows.iter().max()) else { return String::new() };
    let (x, top) = (grid.columns[group], grid.y(*first) - HEAD);
    let height = grid.y(*last) + BOX_HEIGHT + MARGIN - top;
    let columns = (grid.widths[group] - 2 * MARGIN) / 8;
    let _ = writeln!(
        out,
        "<rect class=\"column\" x=\"{x}\" y=\"{top}\" width=\"{}\" height=\"{height}\" rx=\"8\"/>",
        grid.widths[group],
    );
    let name = fit(name, columns);
    // Lines that pass there end at its ground.
    let ground = name.chars().count() * 8 + 6;
    let name = escape(&name);
    let (left, y) = (x + MARGIN, top + 20);
    format!(
        "<rect class=\"column\" x=\"{}\" y=\"{}\" width=\"{ground}\" height=\"19\"/><text class=\"name\" \
         x=\"{left}\" y=\"{y}\">{name}</text>\n",
        left - 3,
        y - 14,
    )
}

/// Draws a line with its tip.
fn line(out: &mut String, picture: &Picture, grid: &Grid, link: &Link, way: Option<(usize, usize)>) {
    if link.from >= link.to || link.to >= picture.nodes.len() {
        return;
    }
    let middle = |node: usize| grid.x(picture, node) + BOX_WIDTH / 2;
    let (x1, x2) = (middle(link.from), middle(link.to));
    let y1 = grid.y(grid.placed.rows[link.from]) + BOX_HEIGHT;
    let y2 = grid.y(grid.placed.rows[link.to]) - 5;
    let class = match link.kind.as_str() {
        "source" => "source",
        "mount" | "seed" => "mount",
        _ => "base",
    };
    let bend = |from: (usize, usize), to: (usize, usize)| {
        let half = from.1 + (to.1 - from.1) / 2;
        format!("C{} {half} {} {half} {} {}", from.0, to.0, to.0, to.1)
    };
    let path = match way {
        None => format!("M{x1} {y1}{}", bend((x1, y1), (x2, y2))),
        Some((beside, channel)) => {
            let x = grid.columns[beside] + grid.widths[beside] + GAP / 2 + channel * CHANNEL;
            let (start, end) = (y1 + ROW_GAP - 5, y2 + 5 - ROW_GAP);
            format!("M{x1} {y1}{}V{end}{}", bend((x1, y1), (x, start)), bend((x, end), (x2, y2)))
        }
    };
    let _ = writeln!(
        out,
        "<path class=\"{class}\" d=\"{path}\"><title>{}</title></path><path class=\"tip\" d=\"M{} {y2}h8l-4 5z\"/>",
        escape(&link.kind),
        x2 - 4,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Picture {
        let node = |group, text: &str, look| Node { group, text: text.into(), detail: "line 1".into(), look };
        let link = |from, to, kind: &str| Link { from, to, kind: kind.into() };
        Picture {
            title: "what <b> needs".into(),
            groups: vec!["one \"x\"".into(), "two".into()],
            nodes: vec![
                node(0, "FROM a", Look::Source),
                node(0, "RUN <script>alert(1)</script> && echo '\"><img src=x>' and much more", Look::Cached),
                node(1, "FROM b", Look::Source),
                node(1, "RUN x", Look::Failed),
                node(1, "COPY --from=one / /", Look::Faint),
            ],
            links: vec![
                link(0, 1, "base"),
                link(2, 3, "base"),
                link(3, 4, "base"),
                link(1, 4, "source"),
                link(0, 4, "mount"),
            ],
        }
    }

    #[test]
    fn boxes_lines_and_names_are_there() {
        let drawn = svg(&picture());
        for expect in [
            "<?xml",
            "FROM a",
            "class=\"node cached\"",
            "class=\"node failed\"",
            ">two</text>",
            "prefers-color-scheme",
        ] {
            assert!(drawn.contains(expect), "{expect} in {drawn}");
        }
        assert_eq!(drawn.matches("class=\"tip\"").count(), 5);
        assert_eq!(drawn.matches("class=\"box\"").count(), 5);
        // One that passes rows runs straight down beside the boxes.
        let downs = drawn.as_bytes().windows(2).filter(|pair| pair[0] == b'V' && pair[1].is_ascii_digit());
        assert_eq!(downs.count(), 1, "{drawn}");
    }

    #[test]
    fn nothing_breaks_out_of_it() {
        let drawn = svg(&picture());
        assert!(!drawn.contains("<script") && !drawn.contains("<img") && !drawn.contains("<b>"), "{drawn}");
        assert!(drawn.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        assert!(drawn.contains("aria-label=\"what &lt;b&gt; needs\"") && drawn.contains("one &quot;x&quot;"));
    }

    #[test]
    fn nothing_to_draw_is_a_drawing() {
        assert!(svg(&Picture::default()).contains("</svg>"));
        assert!(inline(&Picture::default()).starts_with("<svg"));
    }
}
