//! `rbuild layers`: what takes space in an image, by layer and folder, and which of its bytes nobody sees.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::error::CommandError;
use super::world::World;
use super::{find, table, ui, units};
use crate::build;
use crate::draw::{FolderRow, LayerRow, LayersPage, WasteRow, fit, layers_page};
use crate::image::ImageConfig;
use crate::report::clean::clean_text;
use crate::store::{FolderFiles, Found, ImageFiles};

/// Show what takes space in an image, by layer and folder, and which bytes are wasted.
///
/// Wasted is what a later layer overwrites or deletes: it is in the image, and nobody sees it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rbuild layers flask\n  rbuild layers --top 30 flask\n  \
    rbuild layers --format html flask > layers.html\n\n\
    See also: rbuild history, rbuild diff, rbuild system df")]
pub struct LayersArgs {
    /// A name or id of an image, or the id of a build step
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// How many folders and wasted paths to show, the largest
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
    /// How to write it
    #[arg(long, default_value = "table", value_parser = ["table", "json", "html"])]
    pub format: String,
}

/// Runs the command.
pub fn layers(world: &World, args: LayersArgs) -> Result<(), CommandError> {
    let store = world.open_store()?;
    store.hold()?;
    let (id, config, layers) = match find::find(&store, &args.image)? {
        Found::Image { id, .. } => {
            let image = store.image(&id)?;
            (id.to_string(), image.config, image.layers)
        }
        Found::Step(id) => {
            let (config, layers) = build::config_of_step(&store, &id)?;
            (id.to_string(), config, layers)
        }
    };
    let found = store.image_files(&layers, args.top)?;
    let page = page(&args.image, id, &config, found);
    match args.format.as_str() {
        "json" => ui::line(&serde_json::to_string_pretty(&as_json(&page))?),
        "html" => ui::out(&layers_page(&page)),
        _ => ui::out(&as_table(&page)),
    }
    Ok(())
}

/// Joins the layers with the lines of history that made them.
fn page(name: &str, id: String, config: &ImageConfig, found: ImageFiles) -> LayersPage {
    let mut made = config.history.iter().filter(|line| !line.empty_layer);
    let created_by = |line: Option<&crate::image::History>| {
        let line = line.and_then(|line| line.created_by.as_deref().or(line.comment.as_deref()));
        clean_text(line.unwrap_or("(unknown)")).replace(['\n', '\r', '\t'], " ")
    };
    let layers = found.layers.into_iter().map(|layer| LayerRow {
        created_by: created_by(made.next()),
        bytes: layer.bytes,
        files: layer.files,
        wasted: layer.wasted,
        folders: layer.folders.into_iter().map(folder).collect(),
    });
    let waste = found.wasted.iter().map(|wasted| WasteRow {
        path: shown(&wasted.path),
        bytes: wasted.bytes,
        files: wasted.files,
        layer: wasted.layer + 1,
        by: wasted.by + 1,
        deleted: wasted.deleted,
    });
    LayersPage {
        image: name.to_owned(),
        id,
        bytes: found.bytes,
        wasted: found.wasted_bytes,
        layers: layers.collect(),
        waste: waste.collect(),
        folders: found.folders.into_iter().map(folder).collect(),
    }
}

fn folder(folder: FolderFiles) -> FolderRow {
    FolderRow {
        path: shown(&folder.path),
        bytes: folder.bytes,
        files: folder.files,
        layers: folder.layers.iter().map(|layer| layer + 1).collect(),
    }
}

/// A name that holds a line end must not look like two.
fn shown(path: &Path) -> String {
    clean_text(&path.to_string_lossy()).replace('\n', "\\n").replace('\r', "\\r")
}

