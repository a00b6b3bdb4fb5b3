//! What is wrong with a file: message, place, one thing to do.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used; its owner should know.
    Warning,
}

/// A file that was read, for pointing into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name, as people know it.
    pub name: Arc<str>,
    /// What it holds.
    pub text: Arc<str>,
}

impl Source {
    /// A file of this name and content.
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// Line and column of a byte, both from 1; columns count characters.
    pub fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        (line, column)
    }

    /// An error at a place in this file.
    pub fn error(&self, code: &str, message: impl Into<String>, span: Range<usize>) -> Finding {
        let (line, column) = self.place(span.start);
        Finding {
            severity: Severity::Error,
            code: code.to_owned(),
            message: message.into(),
            file: self.name.to_string(),
            line,
            column,
            help: None,
            span,
            source: Some(self.clone()),
        }
    }
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Kebab-case code.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// One thing to do.
    pub help: Option<String>,
    /// Bytes of the file that are meant.
    #[serde(skip)]
    pub span: Range<usize>,
    /// The file's content, for showing the place.
    #[serde(skip)]
    pub source: Option<Source>,
}

impl Finding {
    /// The same, with one thing to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same, as a warning.
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, message, file, line, column, .. } = self;
        write!(f, "error[{code}]: {message} ({file}:{line}:{column})")
    }
}

/// The closest of some names, if one is close enough to be meant.
pub fn closest<'a>(name: &str, among: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    among
        .into_iter()
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// "did you mean `x`?", or `otherwise`.
pub fn did_you_mean<'a>(
    name: &str,
    among: impl IntoIterator<Item = &'a str>,
    otherwise: &str,
) -> String {
    match closest(name, among) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => otherwise.to_owned(),
    }
}

/// Reads TOML into a type that denies unknown keys.
///
/// # Errors
/// A finding at the key or value that does not fit, with a suggestion where one is close.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(source: &Source) -> Result<T, Finding> {
    toml::from_str(&source.text).map_err(|error| {
        let message = error.message().trim().to_owned();
        let span = error.span().unwrap_or(0..0);
        // serde lists the known keys as `a`, `b`; the first quoted word is the unknown one.
        let mut quoted = message.split('`').skip(1).step_by(2);
        let code = if message.starts_with("unknown field") {
            "unknown-key"
        } else if message.starts_with("unknown variant") {
            "unknown-value"
        } else if message.starts_with("missing field") {
            "missing-key"
        } else {
            "invalid"
        };
        let help = match (code, quoted.next()) {
            ("unknown-key" | "unknown-value", Some(name)) => {
                closest(name, quoted).map(|candidate| format!("did you mean `{candidate}`?"))
            }
            _ => None,
        };
        let finding = source.error(code, message.clone(), span);
        match help {
            Some(help) => finding.help(help),
            None => finding,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let source = Source::new("f", "a\nüb = 1\n");
        assert_eq!(source.place(0), (1, 1));
        assert_eq!(source.place(source.text.find('b').unwrap()), (2, 2));
        assert_eq!(source.place(1000), (3, 1));
    }

    #[test]
    fn suggestions_are_close_ones_only() {
        let names = ["gaussian", "clip", "block"];
        assert_eq!(closest("gausian", names), Some("gaussian"));
        assert_eq!(closest("clop", names), Some("clip"));
        assert_eq!(closest("laplace", names), None);
    }

    #[test]
    fn an_unknown_key_is_pointed_at() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            #[allow(dead_code)]
            records: u32,
        }
        let source = Source::new("f.toml", "recordz = 3\n");
        let finding = parse::<File>(&source).unwrap_err();
        assert_eq!((finding.line, finding.column), (1, 1));
        assert_eq!(finding.code, "unknown-key");
        assert_eq!(finding.help.as_deref(), Some("did you mean `records`?"));
    }
}
