//! From a template's text to its tree: actions, tokens, blocks, pipelines.

use serde_json::Value;

use super::{Command, Flow, Node, Pipeline, TemplateError, Term};

/// Parses a template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { tokens: split_actions(text)?, at: 0 };
    match parser.block()? {
        (nodes, None) => Ok(nodes),
        (_, Some(word)) => Err(TemplateError::Parse(format!("unexpected {{{{{word}}}}}"))),
    }
}

enum Piece {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Literal(Value),
    Pipe,
    Open,
    /// `)` and the fields that follow it.
    Close(Vec<String>),
    Declare,
    Comma,
}

fn split_actions(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim_next = false;
    while let Some(open) = rest.find("{{") {
        let mut before = &rest[..open];
        let after = &rest[open + 2..];
        let close = find_close(after).ok_or_else(|| TemplateError::Parse("unclosed action".to_owned()))?;
        let mut action = &after[..close];
        if std::mem::take(&mut trim_next) {
            before = before.trim_start();
        }
        if let Some(inner) = action.strip_prefix("- ") {
            before = before.trim_end();
            action = inner;
        }
        if let Some(inner) = action.strip_suffix(" -") {
            trim_next = true;
            action = inner;
        }
        pieces.push(Piece::Text(before.to_owned()));
        let action = action.trim();
        if !action.starts_with("/*") {
            pieces.push(Piece::Action(tokens(action)?));
        }
        rest = &after[close + 2..];
    }
    let tail = if trim_next { rest.trim_start() } else { rest };
    pieces.push(Piece::Text(tail.to_owned()));
    Ok(pieces)
}

/// Finds the `}}` that ends an action, outside of quotes.
fn find_close(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quote = None;
    let mut i = 0;
    while i < bytes.len() {
        match (quote, bytes[i]) {
            (Some(b'"'), b'\\') => i += 1,
            (Some(q), b) if q == b => quote = None,
            (None, b @ (b'"' | b'`')) => quote = Some(b),
            (None, b'}') if bytes.get(i + 1) == Some(&b'}') => return Some(i),
            _ => {}
        }
        i += 1;
    }
    None
}

fn tokens(action: &str) -> Result<Vec<Token>, TemplateError> {
    let mut out = Vec::new();
    let chars: Vec<char> = action.chars().collect();
    let mut i = 0;
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let fields = |i: &mut usize| {
        let mut names = Vec::new();
        while *i + 1 < chars.len() && chars[*i] == '.' && is_name(chars[*i + 1]) {
            let start = *i + 1;
            *i = start;
            while *i < chars.len() && is_name(chars[*i]) {
                *i += 1;
            }
            names.push(chars[start..*i].iter().collect());
        }
        names
    };
    while i < chars.len() {
        match chars[i] {
            c if c.is_whitespace() => i += 1,
            '|' => {
                out.push(Token::Pipe);
                i += 1;
            }
            '(' => {
                out.push(Token::Open);
                i += 1;
            }
            ')' => {
                i += 1;
                out.push(Token::Close(fields(&mut i)));
            }
            ',' => {
                out.push(Token::Comma);
                i += 1;
            }
            ':' | '=' => {
                i += if chars[i] == ':' && chars.get(i + 1) == Some(&'=') { 2 } else { 1 };
                out.push(Token::Declare);
            }
            '.' => {
                let names = fields(&mut i);
                if names.is_empty() {
                    i += 1;
                }
                out.push(Token::Field(names));
            }
            '$' => {
                let start = i + 1;
                i = start;
                while i < chars.len() && is_name(chars[i]) {
                    i += 1;
                }
                let name = chars[start..i].iter().collect();
                out.push(Token::Variable(name, fields(&mut i)));
            }
            quote @ ('"' | '`') => {
                let start = i;
                i += 1;
                while i < chars.len() && chars[i] != quote {
                    i += if quote == '"' && chars[i] == '\\' { 2 } else { 1 };
                }
                if i >= chars.len() {
                    return Err(TemplateError::Parse("unterminated quoted string".to_owned()));
                }
                i += 1;
                let text: String = chars[start..i].iter().collect();
                let value = match quote {
                    '`' => Value::String(text[1..text.len() - 1].to_owned()),
                    _ => serde_json::from_str(&text)
                        .map_err(|_| TemplateError::Parse(format!("bad string {text}")))?,
                };
                out.push(Token::Literal(value));
            }
            c if c.is_ascii_digit() || c == '-' => {
                let start = i;
                i += 1;
                while i < chars.len() && (chars[i].is_ascii_digit() || chars[i] == '.') {
                    i += 1;
                }
                let text: String = chars[start..i].iter().collect();
                let value: Value = serde_json::from_str(&text)
                    .map_err(|_| TemplateError::Parse(format!("bad number syntax: {text}")))?;
                out.push(Token::Literal(value));
            }
            c if is_name(c) => {
                let start = i;
                while i < chars.len() && is_name(chars[i]) {
                    i += 1;
                }
                out.push(Token::Word(chars[start..i].iter().collect()));
            }
            c => return Err(TemplateError::Parse(format!("unexpected {c:?} in command"))),
        }
    }
    Ok(out)
}

