//! The demo once more with the network cut off, in a network namespace that has only `lo`.

use super::common::Who;
use super::common::not_here;
use super::cookbook::flask;

fn the_demo_without_a_network(who: Who) {
    let Some(env) = flask(who) else { return };
    if !rustix::process::geteuid().is_root() {
        return not_here("only root can cut the network off and keep an ordinary user's id maps");
    }
    // Copied, since the ordinary user may not be allowed to read the project's folder.
    let project = env.context().project("scripts").project("testdata/flask");
    let logs = env.path_str("logs");
    let mut cut_off = vec!["unshare", "--net", "sh", "-c", "ip link set lo up; exec \"$@\"", "sh"];
    let become_user: Vec<String> = env.ids().map_or(Vec::new(), |ids| {
        let ids = [format!("--reuid={}", ids.uid), format!("--regid={}", ids.gid)];
        ["setpriv".to_owned()].into_iter().chain(ids).chain(["--clear-groups".to_owned()]).collect()
    });
    cut_off.extend(become_user.iter().map(String::as_str));
    let demo = env.program(&project.at("scripts/demo"), &[]).behind(&cut_off).without_changing_user();
    let exe = env.exe();
    demo.var("RBUILD_DEMO_EXE", exe.to_str().unwrap())
        .var("RBUILD_DEMO_DIR", &logs)
        .var("RBUILD_DEMO_STORE", env.store().to_str().unwrap())
        .ok()
        .has("7 of 8 steps from the cache")
        .has("GET /hi -> Hello World!");
}

#[test]
fn demo_as_root() {
    the_demo_without_a_network(Who::Root);
}

#[test]
fn demo_as_user() {
    the_demo_without_a_network(Who::User);
}
