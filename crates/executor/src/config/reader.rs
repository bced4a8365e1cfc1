//! Reads variables one by one and remembers every mistake, so that all are reported at once.

use std::path::PathBuf;
use std::time::Duration;

use protocol::DockerAuthConfig;

use super::go_syntax;
use super::source::Source;
use super::vars::{FALLBACKS, Var};

/// Collects mistakes while values are read; a bad value reads as its default.
pub(super) struct Reader<'a> {
    source: &'a dyn Source,
    pub(super) mistakes: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a dyn Source) -> Self {
        Self { source, mistakes: Vec::new() }
    }

    /// The value, else that of the older name, else the default. Empty counts as unset.
    pub(super) fn text(&self, var: &Var) -> String {
        let set = |name: &str| self.source.get(name).filter(|value| !value.is_empty());
        set(var.name)
            .or_else(|| {
                let (_, older) = FALLBACKS.iter().find(|(name, _)| *name == var.name)?;
                set(older)
            })
            .unwrap_or_else(|| var.default.to_owned())
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.source.get(name).is_some_and(|value| !value.is_empty())
    }

    pub(super) fn mistake(&mut self, text: impl Into<String>) {
        self.mistakes.push(text.into());
    }

    /// A variable that has no default and must be given.
    pub(super) fn required(&mut self, var: &Var) -> String {
        let value = self.text(var);
        if value.is_empty() {
            self.mistake(format!("invalid value \"\" for {}: no value supplied", var.name));
        }
        value
    }

    pub(super) fn duration(&mut self, var: &Var) -> Duration {
        self.parse(var, "duration", go_syntax::duration)
    }

    pub(super) fn size(&mut self, var: &Var) -> u64 {
        self.parse(var, "size", go_syntax::data_size)
    }

    pub(super) fn integer(&mut self, var: &Var) -> u64 {
        self.parse(var, "int", |text| text.parse::<u64>().map_err(|error| error.to_string()))
    }

    pub(super) fn positive(&mut self, var: &Var) -> u64 {
        let value = self.integer(var);
        if value == 0 {
            self.mistake(format!("invalid int \"0\" for {}: must be at least 1", var.name));
        }
        value
    }

    /// An optional boolean without default. One that cannot be read counts as unset: nothing shall follow from it.
    pub(super) fn flag(&mut self, var: &Var) -> Option<bool> {
        if !self.is_set(var.name) {
            return None;
        }
        let mistakes = self.mistakes.len();
        let value = self.parse(var, "bool", go_syntax::boolean);
        (self.mistakes.len() == mistakes).then_some(value)
    }

    /// What `docker login` wrote for this user, as far as it wrote passwords; nothing if there is no such file.
    pub(super) fn docker_log_ins(&self) -> DockerAuthConfig {
        let below = |name: &str, path: &str| {
            let folder = self.source.get(name).filter(|folder| !folder.is_empty())?;
            Some(PathBuf::from(folder).join(path))
        };
        let file =
            below("DOCKER_CONFIG", "config.json").or_else(|| below("HOME", ".docker/config.json"));
        let text = file.and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
        let mut log_ins: DockerAuthConfig = serde_json::from_slice(&text).unwrap_or_default();
        log_ins.auths.retain(|_, auth| auth.credentials().is_some());
        log_ins
    }

    fn parse<T: Default>(
        &mut self,
        var: &Var,
        kind: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let text = self.text(var);
        parse(&text).unwrap_or_else(|reason| {
            self.mistake(format!("invalid {kind} {text:?} for {}: {reason}", var.name));
            parse(var.default).unwrap_or_default()
        })
    }
}
