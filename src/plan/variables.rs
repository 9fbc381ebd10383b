//! The variables of a stage: its ARGs in scope and the ENV of its config, found by name.
//!
//! Files of thousands of variables are looked up in as often as they have lines, so nothing
//! here walks over all of them but what returns all of them. Not here: what declares or
//! sets them (`config`), and the arguments above the first FROM (`scope`).

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use super::scope::NOT_ENVIRONMENT;

/// ARGs in order of their first declaration, with their values.
pub(super) type Args = Vec<(String, Option<String>)>;

/// ARG and ENV of one stage.
#[derive(Debug, Default)]
pub(super) struct Variables {
    args: Args,
    arg_at: HashMap<String, usize>,
    /// As in the config: `KEY=value`, in order.
    env: Vec<String>,
    env_at: HashMap<String, EnvPlace>,
    /// What a RUN sees: each variable once, by name, as `KEY=value`.
    visible: BTreeMap<String, Arc<str>>,
    /// The same as a list, until a variable changes.
    listed: Option<Arc<[Arc<str>]>>,
}

/// Where a name stands in the list of a config. A base may have it twice: then the first
/// is set anew and the last is read, as BuildKit does.
#[derive(Debug, Clone, Copy)]
struct EnvPlace {
    first: usize,
    /// The last that has a value.
    valued: Option<usize>,
}

impl Variables {
    /// Starts with the ARGs of the stage below and the ENV of its config.
    pub(super) fn new(args: Args, env: Vec<String>) -> Variables {
        let mut variables = Variables::default();
        for (name, value) in args {
            variables.declare(&name, value);
        }
        for entry in env {
            variables.push_env(entry);
        }
        variables
    }

    /// Returns what a stage built from this one starts with: ARGs and ENV.
    pub(super) fn into_parts(self) -> (Args, Vec<String>) {
        (self.args, self.env)
    }

    /// Returns the ARGs in scope.
    pub(super) fn args(&self) -> &[(String, Option<String>)] {
        &self.args
    }

    /// Tells whether an ARG is in scope, with or without a value.
    pub(super) fn is_declared(&self, name: &str) -> bool {
        self.arg_at.contains_key(name)
    }

    /// Returns the number of variables; what is both ARG and ENV counts twice.
    pub(super) fn count(&self) -> usize {
        self.args.len() + self.env.len()
    }

