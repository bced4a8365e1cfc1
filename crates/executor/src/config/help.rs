//! The variables as text: for `executor run --help` and for the documentation.

use std::fmt::Write as _;

use super::vars::{ALL, Var, WITHOUT_EFFECT};

/// The section "Environment" of `executor run --help`.
pub fn environment_help() -> String {
    let mut text = String::from("Environment:\n");
    for Var { name, default, help } in ALL {
        let default =
            if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
        let _ = writeln!(text, "  {name}{default}\n          {help}");
    }
    text.push_str(
        "\nDurations are written as in Go (1h30m, 500ms), sizes with a unit (512M, 20G, powers of 1024).\n\
         Exit codes: 0 after a drain, 64 for mistakes in the configuration, 1 for any other failure.",
    );
    text
}

/// The tables of `docs/executor.md`.
pub fn environment_markdown() -> String {
    let mut text = String::from("| variable | default | meaning |\n|---|---|---|\n");
    for Var { name, default, help } in ALL {
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let _ = writeln!(text, "| `{name}` | {default} | {} |", help.replace('|', "\\|"));
    }
    text.push_str(
        "\nVariables of stock executors that have no effect here (setting one logs a warning):\n\n",
    );
    text.push_str("| variable | why |\n|---|---|\n");
    for (name, reason) in WITHOUT_EFFECT {
        let _ = writeln!(text, "| `{name}` | {reason} |");
    }
    text
}
