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
        env.rbuild(&["diff", "busybox:test"]).exits(2).has("name two images");
        env.rbuild(&["diff", "busybox:test", "nosuch"]).exits(1).has("No such image: nosuch:latest");
        env.rbuild(&["diff"]).exits(2);
    }
}
