//! The sources of a COPY or ADD by where they come from: runs of the same input, in order.
//!
//! What a later source writes replaces what an earlier one wrote, so their order is kept. Not here:
//! finding the files (`context`), writing them (`copy`).

use crate::context::Source;
use crate::plan::graph::{CopyOp, CopySource};

/// Sources that stand together and come from one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The place of the input in the vertex's list; `None` where all sources are inline.
    pub input: Option<usize>,
    pub sources: Vec<Source>,
    /// Whether archives among them are unpacked.
    pub unpack: bool,
}

/// Groups the sources of an operation.
pub fn groups(op: &CopyOp) -> Vec<Group> {
    let local = op.unpack.unwrap_or(op.add);
    let mut groups: Vec<Group> = Vec::new();
    for source in &op.sources {
        let (input, unpack, source) = match source {
            CopySource::Path { input, path } => (Some(*input), local, Source::Path(path.clone())),
            CopySource::Download { input, name } => {
                (Some(*input), op.unpack == Some(true), Source::Path(literal(name)))
            }
            CopySource::Inline { name, data } => {
                let inline = Source::Inline { name: name.clone(), data: data.clone() };
                // It reads no input: it goes with whatever stands before it.
                match groups.last_mut() {
                    Some(group) => group.sources.push(inline),
                    None => groups.push(Group { input: None, sources: vec![inline], unpack: local }),
                }
                continue;
            }
        };
        match groups.last_mut() {
            Some(group) if group.input == input && group.unpack == unpack => group.sources.push(source),
            Some(group) if group.input.is_none() => {
                group.input = input;
                group.unpack = unpack;
                group.sources.push(source);
            }
            _ => groups.push(Group { input, sources: vec![source], unpack }),
        }
    }
    groups
}

/// Returns the pattern that matches a name and nothing else.
pub fn literal(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(sources: Vec<CopySource>, unpack: Option<bool>) -> String {
        let op = CopyOp {
            add: true,
            sources,
            destination: "/".into(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
            unpack,
            source_date_epoch: None,
        };
        let group = |group: &Group| {
            let names = group.sources.iter().map(|source| match source {
                Source::Path(path) => path.clone(),
                Source::Inline { name, .. } => format!("<<{name}"),
            });
            let input = group.input.map_or("-".to_owned(), |input| input.to_string());
            let unpack = if group.unpack { "+" } else { "" };
            format!("{input}{unpack}: {}", names.collect::<Vec<_>>().join(" "))
        };
        groups(&op).iter().map(group).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn keeps_runs_of_one_input_together() {
        let path = |input, path: &str| CopySource::Path { input, path: path.to_owned() };
        let inline = |name: &str| CopySource::Inline { name: name.to_owned(), data: String::new() };
        let download = |input, name: &str| CopySource::Download { input, name: name.to_owned() };
        assert_eq!(shown(vec![path(1, "a"), path(1, "b")], None), "1+: a b");
        assert_eq!(shown(vec![path(1, "a")], Some(false)), "1: a");
        assert_eq!(shown(vec![inline("E")], None), "-+: <<E");
        assert_eq!(shown(vec![inline("E"), path(1, "a"), inline("F")], None), "1+: <<E a <<F");
        assert_eq!(
            shown(vec![path(1, "a"), download(2, "x[1]"), path(1, "b")], None),
            "1+: a; 2: x\\[1]; 1+: b"
        );
        assert_eq!(shown(vec![download(1, "x")], Some(true)), "1+: x");
    }
}