struct Parser {
    tokens: Vec<Piece>,
    at: usize,
}

/// What ended a block: `end`, `else`, or `else` with a condition.
type BlockEnd = Option<String>;

impl Parser {
    /// Reads nodes up to `end`, `else` or the end of the text.
    fn block(&mut self) -> Result<(Vec<Node>, BlockEnd), TemplateError> {
        let mut nodes = Vec::new();
        while self.at < self.tokens.len() {
            let piece = std::mem::replace(&mut self.tokens[self.at], Piece::Text(String::new()));
            self.at += 1;
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let rest = || tokens[1..].to_vec();
            match tokens.first() {
                None => return Err(TemplateError::Parse("missing value for command".to_owned())),
                Some(Token::Word(word)) if word == "end" => return Ok((nodes, Some("end".to_owned()))),
                Some(Token::Word(word)) if word == "else" => {
                    // `else if` is put back as an `if` of its own, whose end is shared.
                    let end = if tokens.len() > 1 { "else if" } else { "else" };
                    if tokens.len() > 1 {
                        self.at -= 1;
                        self.tokens[self.at] = Piece::Action(rest());
                    }
                    return Ok((nodes, Some(end.to_owned())));
                }
                Some(Token::Word(word)) if word == "break" && tokens.len() == 1 => {
                    nodes.push(Node::Leave(Flow::Break));
                }
                Some(Token::Word(word)) if word == "continue" && tokens.len() == 1 => {
                    nodes.push(Node::Leave(Flow::Continue));
                }
                Some(Token::Word(word)) if word == "if" => nodes.push(self.conditional(rest())?),
                Some(Token::Word(word)) if word == "range" => {
                    let mut tokens = rest();
                    let variables = match tokens.iter().position(|t| *t == Token::Declare) {
                        None => None,
                        Some(at) => {
                            let names: Vec<String> = tokens
                                .drain(..=at)
                                .filter_map(|t| match t {
                                    Token::Variable(name, _) => Some(name),
                                    _ => None,
                                })
                                .collect();
                            match &names[..] {
                                [value] => Some((None, value.clone())),
                                [key, value] => Some((Some(key.clone()), value.clone())),
                                _ => return Err(TemplateError::Parse("bad range clause".to_owned())),
                            }
                        }
                    };
                    let pipeline = pipeline(tokens)?;
                    let (body, otherwise) = self.body_and_else("range")?;
                    nodes.push(Node::Range(variables, pipeline, body, otherwise));
                }
                Some(Token::Word(word)) if word == "with" => {
                    let pipeline = pipeline(rest())?;
                    let (body, otherwise) = self.body_and_else("with")?;
                    nodes.push(Node::With(pipeline, body, otherwise));
                }
                Some(Token::Variable(name, fields))
                    if fields.is_empty() && tokens.get(1) == Some(&Token::Declare) =>
                {
                    nodes.push(Node::Assign(name.clone(), pipeline(tokens[2..].to_vec())?));
                }
                Some(_) => nodes.push(Node::Print(pipeline(tokens)?)),
            }
        }
        Ok((nodes, None))
    }

