//! `rbuild layers`: what takes space in an image.

use serde_json::Value;

use super::common::TestEnv;

/// An image whose later layers hide a part of its earlier ones.
fn wasteful(env: &TestEnv) {
    env.busybox();
    let ctx = env
        .dockerfile(
            "FROM busybox:test\nCOPY big /opt/one/big\nCOPY small /opt/two/small\n\
             RUN rm -r /opt/one && echo x >> /opt/two/small\nCMD [\"x\"]\n",
        )
        .file("big", "b".repeat(300_000))
        .file("small", "s".repeat(20_000));
    env.build(&ctx, &["-t", "app"]);
}

both! {
    fn waste_is_found(env) {
        wasteful(env);
        let outcome = env.rbuild(&["layers", "--format", "json", "app"]).ok();
        let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(found["wastedBytes"], 320_000, "{outcome}");
        let layers = found["layers"].as_array().unwrap();
        let told: Vec<(Option<u64>, Option<u64>)> =
            layers[1..].iter().map(|l| (l["bytes"].as_u64(), l["wastedBytes"].as_u64())).collect();
        let some = |bytes, wasted| (Some(bytes), Some(wasted));
        assert_eq!(told, [some(300_000, 300_000), some(20_000, 20_000), some(20_002, 0)]);
        assert!(layers[1]["createdBy"].as_str().unwrap().starts_with("COPY"), "{outcome}");
        assert_eq!(layers[1]["folders"][0]["path"], "/opt");
        let wasted = &found["wasted"][0];
        assert_eq!((&wasted["path"], &wasted["change"]), (&Value::from("/opt/one"), &Value::from("deleted")));
        assert_eq!((&wasted["layer"], &wasted["hiddenBy"]), (&Value::from(2), &Value::from(4)));
        assert_eq!(found["wasted"][1]["change"], "overwritten");
        // The sizes of layers are those that `history` and `images` tell.
        let sum: u64 = layers.iter().filter_map(|layer| layer["bytes"].as_u64()).sum();
        assert_eq!(env.inspect("app")["Size"].as_u64(), Some(sum), "{outcome}");
    }

    fn tables_and_pages(env) {
        wasteful(env);
        let table = env.rbuild(&["layers", "app"]).ok();
        table.has_all(&["LAYER   SIZE", "320kB wasted", "/opt/two", "deleted in 4", "overwritten in 4"]);
        let top = env.rbuild(&["layers", "--top", "1", "app"]).ok();
        top.has("deleted in 4").lacks("overwritten in 4");
        env.rbuild(&["layers", "--format", "html", "app"]).ok().has_all(&["<!DOCTYPE html>", "/opt/one", "</html>"]);
        env.rbuild(&["layers", "nosuch"]).exits(1).has("No such image: nosuch:latest");
        env.rbuild(&["layers", "--format", "xml", "app"]).exits(2);
    }

    /// A step of a build that failed later is as good as an image.
    fn of_a_step(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo 1234 > /made\nRUN exit 1\n");
        let outcome = env.try_build(&ctx, &[]).fails();
        let step = outcome.step_ids()[1].to_owned();
        env.rbuild(&["layers", &step]).ok().has("5B");
    }
}
