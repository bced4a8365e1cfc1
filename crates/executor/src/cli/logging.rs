//! What the executor says on standard error.

use std::io::IsTerminal as _;

use executor::config::{ProcessEnvironment, Source, vars};
use tracing_subscriber::EnvFilter;

/// Sets up logging as `SRC_LOG_LEVEL` and `SRC_LOG_FORMAT` say. An unreadable level is `info`.
pub fn init() {
    let get = |var: &vars::Var| {
        let value = ProcessEnvironment.get(var.name).filter(|value| !value.is_empty());
        value.unwrap_or_else(|| var.default.to_owned())
    };
    let level = get(&vars::LOG_LEVEL);
    let filter = match level.as_str() {
        "dbug" => "debug",
        "eror" | "crit" => "error",
        "none" => "off",
        other => other,
    };
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // Only the first call counts; tests of commands may make a second.
    let _ = match get(&vars::LOG_FORMAT).as_str() {
        "json" | "json_gcp" => builder.json().try_init(),
        _ => builder.with_target(false).try_init(),
    };
}
