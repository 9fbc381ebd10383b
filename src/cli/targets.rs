//! Which images a build is to make: stages and the names that go to each.
//!
//! Not here: what a name looks like (`build::parse_tag`).

use super::build::parse_tag;
use super::error::CommandError;
use crate::build::Wanted;

/// Pairs targets with names. With one target or none, all names are that image's. With several, a
/// name says whose it is, `STAGE=NAME`, or there is one for each, in the same order.
pub fn wanted(targets: &[String], tags: &[String]) -> Result<Vec<Wanted>, CommandError> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for target in targets {
        let known = |wanted: &Wanted| is(wanted, target);
        if !wanted.iter().any(known) {
            wanted.push(Wanted { target: Some(target.clone()), tags: Vec::new() });
        }
    }
    if wanted.is_empty() {
        wanted.push(Wanted::default());
    }
    let several = wanted.len() > 1;
    let mut plain = Vec::new();
    for tag in tags {
        // A reference has no `=`.
        match tag.split_once('=') {
            Some((stage, name)) => {
                let name = parse_tag(name)?;
                let Some(owner) = wanted.iter_mut().find(|wanted| is(wanted, stage)) else {
                    return Err(CommandError::usage(format!("`-t {tag}`: the stage `{stage}` is no target"))
                        .hint(format!("add `--target {stage}`")));
                };
                owner.tags.push(name);
            }
            None => plain.push(parse_tag(tag)?),
        }
    }
    if !several {
        wanted[0].tags.extend(plain);
    } else if plain.len() == wanted.len() {
        wanted.iter_mut().zip(plain).for_each(|(wanted, tag)| wanted.tags.push(tag));
    } else if let Some(first) = plain.first() {
        return Err(CommandError::usage(format!(
            "`-t {first}`: there are several targets, and it does not say whose name it is"
        ))
        .hint("write `-t STAGE=NAME[:TAG]`, or one name for each target, in the same order"));
    }
    Ok(wanted)
}

fn is(wanted: &Wanted, stage: &str) -> bool {
    wanted.target.as_deref().is_some_and(|target| target.eq_ignore_ascii_case(stage))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(targets: &[&str], tags: &[&str]) -> String {
        let own = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        match wanted(&own(targets), &own(tags)) {
            Err(error) => format!("error: {}", error.message),
            Ok(wanted) => {
                let one = |wanted: &Wanted| {
                    let tags: Vec<String> = wanted.tags.iter().map(ToString::to_string).collect();
                    format!("{}: {}", wanted.target.as_deref().unwrap_or("-"), tags.join(" "))
                };
                wanted.iter().map(one).collect::<Vec<_>>().join("; ")
            }
        }
    }

    #[test]
    fn names_find_their_targets() {
        assert_eq!(shown(&[], &[]), "-: ");
        assert_eq!(shown(&[], &["a", "b:1"]), "-: a:latest b:1");
        assert_eq!(shown(&["x"], &["a", "x=b"]), "x: b:latest a:latest");
        assert_eq!(shown(&["x", "y"], &["y=a", "X=b", "y=c"]), "x: b:latest; y: a:latest c:latest");
        assert_eq!(shown(&["x", "y"], &["a", "b"]), "x: a:latest; y: b:latest");
        assert_eq!(shown(&["x", "y", "x"], &[]), "x: ; y: ");
        assert!(shown(&["x", "y"], &["a"]).contains("does not say whose name it is"));
        assert!(shown(&["x", "y"], &["z=a"]).contains("the stage `z` is no target"));
        assert!(shown(&[], &["x=a"]).contains("is no target"));
        assert!(shown(&["x"], &["x=A"]).starts_with("error"));
    }
}
