//! What there is around this process: a container, and how steps are isolated in it.

use super::{Fact, Group};
use crate::sandbox::isolation::{ALLOW, Isolation, Surroundings};
use crate::sys::landlock;

/// Says whether this is a container, and how steps are isolated.
///
/// `namespaces` is why none can be had, if so; `isolation` what was chosen, if anything could be.
pub fn around(
    surroundings: &Surroundings,
    namespaces: Option<&str>,
    isolation: Option<Isolation>,
) -> Vec<Fact> {
    let seen = surroundings.container.as_ref();
    let container = match seen {
        Some(trace) => format!("this is one, as {trace} shows"),
        None => "no trace of one".to_owned(),
    };
    let why = namespaces.unwrap_or("asked for by `--isolation`");
    let isolation_is_lost = isolation.is_none();
    let isolation = match isolation {
        Some(Isolation::Namespaces) => Fact::new("isolation", true, "namespaces", ""),
        Some(Isolation::Chroot) => {
            let held = match landlock::version() {
                Some(version) => format!("with Landlock {version}"),
                None => "without Landlock".to_owned(),
            };
            let detail = format!("chroot, {held}, no namespaces: {why}");
            Fact::new("isolation", false, detail, ALLOW)
        }
        None => {
            let fix = match seen {
                _ if namespaces.is_none() => {
                    "leave `--isolation`, RBUILD_ISOLATION and build.isolation out".to_owned()
                }
                Some(_) if surroundings.root => {
                    format!("{ALLOW}; or, for a chroot, the capabilities {}", surroundings.missing.join(", "))
                }
                Some(_) => format!("{ALLOW}; or run it as the container's root"),
                None => "user namespaces, or root".to_owned(),
            };
            let why = namespaces.unwrap_or("a chroot is asked for, and only root can have one");
            Fact::new("isolation", false, format!("RUN steps cannot run here: {why}"), &fix)
        }
    };
    let isolation = Fact { required: isolation_is_lost, ..isolation };
    vec![
        Fact::new("container", true, container, "").of(Group::Kernel, "choosing how steps are isolated"),
        isolation.of(Group::Kernel, "RUN steps"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_says_what_to_do() {
        let inside = |root, missing: &[&'static str]| Surroundings {
            container: Some("`/.dockerenv`".into()),
            root,
            missing: missing.to_vec(),
        };
        let check = |at: Surroundings, isolation, detail: &str, fix: &str| {
            let facts = around(&at, Some("no way"), isolation);
            assert!(facts[1].detail.contains(detail), "{facts:?}");
            assert!(facts[1].fix.contains(fix) && facts[1].ok == facts[1].fix.is_empty(), "{facts:?}");
        };
        check(Surroundings::default(), Some(Isolation::Namespaces), "namespaces", "");
        check(inside(true, &[]), Some(Isolation::Chroot), "no namespaces: no way", "hostUsers: false");
        check(inside(true, &["MKNOD"]), None, "cannot run here: no way", "capabilities MKNOD");
        check(inside(false, &[]), None, "cannot run here", "the container's root");
        check(Surroundings::default(), None, "cannot run here", "user namespaces, or root");
    }
}
