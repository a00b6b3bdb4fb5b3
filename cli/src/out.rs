//! Where words and documents go.
//!
//! Without `--json`, words go to standard output and errors to standard error. With it, standard
//! output holds exactly one JSON document, also on failure, and all words go to standard error.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle::{AnsiColor, Style};
use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};
use privet::core::{Reason, Refusal};
use privet::gate::{Finding, Severity};
use serde::Serialize;
use serde_json::{Value, json};

/// Where words and documents go.
pub(crate) struct Out {
    json: bool,
    quiet: bool,
    /// Whether the terminal's line holds words that the next ones write over.
    fleeting: AtomicBool,
}

/// Why a command failed.
pub(crate) struct Failed {
    exit_code: u8,
    code: String,
    message: String,
    help: Option<String>,
    findings: Vec<Finding>,
    /// What there is of a result.
    partial: Option<Value>,
}

impl Failed {
    pub(crate) fn new(exit_code: u8, code: &str, message: impl Into<String>) -> Self {
        Self {
            exit_code,
            code: code.to_owned(),
            message: message.into(),
            help: None,
            findings: Vec::new(),
            partial: None,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(2, "usage", message)
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With what there is of a result.
    pub(crate) fn partial(self, partial: Option<Value>) -> Self {
        Self { partial, ..self }
    }

    pub(crate) fn findings(findings: Vec<Finding>) -> Self {
        let first = findings.first();
        Self {
            exit_code: 2,
            code: first.map_or("invalid".to_owned(), |finding| finding.code.clone()),
            message: first.map_or_else(String::new, |finding| finding.message.clone()),
            help: first.and_then(|finding| finding.help.clone()),
            findings,
            partial: None,
        }
    }
}

impl From<Reason> for Failed {
    fn from(reason: Reason) -> Self {
        let code = reason.code;
        Self::new(code.exit_code(), code.as_str(), reason.detail).help(code.help())
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::new(1, "io", error.to_string())
    }
}

pub(crate) const RED: Style = AnsiColor::Red.on_default().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const BOLD: Style = Style::new().bold();

impl Out {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, fleeting: AtomicBool::new(false) }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether words go to a person's terminal, where a line can be written over.
    pub(crate) fn is_terminal(&self) -> bool {
        !self.json && !self.quiet && std::io::stdout().is_terminal()
    }

    /// Words that are the result.
    pub(crate) fn say(&self, text: &str) {
        self.write(text, "\n");
    }

    /// Words on the way to it.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            self.write(text, "\n");
        }
    }

    /// Words that the next ones write over; for terminals.
    pub(crate) fn fleeting(&self, text: &str) {
        if self.is_terminal() {
            self.write(text, "");
            self.fleeting.store(true, Ordering::Relaxed);
        }
    }

    /// A broken pipe is nobody's error.
    fn write(&self, text: &str, end: &str) {
        if self.json {
            let mut stream = anstream::stderr().lock();
            let _ = write!(stream, "{text}{end}");
        } else {
            let mut stream = anstream::stdout().lock();
            let clear =
                if self.fleeting.swap(false, Ordering::Relaxed) { "\r\u{1b}[K" } else { "" };
            let _ = write!(stream, "{clear}{text}{end}");
            let _ = stream.flush();
        }
    }

    /// The result as JSON, or as words.
    pub(crate) fn result(&self, document: &impl Serialize, words: impl FnOnce() -> String) {
        if self.json {
            let text = serde_json::to_string_pretty(document).unwrap_or_default();
            let _ = writeln!(std::io::stdout().lock(), "{text}");
        } else {
            self.say(words().trim_end());
        }
    }

    /// Findings for people.
    pub(crate) fn findings(&self, findings: &[Finding]) {
        let mut stream = anstream::stderr().lock();
        for finding in findings {
            let _ = write!(stream, "{}", render(finding));
        }
    }

    /// Says why a command failed and gives its exit code.
    pub(crate) fn failed(&self, failed: &Failed) -> ExitCode {
        if self.fleeting.load(Ordering::Relaxed) {
            self.write("", "");
        }
        let mut stream = anstream::stderr().lock();
        if failed.findings.is_empty() {
            let word = if matches!(failed.exit_code, 3..=5) { "refused" } else { "error" };
            let Failed { code, message, .. } = failed;
            let _ = writeln!(stream, "{RED}✗ {word}[{code}]{RED:#}: {}", message.trim_end());
            if let Some(help) = &failed.help {
                let _ = writeln!(stream, "  help: {help}");
            }
        }
        drop(stream);
        self.findings(&failed.findings);
        if self.json {
            let mut error = json!({ "code": failed.code, "message": failed.message });
            if let Some(help) = &failed.help {
                error["help"] = json!(help);
            }
            if let Some(first) = failed.findings.first() {
                error["file"] = json!(first.file);
                error["line"] = json!(first.line);
                error["column"] = json!(first.column);
            }
            let mut document = failed.partial.clone().unwrap_or_else(|| json!({}));
            document["error"] = error;
            let text = serde_json::to_string_pretty(&document).unwrap_or_default();
            let _ = writeln!(std::io::stdout().lock(), "{text}");
        }
        ExitCode::from(failed.exit_code)
    }
}

/// A refusal in two or three lines: what and why, by what, one thing to do.
pub(crate) fn refusal(refusal: &Refusal) -> String {
    let Refusal { code, site, detail, .. } = refusal;
    let mut text = format!("{RED}✗ refused[{code}]{RED:#}: {site}");
    if let Some(round) = refusal.round {
        text.push_str(&format!(", round {round}"));
    }
    if !detail.is_empty() {
        text.push_str(&format!(": {detail}"));
    }
    let by: Vec<String> = [("rule", &refusal.rule), ("filter", &refusal.filter)]
        .into_iter()
        .filter_map(|(what, name)| Some(format!("{what} {}", name.as_deref()?)))
        .collect();
    if !by.is_empty() {
        text.push_str(&format!("\n    by     {}", by.join(" · ")));
    }
    text.push_str(&format!("\n    help:  {}", refusal.help));
    text
}

/// A finding as miette shows it: the line of the file, what is meant in it, one thing to do.
fn render(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => miette::Severity::Error,
        Severity::Warning => miette::Severity::Warning,
    };
    let mut diagnostic = miette::MietteDiagnostic::new(&finding.message)
        .with_severity(severity)
        .with_code(&finding.code);
    if let Some(help) = &finding.help {
        diagnostic = diagnostic.with_help(help);
    }
    let (name, text) = match &finding.source {
        Some(source) => (source.name.to_string(), source.text.to_string()),
        None => (finding.file.clone(), String::new()),
    };
    // A place in an empty file cannot be shown, only named.
    if text.is_empty() {
        diagnostic.message = format!("{name}: {}", diagnostic.message);
    } else {
        let span = finding.span.start..finding.span.end.max(finding.span.start + 1);
        diagnostic = diagnostic.with_label(LabeledSpan::underline(span));
    }
    let report = miette::Report::new(diagnostic).with_source_code(NamedSource::new(name, text));
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let theme = match color {
        true => GraphicalTheme::unicode(),
        false => GraphicalTheme::unicode_nocolor(),
    };
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(theme).with_width(80);
    let _ = handler.render_report(&mut text, report.as_ref());
    text
}
