//! Text → [`SiteConfig`], or every problem with its line and column.

use jiff::Timestamp;
use jsonc_parser::ast::{Array, Object, ObjectProp, Value};
use jsonc_parser::common::Ranged as _;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::{Map, Value as Json};
use url::Url;

use super::SiteConfig;
use super::keys::{KEYS, Key, Kind, ListOf};
use super::network::{check_address, check_domain};
use super::redact::REDACTED;
use crate::problems::{Problem, Problems, position};
use crate::units::{Size, Span};

/// Reads and checks a whole file.
///
/// # Errors
/// All problems at once; only a mistake of syntax hides those behind it.
pub fn parse(text: &str) -> Result<SiteConfig, Problems> {
    serde_json::from_value(values(text)?).map_err(|error| {
        let message = format!("does not fit the settings of this version: {error}");
        Problems(vec![Problem { line: 1, column: 1, path: String::new(), message }])
    })
}

/// Reads and checks a whole file; the answer has the keys that are set, secrets included.
///
/// # Errors
/// As [`parse`].
pub fn values(text: &str) -> Result<Json, Problems> {
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options).map_err(|error| {
        let (line, column) = position(text, error.range().start);
        let message = sentence(&error.kind().to_string());
        Problems(vec![Problem { line, column, path: String::new(), message }])
    })?;
    let mut check = Check { text, problems: Vec::new() };
    let json = match &parsed.value {
        None => Json::Object(Map::new()),
        Some(Value::Object(object)) => check.object("", object, KEYS),
        Some(other) => {
            check.report("", other.start(), "must be an object: { … }".to_owned());
            Json::Null
        }
    };
    if !check.problems.is_empty() {
        check.problems.sort_by_key(|p| (p.line, p.column));
        return Err(Problems(check.problems));
    }
    Ok(json)
}

/// The parser's messages start with a capital; ours are fragments.
fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

struct Check<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn report(&mut self, path: &str, offset: usize, message: String) {
        let (line, column) = position(self.text, offset);
        self.problems.push(Problem { line, column, path: path.to_owned(), message });
    }

    /// Checks an object against its keys and returns what was good.
    fn object(&mut self, prefix: &str, object: &Object<'_>, keys: &[Key]) -> Json {
        let mut out = Map::new();
        let mut seen: Vec<&str> = Vec::new();
        for prop in &object.properties {
            let name = prop.name.as_str();
            let path = format!("{prefix}{name}");
            let Some(key) = keys.iter().find(|key| key.name == name) else {
                self.unknown(&path, name, prop, keys);
                continue;
            };
            if seen.contains(&name) {
                self.report(&path, prop.start(), "is set twice; keep one".to_owned());
                continue;
            }
            seen.push(name);
            if let Some(value) = self.value(&path, key, &prop.value) {
                out.insert(name.to_owned(), value);
            }
        }
        for key in keys.iter().filter(|key| key.required && !seen.contains(&key.name)) {
            let path = format!("{prefix}{}", key.name);
            self.report(&path, object.start(), "is missing".to_owned());
        }
        Json::Object(out)
    }

    fn unknown(&mut self, path: &str, name: &str, prop: &ObjectProp<'_>, keys: &[Key]) {
        let names = keys.iter().map(|key| key.name);
        let message = match nearest(name, names) {
            Some(near) => format!("unknown key; did you mean \"{near}\"?"),
            None => "unknown key".to_owned(),
        };
        self.report(path, prop.start(), message);
    }

    fn list(&mut self, path: &str, of: ListOf, array: &Array<'_>) -> Json {
        let mut entries = Vec::new();
        for (index, entry) in array.elements.iter().enumerate() {
            let text = entry.as_string_lit().map_or("", |lit| lit.value.as_ref());
            let checked = match of {
                ListOf::Addresses => check_address(text),
                ListOf::Domains => check_domain(text),
            };
            match checked {
                Ok(()) => entries.push(Json::from(text)),
                Err(message) => self.report(&format!("{path}[{index}]"), entry.start(), message),
            }
        }
        Json::Array(entries)
    }

    fn value(&mut self, path: &str, key: &Key, value: &Value<'_>) -> Option<Json> {
        if let (Kind::Object(keys), Value::Object(object)) = (key.kind, value) {
            return Some(self.object(&format!("{path}."), object, keys));
        }
        if let (Kind::List(of), Value::Array(array)) = (key.kind, value) {
            return Some(self.list(path, of, array));
        }
        match scalar(key.kind, value) {
            Ok(json) => Some(json),
            Err(message) => {
                self.report(path, value.start(), message);
                None
            }
        }
    }
}

