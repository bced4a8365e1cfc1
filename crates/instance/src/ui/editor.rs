//! A text area with line numbers and marked lines, for job files and the site configuration.

use askama::Template;

use crate::problems::{Problem, Problems};

/// Shortest editor, in lines.
const MIN_LINES: usize = 12;

/// The editor; rendered into a form.
#[derive(Template)]
#[template(path = "editor.html")]
pub struct Editor {
    /// Name and id of the field.
    pub name: &'static str,
    /// The text.
    pub text: String,
    /// Numbered lines.
    pub lines: usize,
    /// Lines with mistakes.
    pub bad: Vec<usize>,
    /// For looking only.
    pub read_only: bool,
}

impl Editor {
    /// An editor for `text` that marks where `problems` are.
    pub fn new(name: &'static str, text: String, problems: &[ProblemView]) -> Self {
        let lines = (text.lines().count() + 2).max(MIN_LINES);
        let bad = problems.iter().filter_map(|p| p.at).map(|at| at.line).collect();
        Self { name, text, lines, bad, read_only: false }
    }

    fn is_bad(&self, line: &usize) -> bool {
        self.bad.contains(line)
    }
}

/// A place in a text, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// The mistakes in a text as the pages show them.
pub fn problems(problems: &Problems) -> Vec<ProblemView> {
    let view = |problem: &Problem| {
        let path =
            if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
        ProblemView {
            at: Some(At { line: problem.line, column: problem.column }),
            message: format!("{path}{}", problem.message),
        }
    };
    problems.0.iter().map(view).collect()
}

/// A mistake as the pages show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProblemView {
    /// Where, if known.
    pub at: Option<At>,
    /// The key and what is wrong with it.
    pub message: String,
}