    /// Returns all names, those of ENV first.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let env = self.env.iter().filter_map(|entry| entry.split_once('=')).map(|(name, _)| name);
        env.chain(self.args.iter().map(|(name, _)| name.as_str()))
    }

    /// Returns the value of a variable: ENV comes before ARG, wherever they stand.
    ///
    /// So says the Dockerfile reference ("always override"), and so does buildah;
    /// BuildKit lets an ARG below an ENV win.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let arg = || self.args[*self.arg_at.get(name)?].1.as_deref();
        self.env_value(name).or_else(arg)
    }

    /// Returns the value that ENV gives a variable.
    pub(super) fn env_value(&self, name: &str) -> Option<&str> {
        let at = self.env_at.get(name)?.valued?;
        self.env[at].split_once('=').map(|(_, value)| value)
    }

    /// Declares an ARG; declared again without a value, it keeps the one it had.
    pub(super) fn declare(&mut self, name: &str, value: Option<String>) {
        let at = *self.arg_at.entry(name.to_owned()).or_insert_with(|| {
            self.args.push((name.to_owned(), None));
            self.args.len() - 1
        });
        if value.is_some() {
            self.args[at].1 = value;
        }
        self.show(name);
    }

    /// Sets a variable of ENV; one that is there keeps its place.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        match self.env_at.get_mut(name) {
            Some(place) => {
                self.env[place.first] = entry;
                place.valued.get_or_insert(place.first);
                self.show(name);
            }
            None => self.push_env(entry),
        }
    }

    fn push_env(&mut self, entry: String) {
        let at = self.env.len();
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name).to_owned();
        let valued = entry.contains('=').then_some(at);
        let place = self.env_at.entry(name.clone()).or_insert(EnvPlace { first: at, valued });
        place.valued = valued.or(place.valued);
        self.env.push(entry);
        self.show(&name);
    }

    /// Makes what a RUN sees of a variable true again.
    fn show(&mut self, name: &str) {
        let set = self.env_at.contains_key(name);
        if !set && NOT_ENVIRONMENT.contains(&name) {
            return;
        }
        let value = if set { Some(self.env_value(name).unwrap_or_default()) } else { self.value(name) };
        if let Some(value) = value {
            let entry = Arc::from(format!("{name}={value}"));
            self.visible.insert(name.to_owned(), entry);
            self.listed = None;
        }
    }

    /// Tells whether a RUN sees a variable.
    pub(super) fn is_visible(&self, name: &str) -> bool {
        self.visible.contains_key(name)
    }

    /// Returns what a RUN sees: ENV, and the ARGs that no ENV hides. As `KEY=value`, by name.
    ///
    /// RUNs between which no variable changes share one list.
    pub(super) fn environment(&mut self) -> Arc<[Arc<str>]> {
        let list = || self.visible.values().cloned().collect();
        self.listed.get_or_insert_with(list).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(args: &[(&str, Option<&str>)], env: &[&str]) -> Variables {
        let args = args.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)));
        Variables::new(args.collect(), env.iter().map(|entry| (*entry).to_owned()).collect())
    }

    #[test]
    fn env_hides_arg() {
        let mut found = variables(&[("A", Some("arg")), ("B", None)], &["A=env"]);
        assert_eq!((found.value("A"), found.value("B"), found.value("C")), (Some("env"), None, None));
        found.declare("A", Some("again".to_owned()));
        assert_eq!(found.value("A"), Some("env"));
        found.set_env("B", "set");
        assert_eq!((found.value("B"), found.is_declared("B")), (Some("set"), true));
        assert_eq!(found.names().collect::<Vec<_>>(), ["A", "B", "A", "B"]);
    }

    #[test]
    fn an_argument_keeps_its_value_and_its_place() {
        let mut found = variables(&[("A", Some("1")), ("B", Some("2"))], &[]);
        found.declare("A", None);
        found.declare("A", Some("3".to_owned()));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found.args(), [("A".to_owned(), some("3")), ("B".to_owned(), some("2"))]);
    }

    #[test]
    fn a_name_that_a_base_has_twice() {
        let mut found = variables(&[], &["A=1", "B", "A=2"]);
        assert_eq!((found.value("A"), found.value("B")), (Some("2"), None));
        found.set_env("A", "3");
        found.set_env("B", "4");
        assert_eq!((found.value("A"), found.value("B")), (Some("2"), Some("4")));
        assert_eq!(found.into_parts().1, ["A=3", "B=4", "A=2"]);
    }

    #[test]
    fn what_a_run_sees() {
        let mut found = variables(&[("C", Some("3")), ("N", None)], &["B=2", "A", "PATH=/bin"]);
        let list = |found: &mut Variables| {
            found.environment().iter().map(|entry| entry.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(list(&mut found), ["A=", "B=2", "C=3", "PATH=/bin"]);
        found.declare("BUILDKIT_SBOM_SCAN_STAGE", Some("x".to_owned()));
        found.set_env("C", "4");
        assert_eq!(list(&mut found), ["A=", "B=2", "C=4", "PATH=/bin"]);
        assert!(found.is_visible("A") && !found.is_visible("N"));
    }

    #[test]
    fn runs_share_a_list() {
        let mut found = variables(&[], &["A=1"]);
        let first = found.environment();
        assert!(Arc::ptr_eq(&first, &found.environment()));
        found.set_env("A", "2");
        assert!(!Arc::ptr_eq(&first, &found.environment()));
    }
}
