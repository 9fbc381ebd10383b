//! Go templates, as much of them as `--format` and `inspect -f` use.
//!
//! Fields, variables, pipelines, `if`/`else if`/`else`, `range`, `with`, the
//! comparison and boolean functions, and docker's own (`json`, `join`, `split`,
//! `upper`, `lower`, `title`, `println`, `truncate`, ...). Values are JSON and
//! print as Go's `%v` prints them. Source: Go's text/template documentation and
//! docker's "Format command and log output" page.
//!
//! Go's types know more than JSON: which fields there are though a value lacks them, and how an
//! empty one prints. A [`Shape`] says so.
//!
//! Here: the tree and its evaluation; `parse` makes it, `functions` has what it calls, `shape` the types.

mod functions;
mod parse;
mod shape;

use std::collections::HashMap;

use serde_json::Value;

use functions::{call, show, truth};
pub use shape::{Ordered, Shape, Zero, ordered};

/// Says what is wrong with a template, or with using it on a value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    #[error("template parsing error: {0}")]
    Parse(String),
    #[error("template execution error: {0}")]
    Run(String),
}

/// A parsed template.
#[derive(Debug)]
pub struct Template(Vec<Node>);

#[derive(Debug)]
enum Node {
    Text(String),
    Print(Pipeline),
    If(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
    Range(Option<(Option<String>, String)>, Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Assign(String, Pipeline),
    Leave(Flow),
}

/// How a list of nodes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Done,
    Break,
    Continue,
}

#[derive(Debug)]
struct Pipeline(Vec<Command>);

/// A function or value with its arguments.
#[derive(Debug)]
struct Command(Vec<Term>);

#[derive(Debug)]
enum Term {
    /// `.A.B` from the dot.
    Field(Vec<String>),
    /// `$x.A`; the name is empty for `$`.
    Variable(String, Vec<String>),
    Literal(Value),
    Function(String),
    Nested(Pipeline, Vec<String>),
}

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        parse::parse(text).map(Template)
    }

    /// Applies the template to a value.
    pub fn render(&self, value: &Value) -> Result<String, TemplateError> {
        self.render_as(value, &Shape::default())
    }

    /// Applies the template to a value of which more is known than its JSON says.
    pub fn render_as(&self, value: &Value, shape: &Shape) -> Result<String, TemplateError> {
        self.run(value, shape, &|_, _| None)
    }

    /// Applies the template to a value that has methods.
    pub fn render_with(&self, value: &Value, methods: &Methods<'_>) -> Result<String, TemplateError> {
        self.run(value, &Shape::default(), methods)
    }

    fn run(&self, value: &Value, shape: &Shape, methods: &Methods<'_>) -> Result<String, TemplateError> {
        let mut run = Run { root: value, shape, methods, variables: HashMap::new(), out: String::new() };
        match run.nodes(&self.0, value)? {
            Flow::Done => Ok(run.out),
            _ => Err(TemplateError::Run("break and continue are for the inside of range".to_owned())),
        }
    }
}

/// What a value answers when a template asks it `.Name "argument"`; `None` for what it has no method of.
pub type Methods<'a> = dyn Fn(&str, &[Value]) -> Option<Value> + 'a;

