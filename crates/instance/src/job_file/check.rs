//! Holds every value of a job file against the rules and the site configuration.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::read::{RawJob, RawResources, RawStep, Spanned};
use super::{JobFile, Resources, Step, Submitter, image};
use crate::problems::{Problem, Problems};
use crate::site_config::{NetworkAccess, SiteConfig};
use crate::units::{Size, Span};

const MAX_STEPS: usize = 100;
const MAX_NAME: usize = 200;
const MAX_ARTIFACT_GLOBS: usize = 100;
/// Less does not boot a Linux guest with an image.
const MIN_MEMORY: Size = Size(64 << 20);
const MIN_DISK: Size = Size(64 << 20);
const MIN_PROCESSES: u32 = 16;
const PRIORITIES: std::ops::RangeInclusive<i64> = -1000..=1000;
/// Where the executor keeps its scripts within the workspace.
const RESERVED_DIR: &str = ".sourcegraph-executor";

/// Checks everything and reports all problems at once.
pub(super) fn check(raw: RawJob, config: &SiteConfig, by: Submitter) -> Result<JobFile, Problems> {
    let mut check = Check { problems: Vec::new() };
    let steps = check.steps(raw.steps);
    let name = raw.name.map_or(String::new(), |name| check.line("name", name));
    let repository = raw.repository.map_or(String::new(), |text| check.line("repository", text));
    let revision = check.revision(raw.revision, &repository);
    let files = check.files(raw.files.unwrap_or_default());
    let artifacts = check.artifacts(raw.artifacts.unwrap_or_default());
    let resources = check.resources(raw.resources.unwrap_or_default(), config);
    let timeout = raw.timeout.and_then(|text| check.timeout(&text, config));
    let priority = raw.priority.map_or(0, |priority| check.priority(&priority, by));
    let queue = raw.queue.map_or_else(|| "jobs".to_owned(), |queue| check.queue(queue, by));
    let network = raw.network.and_then(|text| check.network(&text));
    let hold = raw.on_failure.and_then(|text| check.hold(&text, config));
    if check.problems.is_empty() {
        Ok(JobFile {
            name,
            repository,
            revision,
            steps,
            files,
            artifacts,
            resources,
            timeout,
            priority,
            queue,
            network,
            hold,
        })
    } else {
        check.problems.sort_by_key(|p| (p.line, p.column));
        Err(Problems(check.problems))
    }
}

struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn report<T>(&mut self, path: impl Into<String>, at: &Spanned<T>, message: impl Display) {
        let (line, column) = (at.referenced.line() as usize, at.referenced.column() as usize);
        self.problems.push(Problem {
            line,
            column,
            path: path.into(),
            message: message.to_string(),
        });
    }

    /// One line of text of a length for lists.
    fn line(&mut self, path: &str, text: Spanned<String>) -> String {
        let length = text.value.chars().count();
        if length == 0 || length > MAX_NAME {
            self.report(path, &text, format!("must have 1 to {MAX_NAME} characters"));
        } else if text.value.chars().any(char::is_control) {
            self.report(path, &text, "must be one line without control characters");
        }
        text.value
    }

    fn steps(&mut self, raw: Spanned<Vec<RawStep>>) -> Vec<Step> {
        if raw.value.is_empty() || raw.value.len() > MAX_STEPS {
            self.report("steps", &raw, format!("must have 1 to {MAX_STEPS} steps"));
        }
        let mut keys: BTreeMap<String, usize> = BTreeMap::new();
        let mut steps = Vec::new();
        for (index, step) in raw.value.into_iter().enumerate() {
            let key = step.name.as_ref().map(|name| slug(&name.value)).unwrap_or_default();
            let key = if key.is_empty() { index.to_string() } else { key };
            if let Some(former) = keys.insert(key.clone(), index) {
                let message = format!(
                    "gives the same key {key:?} as steps[{former}]; choose names that differ"
                );
                match &step.name {
                    Some(name) => self.report(format!("steps[{index}].name"), name, message),
                    None => self.report(format!("steps[{index}]"), &step.image, message),
                }
            }
            steps.push(self.step(&format!("steps[{index}]"), key, step));
        }
        steps
    }

    fn step(&mut self, path: &str, key: String, raw: RawStep) -> Step {
        if let Some(name) = raw.name {
            self.line(&format!("{path}.name"), name);
        }
        if let Err(error) = image::check(&raw.image.value) {
            self.report(format!("{path}.image"), &raw.image, error);
        }
        if raw.run.value.trim().is_empty() {
            self.report(format!("{path}.run"), &raw.run, "must be a shell script");
        } else if raw.run.value.contains('\0') {
            self.report(format!("{path}.run"), &raw.run, "must not contain a NUL character");
        }
        let mut env = BTreeMap::new();
        for (name, value) in raw.env.unwrap_or_default() {
            let at = format!("{path}.env.{name}");
            if !is_env_name(&name) {
                self.report(
                    at,
                    &value,
                    "must be named by letters, digits and \"_\", not first a digit",
                );
            } else if value.value.contains('\0') {
                self.report(at, &value, "must not contain a NUL character");
            }
            env.insert(name, value.value);
        }
        let dir = raw.dir.map_or(String::new(), |dir| {
            if let Err(message) = relative_path(&dir.value) {
                self.report(format!("{path}.dir"), &dir, message);
            }
            dir.value.trim_end_matches('/').trim_start_matches("./").to_owned()
        });
        let dir = if dir == "." { String::new() } else { dir };
        Step { key, image: raw.image.value, run: raw.run.value, env, dir }
    }

    fn revision(&mut self, raw: Option<Spanned<String>>, repository: &str) -> String {
        let Some(revision) = raw else { return String::new() };
        if repository.is_empty() {
            self.report("revision", &revision, "needs a repository beside it");
        } else if revision.value.starts_with('-') {
            self.report("revision", &revision, "must not start with \"-\"");
        }
        self.line("revision", revision)
    }

    fn files(&mut self, raw: BTreeMap<String, Spanned<String>>) -> BTreeMap<String, String> {
        let paths: Vec<String> = raw.keys().cloned().collect();
        for (path, content) in &raw {
            let is_dir = paths.iter().any(|other| other.starts_with(&format!("{path}/")));
            let problem = match relative_path(path) {
                Err(message) => message,
                Ok(()) if path.is_empty() || path.ends_with('/') => "must name a file",
                Ok(()) if path.split('/').any(|part| matches!(part, "." | "")) => {
                    "must be a plain path without \".\" and empty parts"
                }
                Ok(()) if path.split('/').next() == Some(RESERVED_DIR) => {
                    "must not be in the folder of the executor's own scripts"
                }
                Ok(()) if is_dir => "is a file here and a folder in another path",
                Ok(()) => continue,
            };
            self.report(format!("files[{path:?}]"), content, problem);
        }
        raw.into_iter().map(|(path, content)| (path, content.value)).collect()
    }

    fn artifacts(&mut self, raw: Vec<Spanned<String>>) -> Vec<String> {
        if let Some(first) = raw.get(MAX_ARTIFACT_GLOBS) {
            self.report("artifacts", first, format!("must be at most {MAX_ARTIFACT_GLOBS} globs"));
        }
        for (index, glob) in raw.iter().enumerate() {
            let path = format!("artifacts[{index}]");
            if glob.value.is_empty() {
                self.report(path, glob, "must name files");
            } else if let Err(message) = relative_path(&glob.value) {
                self.report(path, glob, message);
            } else if let Err(error) = globset::Glob::new(&glob.value) {
                self.report(path, glob, format!("is not a glob: {}", error.kind()));
            }
        }
        raw.into_iter().map(|glob| glob.value).collect()
    }

    fn resources(&mut self, raw: RawResources, config: &SiteConfig) -> Resources {
        let memory = (MIN_MEMORY, config.max_memory);
        let disk = (MIN_DISK, config.max_disk);
        let processes = (MIN_PROCESSES, config.max_processes);
        Resources {
            cpus: raw.cpus.map(|n| self.within("resources.cpus", &n, (1, config.max_cpus))),
            memory: raw.memory.and_then(|text| self.size("resources.memory", &text, memory)),
            disk: raw.disk.and_then(|text| self.size("resources.disk", &text, disk)),
            processes: raw.processes.map(|n| self.within("resources.processes", &n, processes)),
        }
    }

    fn within(&mut self, path: &str, number: &Spanned<u32>, (min, max): (u32, u32)) -> u32 {
        if !(min..=max).contains(&number.value) {
            self.report(path, number, format!("must be from {min} to {max}"));
        }
        number.value
    }

    fn size(
        &mut self,
        path: &str,
        text: &Spanned<String>,
        (min, max): (Size, Size),
    ) -> Option<Size> {
        match text.value.parse::<Size>() {
            Ok(size) if (min..=max).contains(&size) => return Some(size),
            Ok(_) => self.report(path, text, format!("must be from {min} to {max}")),
            Err(error) => self.report(path, text, error),
        }
        None
    }

    fn timeout(&mut self, text: &Spanned<String>, config: &SiteConfig) -> Option<Span> {
        let (min, max) = (Span(1), config.max_timeout);
        match text.value.parse::<Span>() {
            Ok(span) if (min..=max).contains(&span) => return Some(span),
            Ok(_) => self.report("timeout", text, format!("must be from {min} to {max}")),
            Err(error) => self.report("timeout", text, error),
        }
        None
    }

    fn priority(&mut self, priority: &Spanned<i64>, by: Submitter) -> i64 {
        if !PRIORITIES.contains(&priority.value) {
            let (min, max) = (PRIORITIES.start(), PRIORITIES.end());
            self.report("priority", priority, format!("must be from {min} to {max}"));
        } else if priority.value > 0 && by == Submitter::User {
            self.report("priority", priority, "above 0 is for site admins");
        }
        priority.value
    }

    fn network(&mut self, text: &Spanned<String>) -> Option<NetworkAccess> {
        let access = NetworkAccess::parse(&text.value);
        if access.is_none() {
            self.report("network", text, "must be none or egress");
        }
        access
    }

    /// `hold 30m`: the only thing that can be done after a failure.
    fn hold(&mut self, text: &Spanned<String>, config: &SiteConfig) -> Option<Span> {
        let (min, max) = (Span(1), config.max_hold);
        let span = text.value.strip_prefix("hold ").map(|span| span.trim().parse::<Span>());
        match span {
            _ if max.0 == 0 => {
                let never = "is not allowed here: executors.maximumHold is 0; leave it out";
                self.report("on_failure", text, never);
            }
            Some(Ok(span)) if (min..=max).contains(&span) => return Some(span),
            Some(Ok(_)) => {
                let message =
                    format!("must hold from {min} to {max} (executors.maximumHold of this site)");
                self.report("on_failure", text, message);
            }
            Some(Err(error)) => self.report("on_failure", text, format!("hold: {error}")),
            None => self.report("on_failure", text, "must be \"hold\" and a time: hold 30m"),
        }
        None
    }

    fn queue(&mut self, queue: Spanned<String>, by: Submitter) -> String {
        match (queue.value.as_str(), by) {
            ("jobs", _) | ("codeintel" | "batches", Submitter::SiteAdmin) => {}
            ("codeintel" | "batches", Submitter::User) => {
                self.report("queue", &queue, "other than jobs is for site admins");
            }
            _ => self.report("queue", &queue, "must be jobs, codeintel or batches"),
        }
        queue.value
    }
}

