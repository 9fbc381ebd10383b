//! `make bench`, tried with tiny sizes, so that it still works when it is wanted. What it says of speed then
//! means nothing, and is not looked at.

use std::fs;
use std::path::Path;

use super::common::Who;
use super::common::env::run_as;

#[test]
fn every_workload_is_measured_and_comes_out_right() {
    run_as(Who::Root, |env| {
        let (place, output) = (env.path_str("place"), env.path_str("output"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/run");
        let script = script.to_str().unwrap();
        let rbuild = ["--rbuild", env!("CARGO_BIN_EXE_rbuild"), "--engines", "rbuild,limit"];
        let small = ["--small", "--rounds", "1", "--place", &place, "--output", &output];
        env.program("python3", &[&["-B", script], &rbuild[..], &small[..]].concat()).ok();

        let written = |ending: &str| {
            let files = fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().path());
            let file = files.into_iter().find(|path| path.to_str().unwrap().ends_with(ending));
            fs::read_to_string(file.unwrap_or_else(|| panic!("no {ending} was written"))).unwrap()
        };
        let json: serde_json::Value = serde_json::from_str(&written("Z.json")).unwrap();
        // An image that is not what its context says is left out, as what fails is.
        assert_eq!(json["left_out"], serde_json::json!({}));
        for name in ["noop", "small_edit", "write", "deep_last", "pull", "many", "scale_stages_4", "import"] {
            assert!(json["results"][name]["rbuild"]["median"].is_f64(), "{name} was not measured: {json}");
        }
        assert_eq!(json["results"]["many_one"]["rbuild"]["steps"], 6.0);
        assert!(written("Z.svg").contains("small_edit") && written("-scale.svg").contains("stages"));
        assert!(written("Z.md").contains("| small_edit: "));
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "what was measured with is left");
    });
}