struct Run<'a> {
    root: &'a Value,
    shape: &'a Shape,
    methods: &'a Methods<'a>,
    variables: HashMap<String, Value>,
    out: String,
}

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        for node in nodes {
            let flow = match node {
                Node::Leave(flow) => *flow,
                Node::Text(text) => {
                    self.out.push_str(text);
                    Flow::Done
                }
                Node::Print(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    let shown = names(pipeline).and_then(|names| self.shape.show(names, &value));
                    self.out.push_str(&shown.unwrap_or_else(|| show(&value, true)));
                    Flow::Done
                }
                Node::Assign(name, pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    self.variables.insert(name.clone(), value);
                    Flow::Done
                }
                Node::If(branches, otherwise) => {
                    let mut taken = otherwise;
                    for (condition, body) in branches {
                        if truth(&self.pipeline(condition, dot)?) {
                            taken = body;
                            break;
                        }
                    }
                    self.nodes(taken, dot)?
                }
                Node::With(pipeline, body, otherwise) => {
                    let value = self.pipeline(pipeline, dot)?;
                    match truth(&value) {
                        true => self.nodes(body, &value)?,
                        false => self.nodes(otherwise, dot)?,
                    }
                }
                Node::Range(variables, pipeline, body, otherwise) => {
                    let items: Vec<(Value, Value)> = match self.pipeline(pipeline, dot)? {
                        Value::Array(items) => {
                            items.into_iter().enumerate().map(|(i, v)| (Value::from(i), v)).collect()
                        }
                        Value::Object(map) => map.into_iter().map(|(k, v)| (Value::String(k), v)).collect(),
                        Value::Null => Vec::new(),
                        other => {
                            return Err(TemplateError::Run(format!(
                                "range can't iterate over {}",
                                show(&other, false)
                            )));
                        }
                    };
                    let mut flow = Flow::Done;
                    if items.is_empty() {
                        flow = self.nodes(otherwise, dot)?;
                    }
                    for (key, value) in items {
                        if let Some((key_name, value_name)) = variables {
                            if let Some(name) = key_name {
                                self.variables.insert(name.clone(), key);
                            }
                            self.variables.insert(value_name.clone(), value.clone());
                        }
                        if self.nodes(body, &value)? == Flow::Break {
                            break;
                        }
                    }
                    flow
                }
            };
            if flow != Flow::Done {
                return Ok(flow);
            }
        }
        Ok(Flow::Done)
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut carried = None;
        for command in &pipeline.0 {
            carried = Some(self.command(command, carried, dot)?);
        }
        Ok(carried.unwrap_or(Value::Null))
    }

    fn command(
        &self,
        command: &Command,
        carried: Option<Value>,
        dot: &Value,
    ) -> Result<Value, TemplateError> {
        let Some((first, rest)) = command.0.split_first() else { return Ok(Value::Null) };
        let Term::Function(name) = first else {
            if !rest.is_empty() || carried.is_some() {
                if let Term::Field(names) = first
                    && let [name] = &names[..]
                {
                    let given = rest.iter().map(|term| self.term(term, dot)).chain(carried.map(Ok));
                    if let Some(answer) = (self.methods)(name, &given.collect::<Result<Vec<_>, _>>()?) {
                        return Ok(answer);
                    }
                }
                return Err(TemplateError::Run("can't give argument to non-function".to_owned()));
            }
            return self.term(first, dot);
        };
        if matches!(name.as_str(), "and" | "or") {
            // They end at the first that decides, so that the others may be wrong.
            let mut last = None;
            for term in rest {
                let value = self.term(term, dot)?;
                if truth(&value) == (name == "or") {
                    return Ok(value);
                }
                last = Some(value);
            }
            return call(name, last.into_iter().chain(carried).collect());
        }
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for term in rest {
            arguments.push(self.term(term, dot)?);
        }
        arguments.extend(carried);
        match (name.as_str(), &arguments[..]) {
            ("json", [value]) => Ok(Value::String(ordered(value, self.shape.order))),
            _ => call(name, arguments),
        }
    }

    fn term(&self, term: &Term, dot: &Value) -> Result<Value, TemplateError> {
        match term {
            Term::Literal(value) => Ok(value.clone()),
            Term::Field(names) => self.shape.lookup(dot, names),
            Term::Variable(name, fields) if name.is_empty() => self.shape.lookup(self.root, fields),
            Term::Variable(name, fields) => match self.variables.get(name) {
                Some(value) => self.shape.lookup(value, fields),
                None => Err(TemplateError::Run(format!("undefined variable \"${name}\""))),
            },
            Term::Nested(inner, fields) => self.shape.lookup(&self.pipeline(inner, dot)?, fields),
            Term::Function(name) => call(name, Vec::new()),
        }
    }
}