/// Lower-case letters, digits, `.`, `_` and `-`; everything else becomes one `-`.
fn slug(name: &str) -> String {
    let mut out = String::new();
    for c in name.to_lowercase().chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') {
            out.push(c);
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_matches('-').chars().take(64).collect()
}

fn is_env_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.bytes().all(good) && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

fn relative_path(path: &str) -> Result<(), &'static str> {
    if path.starts_with('/') {
        Err("must be relative to the workspace")
    } else if path.split('/').any(|part| part == "..") {
        Err("must not contain \"..\"")
    } else if path.contains('\\') || path.chars().any(char::is_control) {
        Err("must not contain backslashes or control characters")
    } else if path.len() > 1024 {
        Err("must have at most 1024 bytes")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, by: Submitter) -> Result<JobFile, String> {
        JobFile::parse(text, &SiteConfig::default(), by).map_err(|problems| problems.to_string())
    }

    fn refused(text: &str, expected: &str) {
        assert_eq!(parse(text, Submitter::User).unwrap_err(), expected);
    }

    const FULL: &str = r#"
name: count lines
repository: example/app
revision: main
steps:
  - name: Count It!
    image: executors.internal/base:1
    run: |
      git log -1
    env: { A: b, N: 1, Y: yes }
    dir: ./sub/dir/
  - image: alpine:3.20
    run: "true"