fn as_json(page: &LayersPage) -> Value {
    let folder = |row: &FolderRow| json!({ "path": row.path, "bytes": row.bytes, "files": row.files, "layers": row.layers });
    let folders = |rows: &[FolderRow]| rows.iter().map(folder).collect::<Vec<_>>();
    let layers: Vec<Value> = page
        .layers
        .iter()
        .enumerate()
        .map(|(place, layer)| {
            json!({
                "layer": place + 1,
                "createdBy": layer.created_by,
                "bytes": layer.bytes,
                "files": layer.files,
                "wastedBytes": layer.wasted,
                "folders": folders(&layer.folders),
            })
        })
        .collect();
    let waste = |row: &WasteRow| {
        json!({
            "path": row.path,
            "bytes": row.bytes,
            "files": row.files,
            "layer": row.layer,
            "hiddenBy": row.by,
            "change": if row.deleted { "deleted" } else { "overwritten" },
        })
    };
    json!({
        "image": page.image,
        "id": page.id,
        "bytes": page.bytes,
        "wastedBytes": page.wasted,
        "layers": layers,
        "folders": folders(&page.folders),
        "wasted": page.waste.iter().map(waste).collect::<Vec<_>>(),
    })
}

fn as_table(page: &LayersPage) -> String {
    let percent = match page.bytes {
        0 => 0.0,
        bytes => page.wasted as f64 * 100.0 / bytes as f64,
    };
    let mut out = format!(
        "{} in {} layers, {} wasted ({percent:.1}%)\n\n",
        units::exact_size(page.bytes),
        page.layers.len(),
        units::exact_size(page.wasted)
    );
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut rows = vec![words(&["LAYER", "SIZE", "FILES", "WASTED", "CREATED BY"])];
    for (place, layer) in page.layers.iter().enumerate() {
        rows.push(vec![
            (place + 1).to_string(),
            units::exact_size(layer.bytes),
            layer.files.to_string(),
            units::exact_size(layer.wasted),
            fit(&layer.created_by, 80),
        ]);
    }
    out.push_str(&table::layout(&rows));
    if !page.folders.is_empty() {
        let mut rows = vec![words(&["SIZE", "FILES", "LAYERS", "FOLDER"])];
        for row in &page.folders {
            let places: Vec<String> = row.layers.iter().map(usize::to_string).collect();
            rows.push(vec![
                units::exact_size(row.bytes),
                row.files.to_string(),
                fit(&places.join(","), 12),
                row.path.clone(),
            ]);
        }
        out.push('\n');
        out.push_str(&table::layout(&rows));
    }
    if !page.waste.is_empty() {
        let mut rows = vec![words(&["WASTED", "FILES", "LAYER", "WHY", "PATH"])];
        for row in &page.waste {
            let what = if row.deleted { "deleted" } else { "overwritten" };
            rows.push(vec![
                units::exact_size(row.bytes),
                row.files.to_string(),
                row.layer.to_string(),
                format!("{what} in {}", row.by),
                row.path.clone(),
            ]);
        }
        out.push('\n');
        out.push_str(&table::layout(&rows));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_shown_as_a_table() {
        let folder = |path: &str| FolderRow { path: path.into(), bytes: 1500, files: 2, layers: vec![1, 2] };
        let page = LayersPage {
            bytes: 2000,
            wasted: 500,
            layers: vec![LayerRow {
                created_by: "RUN x".into(),
                bytes: 2000,
                files: 3,
                wasted: 500,
                folders: vec![],
            }],
            folders: vec![folder("/usr")],
            waste: vec![WasteRow { path: "/f".into(), bytes: 500, files: 1, layer: 1, by: 2, deleted: true }],
            ..LayersPage::default()
        };
        assert_eq!(
            as_table(&page),
            "2kB in 1 layers, 500B wasted (25.0%)\n\n\
             LAYER   SIZE   FILES   WASTED   CREATED BY\n1       2kB    3       500B     RUN x\n\n\
             SIZE    FILES   LAYERS   FOLDER\n1.5kB   2       1,2      /usr\n\n\
             WASTED   FILES   LAYER   WHY            PATH\n500B     1       1       deleted in 2   /f\n"
        );
        assert_eq!(as_json(&page)["wasted"][0]["change"], "deleted");
    }

    #[test]
    fn a_path_is_one_line() {
        assert_eq!(shown(Path::new("/a\nb\r\x1b[2J")), "/a\\nb\\r");
    }
}