/// Returns the names that lead to the field that a pipeline is, if it is just that.
fn names(pipeline: &Pipeline) -> Option<&[String]> {
    match &pipeline.0[..] {
        [Command(terms)] => match &terms[..] {
            [Term::Field(names) | Term::Variable(_, names) | Term::Nested(_, names)] => Some(names),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value() -> Value {
        json!({
            "ID": "sha256:abc", "N": 3, "Yes": true, "None": null, "List": ["a", "b"],
            "Map": {"80/tcp": {}, "k": "v"}, "Config": {"Env": ["A=1", "B=2"], "Cmd": null},
            "Objects": [{"x": 1}, {"x": 2}],
        })
    }

    fn render(template: &str) -> Result<String, TemplateError> {
        Template::parse(template)?.render(&value())
    }

    #[track_caller]
    fn check(template: &str, expect: &str) {
        assert_eq!(render(template).as_deref(), Ok(expect), "{template}");
    }

    #[test]
    fn fields_and_values_print_as_go_prints_them() {
        check("{{.ID}} {{.N}} {{.Yes}}", "sha256:abc 3 true");
        check("{{.List}}|{{.Map}}|{{.None}}", "[a b]|map[80/tcp:{} k:v]|<no value>");
        check("{{.Config.Env}} {{ .Config.Cmd }}", "[A=1 B=2] <no value>");
        check("a{{- /* c */ -}} b", "ab");
        check("x {{- .N -}} y", "x3y");
        check("{{\"}}\"}}", "}}");
    }

    #[test]
    fn functions() {
        check("{{json .List}}", r#"["a","b"]"#);
        check("{{join .List \", \"}}", "a, b");
        check("{{.List | len}} {{index .List 1}} {{index .Map \"k\"}}", "2 b v");
        check("{{upper .ID}} {{title \"ab cd\"}} {{truncate .ID 3}}", "SHA256:ABC Ab Cd sha");
        check("{{printf \"%-5s|%5d|%q\" \"a\" 7 \"x\"}}", "a    |    7|\"x\"");
        check("{{(index .Objects 1).x}}", "2");
        check("{{split \"a:b\" \":\"}}", "[a b]");
        check("{{slice .ID 7}}", "abc");
        check("{{println .N}}", "3\n");
    }

    #[test]
    fn control() {
        check("{{if .Yes}}y{{else}}n{{end}}{{if .None}}y{{else if eq .N 3}}three{{else}}n{{end}}", "ythree");
        check("{{range .List}}<{{.}}>{{end}}", "<a><b>");
        check("{{range $i, $v := .List}}{{$i}}={{$v}};{{end}}", "0=a;1=b;");
        check("{{range $k, $v := .Map}}{{$k}} {{end}}", "80/tcp k ");
        check("{{range .None}}x{{else}}empty{{end}}", "empty");
        check("{{with .Config}}{{.Env}}{{end}}{{with .None}}x{{else}}-{{end}}", "[A=1 B=2]-");
        check("{{$x := .N}}{{if and (gt $x 2) (not .None)}}ok{{end}} {{$.ID}}", "ok sha256:abc");
        check("{{or .None \"z\"}}{{ne .N 4}}", "ztrue");
        check("{{or .Yes (index .List 9)}} {{and .None (index .List 9)}}", "true <no value>");
        check("{{json .}}{{with .Map}}{{json .}}{{end}}", &format!("{}{}", value(), value()["Map"]));
    }

    #[test]
    fn values_have_methods() {
        let methods = |name: &str, given: &[Value]| match (name, given) {
            ("Label", [Value::String(key)]) => Some(json!(format!("<{key}>"))),
            _ => None,
        };
        let render = |text: &str| Template::parse(text).unwrap().render_with(&value(), &methods);
        assert_eq!(render("{{.Label \"a\"}}{{\"b\" | .Label}} {{.N}}").as_deref(), Ok("<a><b> 3"));
        assert_eq!(render("{{if eq (.Label \"a\") \"<a>\"}}y{{end}}").as_deref(), Ok("y"));
        assert!(render("{{.Label 1}}").is_err() && render("{{.Other \"a\"}}").is_err());
    }

    #[test]
    fn what_people_ask_of_containers() {
        let value = json!({
            "Id": "0123456789abcdef", "Name": "/web", "Args": ["-c", "x"],
            "State": {"Status": "running", "Running": true, "ExitCode": 0},
            "Config": {"Labels": {"com.example.team": "a"}, "Env": ["A=1", "B=2"]},
            "Mounts": [{"Source": "/s", "Destination": "/d", "RW": true}],
            "NetworkSettings": {
                "IPAddress": "", "Networks": {"bridge": {"IPAddress": "10.0.0.2"}},
                "Ports": {"443/tcp": null, "8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}]},
            },
        });
        let check = |text: &str, expect: &str| {
            assert_eq!(Template::parse(text).and_then(|t| t.render(&value)).as_deref(), Ok(expect), "{text}");
        };
        check("{{.State.ExitCode}} {{.State.Running}} {{.Name}}", "0 true /web");
        check(r#"{{(index (index .NetworkSettings.Ports "8080/tcp") 0).HostPort}}"#, "32768");
        check(
            r#"{{range $p, $conf := .NetworkSettings.Ports}}{{if $conf}}{{$p}} -> {{(index $conf 0).HostPort}} {{end}}{{end}}"#,
            "8080/tcp -> 32768 ",
        );
        check(
            r#"{{range $p,$c:=.NetworkSettings.Ports}}{{with $c}}{{(index . 0).HostIp}}{{end}}{{end}}"#,
            "127.0.0.1",
        );
        check("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "10.0.0.2");
        check(r#"{{.NetworkSettings.Networks.bridge.IPAddress}}"#, "10.0.0.2");
        check(r#"{{with index .NetworkSettings.Ports "8080/tcp"}}{{(index . 0).HostPort}}{{end}}"#, "32768");
        check(r#"{{with (index .NetworkSettings.Ports "443/tcp")}}x{{else}}closed{{end}}"#, "closed");
        check(r#"{{index .Config.Labels "com.example.team"}}"#, "a");
        check("{{range .Mounts}}{{println .Source .Destination}}{{end}}", "/s /d\n");
        check(r#"{{range .Mounts}}{{.Source}}:{{.Destination}}{{"\n"}}{{end}}"#, "/s:/d\n");
        check(r#"{{slice .Id 0 12}} {{.Id | printf "%.5s"}} {{truncate .Id 3}}"#, "0123456789ab 01234 012");
        check(r#"{{range $i, $e := .Config.Env}}{{if $i}},{{end}}{{$e}}{{end}}"#, "A=1,B=2");
        check(r#"{{join .Args " "}} {{.Args}} {{json .State.Status}}"#, "-c x [-c x] \"running\"");
        check("{{if and .State.Running (eq .State.ExitCode 0)}}ok{{end}}", "ok");
        check(r#"{{if not (eq .State.Status "exited")}}{{$n := len .Mounts}}{{$n}}{{end}}"#, "1");
        check("{{- range .Mounts -}}\n {{ .RW }}\n{{- end -}}", "true");
        check(r#"{{range .Config.Env}}{{if eq . "B=2"}}{{continue}}{{end}}{{.}}{{end}}"#, "A=1");
        check(r#"{{range .Config.Env}}{{.}}{{break}}{{end}}"#, "A=1");
        check(r#"{{with .Config}}{{with $.State}}{{.Status}}{{end}}{{end}}"#, "running");
        check(r#"{{$x := 1}}{{range .Config.Env}}{{$x = .}}{{end}}{{$x}}"#, "B=2");
    }

    #[test]
    fn errors_are_said() {
        for bad in [
            "{{",
            "{{.A",
            "{{nosuch .}}",
            "{{if .N}}",
            "{{end}}",
            "{{.N | }}",
            "{{(.N}}",
            "{{.N)}}",
            "{{\"a}}",
            "{{@}}",
            "{{}}",
        ] {
            assert!(matches!(Template::parse(bad), Err(TemplateError::Parse(_))), "{bad}");
        }
        for bad in [
            "{{.Nope}}",
            "{{.ID.x}}",
            "{{index .List 9}}",
            "{{$q}}",
            "{{.ID 1}}",
            "{{len .N}}",
            "{{break}}",
            "{{if .N}}{{continue}}{{end}}",
            "{{range .N}}{{end}}",
        ] {
            assert!(matches!(render(bad), Err(TemplateError::Run(_))), "{bad}");
        }
        assert!(Template::parse(&format!("{{{{{}}}}}", "(".repeat(100_000))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "(\\{\\{|\\}\\}|\\.|[a-z$|()\" :=,-]|range|if|end|else|len|index|printf){0,30}") {
            if let Ok(template) = Template::parse(&text) {
                let _ = template.render(&json!({"a": [1, {"b": "c"}]}));
            }
        }
    }
}