files: { "cfg/a.txt": "text" }
artifacts: ["out/**"]
resources: { cpus: 2, memory: 2G, disk: 10G, processes: 1024 }
timeout: 10m
priority: -5
queue: jobs
network: egress
on_failure: hold 30m
"#;

    #[test]
    fn a_full_file_is_read() {
        let job = parse(FULL, Submitter::User).unwrap();
        assert_eq!(job.steps[0].key, "count-it");
        assert_eq!(job.steps[0].dir, "sub/dir");
        assert_eq!(job.steps[0].run, "git log -1\n");
        assert_eq!(job.steps[0].env["N"], "1");
        assert_eq!(job.steps[0].env["Y"], "yes");
        assert_eq!(job.steps[1].key, "1");
        assert_eq!(job.resources.memory, Some(Size(2 << 30)));
        assert_eq!(job.timeout, Some(Span(600)));
        assert_eq!(job.files["cfg/a.txt"], "text");
        assert_eq!(job.network, Some(NetworkAccess::Egress));
        assert_eq!(job.hold, Some(Span(1800)));
    }

    #[test]
    fn a_hold_is_within_what_the_site_allows() {
        let refused = |hold: &str, max: u64, expected: &str| {
            let config = SiteConfig { max_hold: Span(max), ..SiteConfig::default() };
            let text = format!("steps: [{{image: a, run: x}}]\non_failure: {hold}\n");
            let error = JobFile::parse(&text, &config, Submitter::SiteAdmin).unwrap_err();
            assert_eq!(error.to_string(), format!("line 2, column 13: on_failure: {expected}"));
        };
        let bounds = "must hold from 1s to 1h (executors.maximumHold of this site)";
        refused("hold 2h", 3600, bounds);
        refused("hold 0s", 3600, bounds);
        refused("hold 30m", 0, "is not allowed here: executors.maximumHold is 0; leave it out");
        for word in ["hold", "keep 30m", "30m", "''"] {
            refused(word, 3600, "must be \"hold\" and a time: hold 30m");
        }
        refused("hold soon", 3600, &format!("hold: {}", "soon".parse::<Span>().unwrap_err()));
    }

    #[test]
    fn json_is_read_with_its_escapes() {
        let text =
            "{\t\"steps\": [{\"image\": \"a\", \"run\": \"echo \\ud83d\\ude00 \\/ \\u00e9\"}]}";
        let job = parse(text, Submitter::User).unwrap();
        assert_eq!(job.steps[0].run, "echo 😀 / é");
    }

    #[test]
    fn every_problem_is_reported_with_its_place() {
        refused(
            "steps:\n  - image: Alpine\n    run: ''\n    dir: ../x\n  - name: '1'\n    image: a\n    run: x\n    env: { 1A: x }\n\
             files:\n  /etc/x: a\n  a: b\n  a/b: c\nartifacts: ['[']\nrevision: x\n\
             resources: { cpus: 0, memory: 2, disk: 1P }\ntimeout: 2d\npriority: 1\nqueue: batches\nnetwork: all\n",
            "line 2, column 12: steps[0].image: the name must be lower-case letters, digits and single separators \".\", \"_\", \"-\" between slashes\n\
             line 3, column 10: steps[0].run: must be a shell script\n\
             line 4, column 10: steps[0].dir: must not contain \"..\"\n\
             line 8, column 16: steps[1].env.1A: must be named by letters, digits and \"_\", not first a digit\n\
             line 10, column 11: files[\"/etc/x\"]: must be relative to the workspace\n\
             line 11, column 6: files[\"a\"]: is a file here and a folder in another path\n\
             line 13, column 13: artifacts[0]: is not a glob: unclosed character class; missing ']'\n\
             line 14, column 11: revision: needs a repository beside it\n\
             line 15, column 20: resources.cpus: must be from 1 to 64\n\
             line 15, column 31: resources.memory: must be from 64M to 64G\n\
             line 15, column 40: resources.disk: must be a number with a unit K, M, G or T, for example \"512M\"\n\
             line 16, column 10: timeout: must be from 1s to 1d\n\
             line 17, column 11: priority: above 0 is for site admins\n\
             line 18, column 8: queue: other than jobs is for site admins\n\
             line 19, column 10: network: must be none or egress",
        );
    }

    #[test]
    fn site_admins_may_more() {
        let text = "steps: [{image: a, run: x}]\npriority: 7\nqueue: batches\n";
        let job = parse(text, Submitter::SiteAdmin).unwrap();
        assert_eq!((job.priority, job.queue.as_str()), (7, "batches"));
    }

    #[test]
    fn keys_must_differ() {
        refused(
            "steps: [{name: a b, image: x, run: x}, {name: a-b, image: x, run: x}]",
            "line 1, column 47: steps[1].name: gives the same key \"a-b\" as steps[0]; choose names that differ",
        );
    }

    #[test]
    fn syntax_types_and_unknown_fields_have_a_place() {
        for (text, expected) in [
            ("steps: [", "line 1"),
            ("steps:\n - image: a\n   run: x\n   rnu: y\n", "line 4, column 4: "),
            ("steps:\n - image: a\n", "line 2"),
            ("steps: [{image: a, run: x}]\npriority: high\n", "line 2, column 11: "),
            ("steps: [{image: a, run: x}]\nsteps: []\n", "line 2"),
            ("", "line 1"),
            ("a: &a [x,x]\nb: [*a,*a]\n", "line 1"),
        ] {
            let error = parse(text, Submitter::User).unwrap_err();
            assert!(error.starts_with(expected) && !error.contains('\n'), "{text:?} → {error}");
        }
    }
}
