//! The applications of `testdata/`, built and run; and the stories of `tests/cookbook/`, typed as a new
//! user types them (`story`).

mod pattern;
mod story;

use super::common::TestEnv;
use super::common::Who;
use super::common::base::busybox_tar;
use super::common::base::ca_cert_args;
use super::common::skip;

/// Builds `testdata/flask` on a real Debian, from real mirrors; what is built stays in the
/// store that the tests of one mode share.
#[track_caller]
pub fn flask(who: Who) -> Option<TestEnv> {
    let env = match TestEnv::debian(who) {
        Ok(env) => env,
        Err(why) => {
            skip(&why);
            return None;
        }
    };
    let ca = ca_cert_args();
    let mut args: Vec<&str> = ca.iter().map(String::as_str).collect();
    args.extend(["-t", "flask"]);
    env.build(&env.context().testdata("flask"), &args).has("Successfully tagged flask:latest");
    Some(env)
}

fn the_flask_application(who: Who) {
    let Some(env) = flask(who) else { return };
    let ctx = env.context().testdata("flask");
    let again = env.build(&ctx, &["-t", "flask"]);
    assert_eq!(again.cached(), 7, "{again}");

    // Another hello.py: what was installed stays, the rest follows.
    let changed = env.context().testdata("flask");
    changed.write("hello.py", "print('changed')\n");
    let outcome = env.build(&changed, &["-t", "flask:changed"]);
    assert_eq!(outcome.cached(), 4, "{outcome}");
    env.run(&["flask:changed"]).ok().prints("changed\n");

    let ports = &env.inspect("flask")["Config"]["ExposedPorts"];
    assert!(ports.get("5000/tcp").is_some(), "{ports}");
    let ask = "import urllib.request as u, sys; sys.path.insert(0, '/tmp'); import hello; \
               print(hello.app.test_client().get('/hi').text)";
    env.run(&["flask", "python3", "-c", ask]).ok().prints("Hello World!\n");
}

#[test]
fn flask_as_root() {
    the_flask_application(Who::Root);
}

#[test]
fn flask_as_user() {
    the_flask_application(Who::User);
}

fn a_c_program_into_scratch(who: Who) {
    let env = match TestEnv::debian(who) {
        Ok(env) => env,
        Err(why) => return skip(&why),
    };
    env.build(&env.context().testdata("multistage-c"), &["-t", "hello-c"]);
    env.run(&["hello-c"]).ok().prints("hello, world\n");
    env.run(&["hello-c", "cook"]).ok().prints("hello, cook\n");
    let layers = env.inspect("hello-c")["RootFS"]["Layers"].as_array().map(Vec::len);
    assert_eq!(layers, Some(1), "only what was copied");
}

#[test]
fn multistage_c_as_root() {
    a_c_program_into_scratch(Who::Root);
}

#[test]
fn multistage_c_as_user() {
    a_c_program_into_scratch(Who::User);
}

both! {
    fn exec_entrypoint(env) {
        env.busybox();
        env.build(&env.context().testdata("cookbook/entrypoint"), &["-t", "hi"]);
        env.run(&["hi", "Hi", "Docker", "!"]).ok().prints("Hi Docker !\n");
    }

    fn exec_cmd_is_overridden(env) {
        env.busybox();
        let built = env.build(&env.context().testdata("cookbook/cmd"), &["-t", "hi"]);
        env.run(&["hi"]).ok().prints("Hi Docker !\n");
        env.run(&["hi", "/bin/date", "-d", "@0", "-u", "+%Y"]).ok().prints("1970\n");
        // An image's short id is as good as its name.
        env.run(&[built.built()]).ok().prints("Hi Docker !\n");
    }

    /// The forgotten `\`: nothing is built, and the message points at the line.
    fn the_optimised_form_without_its_backslash(env) {
        let outcome = env.try_build(&env.context().testdata("cookbook/broken"), &["-t", "never"]).fails();
        outcome.has("unknown instruction: python-pip").has("Dockerfile:4").has("python-pip").lacks("Step ");
        env.rbuild(&["images", "-aq"]).ok().prints("");
    }

    /// With its `\` it is the same program; the graph shows that it parses to its last line.
    fn the_optimised_form_parses(env) {
        env.rbuild(&["import", "-", "debian:bookworm"]).stdin(busybox_tar()).ok();
        let ctx = env.context().testdata("cookbook/optimised");
        env.rbuild(&["graph", "--format", "json", ctx.path()]).ok().has("ADD hello.py /tmp/hello.py");
    }
}

/// Makes a test of each story, as root and as an ordinary user, and one that none was forgotten.
macro_rules! stories {
    ($($name:ident)*) => {
        mod stories {
            use super::story::play;

            both! {$(
                fn $name(env) {
                    play(env, stringify!($name));
                }
            )*}
        }

        #[test]
        fn every_story_is_played() {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cookbook");
            let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let texts = files.filter(|path| path.extension().is_some_and(|end| end == "txt"));
            let mut there: Vec<String> =
                texts.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
            there.sort();
            let mut played = vec![$(stringify!($name)),*];
            played.sort_unstable();
            assert_eq!(there, played);
        }
    };
}

stories! {
    archives
    automation
    build
    changed
    containers
    exec
    health
    images
    login
    ports
    processes
    push_images
    registry
    registry_image
    restart
    trigger
    volumes
}
