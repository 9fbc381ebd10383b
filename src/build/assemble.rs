//! A stage's planned config and its layers to the image's config.
//!
//! Pure. The times come from the caller: those of history are the layers', and
//! `created` is the first time this very config was assembled (the store
//! remembers), so that the same inputs always give the same image id.

use crate::image::{DiffId, Digest, ImageConfig};
use crate::plan::graph::{Stage, VertexId};

/// What a vertex contributed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contribution {
    /// Whether it made a layer of its own.
    pub layer: bool,
    /// RFC 3339; `None` for the layers of an image.
    pub created: Option<String>,
}

/// Puts history, times and DiffIDs into the config of `stage`; `created` stays unset.
///
/// `contribution` tells what each of the stage's vertices made; a history line whose
/// vertex made no layer becomes an empty one.
pub fn assemble(
    stage: &Stage,
    diff_ids: Vec<DiffId>,
    contribution: &dyn Fn(VertexId) -> Contribution,
) -> ImageConfig {
    let mut config = stage.config.clone();
    config.history = stage.base_config.history.clone();
    let base_time = config.history.iter().rev().find_map(|h| h.created.clone());
    let base_time = base_time.or_else(|| stage.base_config.created.clone());
    for planned in &stage.history {
        let mut entry = planned.entry.clone();
        let made = planned.vertex.map(contribution);
        if let Some(made) = &made {
            entry.empty_layer = entry.empty_layer || !made.layer;
        }
        entry.created = made.and_then(|made| made.created).or_else(|| base_time.clone());
        config.history.push(entry);
    }
    config.rootfs.diff_ids = diff_ids;
    config.created = None;
    config
}

/// Returns the digest under which the first time of this config is remembered: that of
/// all but its times.
pub fn identity(config: &ImageConfig) -> Digest {
    let mut config = config.clone();
    config.created = None;
    for entry in &mut config.history {
        entry.created = None;
    }
    Digest::of(config.to_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::graph;
    use super::*;
    use crate::image::History;

    const DOCKERFILE: &str = "FROM base\nENV A=1\nRUN x\nRUN y\nCMD [\"z\"]\n";

    /// A stage whose base has one line of history of this time.
    fn stage(time: Option<&str>) -> Stage {
        let mut stage = graph(DOCKERFILE).stages.remove(0);
        let mut base = (*stage.base_config).clone();
        base.created = Some("2001-01-01T00:00:00Z".to_owned());
        base.history = vec![History { created: time.map(str::to_owned), ..History::default() }];
        stage.base_config = Arc::new(base);
        stage
    }

    /// The first RUN makes a layer, the second none.
    fn contribution(id: VertexId) -> Contribution {
        Contribution { layer: id.0 == 1, created: (id.0 > 0).then(|| format!("time of {}", id.0)) }
    }

    fn ids() -> Vec<DiffId> {
        ["base", "x"].map(|layer| DiffId(Digest::of(layer))).to_vec()
    }

    #[test]
    fn history_has_times_and_layers() {
        let config = assemble(&stage(Some("2000-01-01T00:00:00Z")), ids(), &contribution);
        let lines: Vec<(&str, bool)> =
            config.history.iter().map(|h| (h.created.as_deref().unwrap(), h.empty_layer)).collect();
        let base = "2000-01-01T00:00:00Z";
        assert_eq!(
            lines,
            [(base, false), (base, true), ("time of 1", false), ("time of 2", true), ("time of 2", true)]
        );
        assert_eq!(config.rootfs.diff_ids, ids());
        let layers = config.history.iter().filter(|h| !h.empty_layer).count();
        assert_eq!(layers, config.rootfs.diff_ids.len(), "one line for each layer");
        assert_eq!(config.created, None);
        assert_eq!(config.config.cmd, Some(vec!["z".to_owned()]));
    }

    #[test]
    fn a_base_without_times_in_its_history_has_its_own() {
        let config = assemble(&stage(None), ids(), &contribution);
        assert_eq!(config.history[1].created.as_deref(), Some("2001-01-01T00:00:00Z"));
    }

    #[test]
    fn the_identity_is_all_but_the_times() {
        let one = assemble(&stage(Some("2000-01-01T00:00:00Z")), ids(), &contribution);
        let mut other = assemble(&stage(Some("2020-01-01T00:00:00Z")), ids(), &contribution);
        other.created = Some("2020-01-01T00:00:00Z".to_owned());
        assert_eq!(identity(&one), identity(&other));
        other.config.user = "app".to_owned();
        assert_ne!(identity(&one), identity(&other));
    }
}
