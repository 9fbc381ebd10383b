//! Ctrl-C and SIGTERM at any moment: no process, mount, temporary file or lock is left.

use rustix::process::Signal;

use super::common::Caged;
use super::common::Context;
use super::common::TestEnv;

/// Four stages with steps that print, write, start children of their own and never end by themselves.
fn long_build(env: &TestEnv) -> Context<'_> {
    env.busybox();
    env.context()
        .file("f", "x".repeat(100_000))
        .file("Dockerfile",
            "FROM busybox:test AS a\nCOPY f /f\nRUN for i in 1 2 3; do echo a$i; done\nRUN echo steady-a; sleep 86400 & sleep 86400\n\
             FROM busybox:test AS b\nRUN for i in 1 2 3; do echo b$i > /b$i; echo b$i; done\nRUN echo steady-b; (setsid sleep 86400 &); trap '' TERM INT; while :; do sleep 86400; done\n\
             FROM scratch\nCOPY --from=a /f /f\nCOPY --from=b /b1 /b1\nCOPY --from=a /never /never\n")
}

both! {
    /// While the steps are in full swing; one ignores signals, both have children.
    fn signals_while_steps_run(env) {
        let ctx = long_build(env);
        for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
            let build = Caged::start(env, &env.rbuild(&["build", "-t", "never", ctx.path()]));
            build.wait_for("steady-a\n");
            build.wait_for("steady-b\n");
            build.signal(signal);
            let (found, said) = build.finish();
            assert_eq!(found, code, "{said}");
        }
        env.rbuild(&["inspect", "never"]).fails();
    }

    /// After each line of output, from none at all: start, imports of layers, steps, commits.
    fn signals_at_many_moments(env) {
        let ctx = long_build(env);
        for lines in 0..14 {
            let signal = if lines % 2 == 0 { Signal::INT } else { Signal::TERM };
            let build = Caged::start(env, &env.rbuild(&["build", "--no-cache", ctx.path()]));
            build.wait_for_lines(lines, &["steady-a\n", "steady-b\n"]);
            build.signal(signal);
            let (code, said) = build.finish();
            // 128 + the signal, whether it was handled or came before the handler was there.
            assert_eq!(code, 128 + signal.as_raw(), "after {lines} lines\n{said}");
        }
    }

    /// No lock is left: the same build goes on where the killed one was.
    fn the_next_build_is_not_held_up(env) {
        env.busybox();
        let host = env.context().file("wait", "yes");
        let ctx = env.dockerfile("FROM busybox:test\nRUN echo first > /one\nRUN echo steady; if grep yes /vol/wait; then sleep 86400; fi; echo do''ne\n");
        let volume = format!("{}:/vol:ro", host.path());
        for signal in [Signal::TERM, Signal::KILL] {
            let build = Caged::start(env, &env.rbuild(&["build", "-v", &volume, ctx.path()]));
            build.wait_for("steady\n");
            build.signal(signal);
            build.finish();
        }
        host.write("wait", "no");
        let outcome = env.build(&ctx, &["-v", &volume]);
        assert_eq!(outcome.cached(), 1, "what was done before the signal is kept\n{outcome}");
        outcome.ran("done");
    }

    fn run_ends_with_its_container(env) {
        env.busybox();
        let script = "(setsid sleep 86400 &); sleep 86400 & echo rea''dy; trap 'exit 3' TERM; wait";
        let run = Caged::start(env, &env.rbuild(&["run", "--rm", "busybox:test", "sh", "-c", script]));
        run.wait_for("ready\n");
        run.signal(Signal::TERM);
        assert_eq!(run.finish().0, 3);
    }

    fn a_build_that_ends_well_leaves_nothing(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test\nRUN sleep 86400 & echo do''ne\n");
        let build = Caged::start(env, &env.rbuild(&["build", "-t", "x", ctx.path()]));
        let (code, said) = build.finish();
        assert_eq!(code, 0, "{said}");
    }

    fn a_build_that_fails_leaves_nothing(env) {
        env.busybox();
        let ctx = env.dockerfile("FROM busybox:test AS a\nRUN echo no; exit 3\nFROM busybox:test AS b\nRUN sleep 86400\nFROM scratch\nCOPY --from=a /x /x\nCOPY --from=b /x /x\n");
        let build = Caged::start(env, &env.rbuild(&["build", ctx.path()]));
        let (code, said) = build.finish();
        assert_ne!(code, 0, "{said}");
    }
}
