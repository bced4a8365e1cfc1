//! `executor validate`: everything that `run` needs, one line each, with the fix.

mod instance;
mod machine;
mod tools;
mod vm;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use executor::config::Config;

use super::{EXIT_USAGE, load_config, runtime};

/// What a check found.
pub enum Finding {
    /// As it should be.
    Ok(String),
    /// Works, but not as well as it could.
    Warning { problem: String, fix: String },
    /// `run` would fail.
    Error { problem: String, fix: String },
}

impl Finding {
    fn warning(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Warning { problem: problem.into(), fix: fix.into() }
    }

    fn error(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Error { problem: problem.into(), fix: fix.into() }
    }
}

/// A named finding.
pub struct Check {
    name: &'static str,
    finding: Finding,
}

fn check(name: &'static str, finding: Finding) -> Check {
    Check { name, finding }
}

/// Checks and prints.
///
/// # Errors
/// The checks could not be run at all.
pub fn run() -> anyhow::Result<ExitCode> {
    let config = match load_config() {
        Ok(config) => Arc::new(config),
        Err(error) => {
            for mistake in &error.mistakes {
                print(&check(
                    "configuration",
                    Finding::error(mistake, "see `executor run --help`"),
                ));
            }
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let fit = runtime().context("cannot start threads")?.block_on(check_all(&config));
    if fit {
        println!("All checks passed!");
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}

/// Runs all checks, printing each as it is known; `false` if any is an error.
pub async fn check_all(config: &Arc<Config>) -> bool {
    let mut fit = true;
    let mut show = |checks: Vec<Check>| {
        for check in checks {
            print(&check);
            fit &= !matches!(check.finding, Finding::Error { .. });
        }
    };
    show(configuration(config));
    show(tools::checks(config).await);
    show(machine::checks(config));
    show(instance::checks(config).await);
    show(vm::checks(config).await);
    fit
}

fn configuration(config: &Config) -> Vec<Check> {
    let mut checks =
        vec![check("configuration", Finding::Ok("every variable is understood".into()))];
    checks.extend(config.warnings.iter().map(|warning| {
        check("configuration", Finding::warning(warning.clone(), "remove the variable"))
    }));
    checks
}

fn print(check: &Check) {
    let name = check.name;
    // Words of other programs may have several lines.
    let below = |text: &str| text.replace('\n', "\n         ");
    match &check.finding {
        Finding::Ok(text) => println!("ok       {name}: {}", below(text)),
        Finding::Warning { problem, fix } => {
            println!("warning  {name}: {}\n         fix: {fix}", below(problem));
        }
        Finding::Error { problem, fix } => {
            println!("error    {name}: {}\n         fix: {fix}", below(problem));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// Of the literals in calls of `check` in this module, and of the three that are put together.
    fn names_in_code() -> BTreeSet<&'static str> {
        let sources = [
            include_str!("instance.rs"),
            include_str!("machine.rs"),
            include_str!("mod.rs"),
            include_str!("tools.rs"),
            include_str!("vm.rs"),
        ];
        let code = sources.map(|source| source.split("#[cfg(test)]").next().unwrap());
        let calls = code.into_iter().flat_map(|code| code.split("check(").skip(1));
        let literals =
            calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next());
        let programs = executor::runtime::containers::PROGRAMS.map(|(program, ..)| program);
        literals.chain(programs).chain(["container", "microVM"]).collect()
    }

    #[test]
    fn every_line_has_its_row_in_the_troubleshooting_page() {
        let page = include_str!("../../../../../docs/troubleshooting.md");
        let lines = page.split("\n## Jobs").next().unwrap().lines();
        let rows = lines.filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        let documented: BTreeSet<&str> = rows.flat_map(|row| row.split(", ")).collect();
        let mut expected = names_in_code();
        assert!(expected.len() > 20, "{expected:?}");
        expected.insert("Line"); // the heading of the column
        assert_eq!(documented, expected);
    }
}