/// Checks one value that is neither object nor list. Messages do not repeat the value: it may be a secret.
fn scalar(kind: Kind, value: &Value<'_>) -> Result<Json, String> {
    let text = value.as_string_lit().map(|lit| lit.value.as_ref());
    match kind {
        Kind::Boolean => match value.as_boolean_lit() {
            Some(lit) => Ok(Json::Bool(lit.value)),
            None => Err("must be true or false".to_owned()),
        },
        Kind::Integer { min, max } => {
            let number = value.as_number_lit().and_then(|lit| lit.value.parse::<i64>().ok());
            number
                .filter(|n| (min..=max).contains(n))
                .map(Json::from)
                .ok_or_else(|| format!("must be a whole number from {min} to {max}"))
        }
        Kind::Token { min_length } => token(text, min_length),
        Kind::Url => {
            let text = text.ok_or("must be a URL in quotes")?;
            if !text.is_empty() {
                check_url(text)?;
            }
            Ok(Json::from(text.trim_end_matches('/')))
        }
        Kind::Time => text
            .filter(|text| text.parse::<Timestamp>().is_ok())
            .map(Json::from)
            .ok_or_else(|| "must be a time such as \"2026-05-01T12:00:00Z\"".to_owned()),
        Kind::Size => match text.map(str::parse::<Size>) {
            Some(Ok(size)) if size.0 > 0 => Ok(Json::from(text)),
            Some(Err(error)) => Err(error.to_string()),
            _ => Err("must be a size in quotes, for example \"256M\"".to_owned()),
        },
        Kind::Span => match text.map(str::parse::<Span>) {
            Some(Ok(span)) if span.0 > 0 => Ok(Json::from(text)),
            Some(Err(error)) => Err(error.to_string()),
            _ => Err("must be a duration in quotes, for example \"10m\"".to_owned()),
        },
        Kind::SpanOrNever => match text.map(|text| (text, text.parse::<Span>())) {
            Some(("0", _)) => Ok(Json::from("0s")),
            Some((text, Ok(_))) => Ok(Json::from(text)),
            Some((_, Err(error))) => Err(format!("{error}, or \"0\" for never")),
            None => Err("must be a duration in quotes, for example \"30m\", or \"0\"".to_owned()),
        },
        Kind::Choice(words) => text
            .filter(|text| words.contains(text))
            .map(Json::from)
            .ok_or_else(|| format!("must be \"{}\"", words.join("\" or \""))),
        Kind::List(_) => Err("must be a list: [ … ]".to_owned()),
        Kind::Object(_) => Err("must be an object: { … }".to_owned()),
    }
}

fn token(text: Option<&str>, min_length: usize) -> Result<Json, String> {
    let text = text.ok_or("must be text in quotes")?;
    if text == REDACTED {
        return Err(format!("is {REDACTED}, but no value is stored to keep; write the secret"));
    }
    if text.chars().count() < min_length {
        return Err(format!("must have at least {min_length} characters"));
    }
    if !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err("must be printable ASCII without spaces, it travels in a header".to_owned());
    }
    Ok(Json::from(text))
}

fn check_url(text: &str) -> Result<(), String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must start with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user or password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query or fragment".to_owned());
    }
    Ok(())
}

/// The name most like `word`, if one is near enough to be a typing mistake.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let (distance, name) = names
        .into_iter()
        .map(|name| (edit_distance(&word, &name.to_lowercase()), name))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + name.len() / 5).then_some(name)
}

/// Levenshtein distance over characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let problems: Vec<String> =
            parse(text).unwrap_err().0.iter().map(Problem::to_string).collect();
        assert_eq!(problems, expected);
    }

    #[test]
    fn all_problems_are_reported_with_line_and_column() {
        check(
            "{\n  // a comment\n  \"executors.acessToken\": \"x\",\n  \"executors.accessToken\": \"short\",\n  \
             \"jobs.retentionDays\": 0,\n  \"é\": 1, \"limits.cpus\": \"4\",\n  \"limits.memory\": 5,\n}",
            &[
                "line 3, column 3: executors.acessToken: unknown key; did you mean \"executors.accessToken\"?",
                "line 4, column 28: executors.accessToken: must have at least 20 characters",
                "line 5, column 25: jobs.retentionDays: must be a whole number from 1 to 3650",
                "line 6, column 3: é: unknown key",
                "line 6, column 26: limits.cpus: must be a whole number from 1 to 1024",
                "line 7, column 20: limits.memory: must be a size in quotes, for example \"256M\"",
            ],
        );
    }

    #[test]
    fn syntax_nesting_and_repeats() {
        check(
            "{\n \"a\" 1 }",
            &["line 2, column 6: expected colon after the string or word in object property"],
        );
        check("[]", &["line 1, column 1: must be an object: { … }"]);
        check(
            r#"{"externalURL": "http://a", "externalURL": "http://b"}"#,
            &["line 1, column 29: externalURL: is set twice; keep one"],
        );
        check(
            r#"{"executors.previousAccessToken": {"value": 7}}"#,
            &[
                "line 1, column 35: executors.previousAccessToken.validUntil: is missing",
                "line 1, column 45: executors.previousAccessToken.value: must be text in quotes",
            ],
        );
    }

    #[test]
    fn urls_are_checked_and_lose_their_last_slash() {
        let good = parse(r#"{"externalURL": "https://exec.example/"}"#).unwrap();
        assert_eq!(good.external_url, "https://exec.example");
        for bad in ["ftp://a", "exec.example", "https://u:p@a", "https://a?b"] {
            parse(&format!(r#"{{"externalURL": "{bad}"}}"#)).unwrap_err();
        }
    }

    #[test]
    fn a_hold_may_be_forbidden() {
        let hold = |text: &str| {
            let parsed = parse(&format!("{{ \"executors.maximumHold\": {text} }}"));
            parsed.map(|config| config.max_hold.0).map_err(|problems| problems.to_string())
        };
        assert_eq!([hold("\"0\""), hold("\"0s\""), hold("\"2h\"")], [Ok(0), Ok(0), Ok(7200)]);
        let error = hold("\"5\"").unwrap_err();
        assert!(error.contains("column 28: executors.maximumHold: ") && error.contains("\"0\""));
        assert!(hold("0").unwrap_err().contains("in quotes"));
    }

    #[test]
    fn an_empty_file_is_the_default_and_comments_and_commas_are_free() {
        assert_eq!(parse("").unwrap(), SiteConfig::default());
        let text = "/* all */ { // one\n \"jobs.retentionDays\": 7, /* b */ }\n";
        assert_eq!(parse(text).unwrap().jobs_retention_days, 7);
    }

    #[test]
    fn no_message_repeats_a_secret() {
        for value in ["\"hunter2\"", "[\"hunter2\"]", "\"hunter2 hunter2 hunter2 hunter2\""] {
            let error = parse(&format!("{{\"executors.accessToken\": {value}}}")).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
