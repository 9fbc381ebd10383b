//! `diff`: how the files of two images differ, by the letters of `docker diff`.

use super::common::TestEnv;

/// Two images of a common base, named `one` and `two`; the base is `busybox:test`.
fn pair(env: &TestEnv) {
    env.busybox();
    let steps =
        "RUN mkdir /d && echo a > /d/a && echo same > /d/same && ln -s /etc /d/link && chmod 700 /home\n";
    env.build(&env.dockerfile(&format!("FROM busybox:test\n{steps}")), &["-t", "one"]);
    let more = "RUN echo b > /d/a && echo same > /d/same && rm /d/link && mkdir -p /new/er && rm -r /tmp\n";
    env.build(&env.dockerfile(&format!("FROM busybox:test\n{steps}{more}")), &["-t", "two"]);
}

both! {
    fn lines_are_dockers(env) {
        pair(env);
        env.rbuild(&["diff", "one", "two"]).ok().prints("C /d\nC /d/a\nD /d/link\nA /new\nA /new/er\nD /tmp\n");
        env.rbuild(&["diff", "two", "one"]).ok().prints("C /d\nC /d/a\nA /d/link\nD /new\nA /tmp\n");
        env.rbuild(&["diff", "one", "one"]).ok().prints("");
        let base = env.rbuild(&["diff", "busybox:test", "one"]).ok();
        base.has("A /d\nA /d/a\nA /d/link\nA /d/same\n").has("C /home\n").lacks("/bin");
    }

    /// The same files from other layers are equal, whatever their times; an owner or a mode is not.
    fn files_of_other_layers_are_compared(env) {
        let ctx = |text: &str| env.dockerfile(text).file("f", "x").file("g", "y");
        env.build(&ctx("FROM scratch\nCOPY f g /\n"), &["-t", "one"]);
        env.build(&ctx("FROM scratch\nCOPY g /\nCOPY f /\n"), &["-t", "same"]);
        env.build(&ctx("FROM scratch\nCOPY g /\nCOPY --chmod=600 f /\n"), &["-t", "mode"]);
        env.build(&ctx("FROM scratch\nCOPY --chown=1:1 g /\nCOPY f /\n"), &["-t", "owner"]);
        env.rbuild(&["diff", "one", "same"]).ok().prints("");
        env.rbuild(&["diff", "one", "mode"]).ok().prints("C /f\n");
        env.rbuild(&["diff", "same", "owner"]).ok().prints("C /g\n");
    }

    /// What a container of one would get and one of the other would not.
    fn configs_are_compared(env) {
        let ctx = |text: &str| env.dockerfile(&format!("FROM scratch\nCOPY f /\n{text}")).file("f", "x");
        env.build(&ctx("ENV A=1 B=2\nCMD [\"one\"]\nLABEL l=1\n"), &["-t", "one"]);
        env.build(&ctx("ENV A=1 B=3\nCMD [\"two\"]\nEXPOSE 80\nUSER app\n"), &["-t", "two"]);
        let lines = "C Cmd: [\"one\"] -> [\"two\"]\nC Env.B: 2 -> 3\nA ExposedPorts.80/tcp\nD Labels.l: 1\nA User: app\n";
        env.rbuild(&["diff", "one", "two"]).ok().prints(lines);
        env.rbuild(&["diff", "--config", "one", "two"]).ok().prints(lines);
        env.rbuild(&["diff", "--files", "one", "two"]).ok().prints("");
        let json = env.rbuild(&["diff", "--format", "json", "one", "two"]).ok();
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(json["files"], serde_json::json!([]));
        assert_eq!(json["config"][1], serde_json::json!({"field": "Env.B", "change": "changed", "old": "2", "new": "3"}));
    }

    /// Links are never followed, neither those in a path nor those that are compared.
    fn links_are_not_followed(env) {
        env.busybox();
        let step = |words: &str, tag: &str| {
            env.build(&env.dockerfile(&format!("FROM busybox:test\nRUN {words}\n")), &["-t", tag]);
        };
        step("mkdir /real && echo 1 > /real/f && ln -s /etc/passwd /l", "one");
        step("ln -s /etc /real && ln -s /etc/group /l", "two");
        env.rbuild(&["diff", "one", "two"]).ok().prints("C /l\nC /real\n");
    }

    fn what_cannot_be_compared(env) {
        env.busybox();
        env.rbuild(&["diff", "busybox:test"]).exits(1).has("of images name two");
        env.rbuild(&["diff", "busybox:test", "nosuch"]).exits(1).has("No such image: nosuch:latest");
        env.rbuild(&["diff"]).exits(2);
    }
}
