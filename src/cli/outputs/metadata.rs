//! `--metadata-file`: what a build made, in the words of BuildKit's.
//!
//! Not here: making it.

use serde_json::{Map, Value, json};

use crate::build::{BuildResult, BuiltImage};
use crate::image::Platform;

/// Returns the file's bytes: of one image its fields, of several one object for each target.
pub fn metadata(result: &BuildResult, platform: &Platform) -> Vec<u8> {
    let value = match &result.images[..] {
        [image] => fields(image, &result.id, platform),
        images => {
            let mut all = Map::new();
            for image in images {
                let name = image.target.clone().unwrap_or_default();
                all.insert(name, fields(image, &result.id, platform));
            }
            Value::Object(all)
        }
    };
    // The keys of a `Value` are sorted, as Go's are.
    serde_json::to_vec_pretty(&value).unwrap_or_default()
}

fn fields(image: &BuiltImage, build: &str, platform: &Platform) -> Value {
    // Where nothing asked for a manifest there is none, and docker's store knows the image by its config.
    let mut value = json!({
        "buildx.build.ref": format!("default/default/{build}"),
        "containerimage.config.digest": image.image,
        "containerimage.digest": image.image,
    });
    if !image.output.names.is_empty() {
        value["image.name"] = image.output.names.join(",").into();
    }
    if let Some(manifest) = &image.output.manifest {
        let mut of = json!({ "architecture": platform.architecture, "os": platform.os });
        if let Some(variant) = &platform.variant {
            of["variant"] = variant.clone().into();
        }
        value["containerimage.digest"] = json!(manifest.digest);
        value["containerimage.descriptor"] = json!({
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": manifest.size,
            "platform": of,
        });
        if !manifest.annotations.is_empty() {
            value["containerimage.descriptor"]["annotations"] = json!(manifest.annotations);
        }
    }
    value
}