    fn conditional(&mut self, condition: Vec<Token>) -> Result<Node, TemplateError> {
        let condition = pipeline(condition)?;
        let (body, end) = self.block()?;
        match end.as_deref() {
            Some("end") => Ok(Node::If(vec![(condition, body)], Vec::new())),
            Some("else") => match self.block()? {
                (otherwise, Some(end)) if end == "end" => Ok(Node::If(vec![(condition, body)], otherwise)),
                _ => Err(TemplateError::Parse("unexpected EOF: if without end".to_owned())),
            },
            Some(_) => {
                let (inner, _) = self.next_if()?;
                Ok(Node::If(vec![(condition, body)], vec![inner]))
            }
            None => Err(TemplateError::Parse("unexpected EOF: if without end".to_owned())),
        }
    }

    fn next_if(&mut self) -> Result<(Node, ()), TemplateError> {
        let piece = std::mem::replace(&mut self.tokens[self.at], Piece::Text(String::new()));
        self.at += 1;
        match piece {
            Piece::Action(tokens) if tokens.first() == Some(&Token::Word("if".to_owned())) => {
                Ok((self.conditional(tokens[1..].to_vec())?, ()))
            }
            _ => Err(TemplateError::Parse("expected end; found else with an unknown word".to_owned())),
        }
    }

    fn body_and_else(&mut self, what: &str) -> Result<(Vec<Node>, Vec<Node>), TemplateError> {
        let unfinished = || TemplateError::Parse(format!("unexpected EOF: {what} without end"));
        match self.block()? {
            (body, Some(end)) if end == "end" => Ok((body, Vec::new())),
            (body, Some(end)) if end == "else" => match self.block()? {
                (otherwise, Some(end)) if end == "end" => Ok((body, otherwise)),
                _ => Err(unfinished()),
            },
            _ => Err(unfinished()),
        }
    }
}

fn pipeline(tokens: Vec<Token>) -> Result<Pipeline, TemplateError> {
    let mut tokens = tokens.into_iter().peekable();
    let result = nested_pipeline(&mut tokens, 0)?;
    match tokens.next() {
        None => Ok(result.0),
        Some(_) => Err(TemplateError::Parse("unexpected right paren".to_owned())),
    }
}

/// How deep parentheses may nest: the parser calls itself for each.
const DEEPEST: usize = 100;

fn nested_pipeline(
    tokens: &mut std::iter::Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
) -> Result<(Pipeline, Vec<String>), TemplateError> {
    if depth > DEEPEST {
        return Err(TemplateError::Parse("too many nested parentheses".to_owned()));
    }
    let mut commands = Vec::new();
    let mut terms = Vec::new();
    let mut trailing = Vec::new();
    loop {
        match tokens.next() {
            None => {
                if depth > 0 {
                    return Err(TemplateError::Parse("unclosed left paren".to_owned()));
                }
                break;
            }
            Some(Token::Close(_)) if depth == 0 => {
                return Err(TemplateError::Parse("unexpected right paren".to_owned()));
            }
            Some(Token::Close(fields)) => {
                trailing = fields;
                break;
            }
            Some(Token::Pipe) => commands.push(Command(std::mem::take(&mut terms))),
            Some(Token::Open) => {
                let (inner, fields) = nested_pipeline(tokens, depth + 1)?;
                terms.push(Term::Nested(inner, fields));
            }
            Some(Token::Word(word)) => terms.push(match word.as_str() {
                "true" => Term::Literal(Value::Bool(true)),
                "false" => Term::Literal(Value::Bool(false)),
                "nil" => Term::Literal(Value::Null),
                _ if FUNCTIONS.contains(&word.as_str()) => Term::Function(word),
                _ => return Err(TemplateError::Parse(format!("function {word:?} not defined"))),
            }),
            Some(Token::Field(names)) => terms.push(Term::Field(names)),
            Some(Token::Variable(name, fields)) => terms.push(Term::Variable(name, fields)),
            Some(Token::Literal(value)) => terms.push(Term::Literal(value)),
            Some(Token::Declare | Token::Comma) => {
                return Err(TemplateError::Parse("unexpected declaration in command".to_owned()));
            }
        }
    }
    commands.push(Command(terms));
    if commands.iter().any(|c| c.0.is_empty()) {
        return Err(TemplateError::Parse("missing value for command".to_owned()));
    }
    Ok((Pipeline(commands), trailing))
}

const FUNCTIONS: &[&str] = &[
    "json", "join", "split", "upper", "lower", "title", "pad", "truncate", "print", "println", "printf",
    "len", "index", "slice", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "html", "js",
    "urlquery",
];
