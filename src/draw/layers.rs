//! The page about an image's layers: what each weighs, where the bytes are, and which nobody sees.

use std::fmt::Write as _;

use super::bar::{bar, bars};
use super::page::{Part, card, code, page};
use super::sizes::{bytes, share};
use super::text::escape;

/// What the page is made of. Sizes are in bytes; layers are counted from 1.
#[derive(Debug, Default)]
pub struct LayersPage {
    /// What the user called it.
    pub image: String,
    pub id: String,
    pub bytes: u64,
    pub wasted: u64,
    pub layers: Vec<LayerRow>,
    pub folders: Vec<FolderRow>,
    pub waste: Vec<WasteRow>,
}

/// A layer.
#[derive(Debug, Default)]
pub struct LayerRow {
    pub created_by: String,
    pub bytes: u64,
    pub files: u64,
    pub wasted: u64,
    pub folders: Vec<FolderRow>,
}

/// A folder with all that is below it.
#[derive(Debug, Default)]
pub struct FolderRow {
    pub path: String,
    pub bytes: u64,
    pub files: u64,
    pub layers: Vec<usize>,
}

/// Something that a later layer hides.
#[derive(Debug, Default)]
pub struct WasteRow {
    pub path: String,
    pub bytes: u64,
    pub files: u64,
    pub layer: usize,
    pub by: usize,
    pub deleted: bool,
}

/// Draws the page.
pub fn layers_page(input: &LayersPage) -> String {
    let head = format!(
        "<h1>Layers of {}</h1>\n<p class=\"soft\">{}</p>\n<ul class=\"cards\">{}{}{}{}</ul>",
        escape(&input.image),
        code(&input.id),
        card(&bytes(input.bytes), "in all layers"),
        card(&input.layers.len().to_string(), "layers"),
        card(&bytes(input.wasted), "wasted"),
        card(&share(input.wasted, input.bytes), "of it wasted"),
    );
    let parts = [
        Part { id: "layers", title: "Layers", html: layers(input) },
        Part {
            id: "folders",
            title: "Largest folders",
            html: folders(&input.folders, "all layers together", true),
        },
        Part { id: "wasted", title: "Wasted bytes", html: waste(input) },
    ];
    page(&format!("Layers of {}", input.image), &head, &parts)
}

fn layers(input: &LayersPage) -> String {
    let most = input.layers.iter().map(|layer| layer.bytes).max().unwrap_or(0);
    let mut html = String::from(
        "<p class=\"soft\">The lowest first; what is red in a bar a later layer overwrites or deletes.</p>\n",
    );
    for (place, layer) in input.layers.iter().enumerate() {
        let parts = [(0, layer.bytes, "full"), (0, layer.wasted, "bad")];
        let _ = write!(
            html,
            "<details id=\"layer-{number}\"><summary><span class=\"soft\">{number}</span><span class=\"text code\">{}</span>\
             <span class=\"time\">{size}</span>{}</summary>\n<div class=\"inside\"><p>{size} in {} files, {} of it wasted.\
             </p>{}\n</div></details>\n",
            escape(&layer.created_by),
            bars(most, &parts),
            layer.files,
            bytes(layer.wasted),
            folders(&layer.folders, "this layer", false),
            number = place + 1,
            size = bytes(layer.bytes),
        );
    }
    html
}

fn folders(rows: &[FolderRow], of: &str, with_layers: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let most = rows.iter().map(|row| row.bytes).max().unwrap_or(0);
    let mut html = format!(
        "<div class=\"wide\" tabindex=\"0\"><table><caption>The largest folders of {of}, with all that is below them.</caption>\n<thead><tr>\
         <th scope=\"col\">Folder</th>{}<th scope=\"col\">Share</th><th scope=\"col\" class=\"n\">Files</th>\
         <th scope=\"col\" class=\"n\">Size</th></tr></thead>\n<tbody>\n",
        if with_layers { "<th scope=\"col\">In layers</th>" } else { "" }
    );
    for row in rows {
        let places: Vec<String> = row.layers.iter().map(usize::to_string).collect();
        let cell = if with_layers { format!("<td>{}</td>", places.join(", ")) } else { String::new() };
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\" class=\"code\">{}</th>{cell}<td class=\"bar\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td></tr>",
            escape(&row.path),
            bar(0, row.bytes, most, "full"),
            row.files,
            bytes(row.bytes)
        );
    }
    html.push_str("</tbody></table></div>");
    html
}

fn waste(input: &LayersPage) -> String {
    if input.waste.is_empty() {
        return "<p>No layer hides bytes of an earlier one.</p>".to_owned();
    }
    let mut html = String::from(
        "<div class=\"wide\" tabindex=\"0\"><table><caption>Files that are in the image and that nobody sees, the largest first. \
         Deleting them in the step that made them would save their bytes.</caption>\n<thead><tr><th scope=\"col\">Path</th>\
         <th scope=\"col\">In layer</th><th scope=\"col\">What becomes of it</th><th scope=\"col\" class=\"n\">Files</th>\
         <th scope=\"col\" class=\"n\">Size</th></tr></thead>\n<tbody>\n",
    );
    for row in &input.waste {
        let what = if row.deleted { "deleted" } else { "overwritten" };
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\" class=\"code\">{}</th><td><a href=\"#layer-{layer}\">{layer}</a></td><td>{what} in \
             <a href=\"#layer-{by}\">{by}</a></td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&row.path),
            row.files,
            bytes(row.bytes),
            layer = row.layer,
            by = row.by,
        );
    }
    html.push_str("</tbody></table></div>");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> LayersPage {
        let folder = |path: &str| FolderRow { path: path.into(), bytes: 90, files: 3, layers: vec![1, 2] };
        LayersPage {
            image: "app<script>".into(),
            id: "sha256:00".into(),
            bytes: 200,
            wasted: 50,
            layers: vec![
                LayerRow {
                    created_by: "RUN echo '<b>'".into(),
                    bytes: 150,
                    files: 5,
                    wasted: 50,
                    folders: vec![folder("/usr")],
                },
                LayerRow { created_by: "COPY . /".into(), bytes: 50, files: 1, ..LayerRow::default() },
            ],
            folders: vec![folder("/<img src=x onerror=alert(1)>")],
            waste: vec![WasteRow {
                path: "/var/\"lib\"".into(),
                bytes: 50,
                files: 2,
                layer: 1,
                by: 2,
                deleted: true,
            }],
        }
    }

    #[test]
    fn sizes_folders_and_waste_are_there() {
        let page = layers_page(&input());
        for expect in [
            "25.0%",
            "RUN echo &#39;&lt;b&gt;&#39;",
            "/var/&quot;lib&quot;",
            "deleted in",
            "id=\"layer-2\"",
            "<td>1, 2</td>",
        ] {
            assert!(page.contains(expect), "{expect} in {page}");
        }
        assert!(layers_page(&LayersPage::default()).contains("No layer hides bytes"));
    }

    #[test]
    fn names_are_text() {
        let page = layers_page(&input());
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>'"), "{page}");
    }
}
