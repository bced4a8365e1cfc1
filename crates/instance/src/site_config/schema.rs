//! The JSON schema and the reference table, both made from [`super::keys::KEYS`].

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::keys::{KEYS, Key, Kind, ListOf};

/// A JSON schema (draft 2020-12) for editors; the instance itself checks by the table.
pub fn json_schema() -> Value {
    let mut schema = object(KEYS);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Site configuration");
    schema
}

fn object(keys: &[Key]) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> = keys.iter().filter(|k| k.required).map(|k| k.name).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "required": required,
    })
}

fn property(key: &Key) -> Value {
    let mut schema = match key.kind {
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Token { min_length } => {
            json!({ "type": "string", "pattern": format!("^([!-~]{{{min_length},}}|REDACTED)$") })
        }
        Kind::Url => json!({ "type": "string", "pattern": "^(https?://.+)?$" }),
        Kind::Time => json!({ "type": "string", "format": "date-time" }),
        Kind::Size => {
            json!({ "type": "string", "pattern": "^[0-9]+([KkMmGgTt]([Ii]?[Bb])?|[Bb])?$" })
        }
        Kind::Span => {
            json!({ "type": "string", "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$" })
        }
        Kind::SpanOrNever => {
            let spans = "^(0|([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?)$";
            json!({ "type": "string", "pattern": spans })
        }
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::List(_) => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Object(keys) => object(keys),
    };
    schema["description"] = json!(key.doc);
    if let Ok(default) = serde_json::from_str::<Value>(key.default) {
        schema["default"] = default;
    }
    schema
}

/// The table of `docs/site-configuration.md`.
pub fn markdown() -> String {
    let mut out = String::from("| Key | Value | Default | Meaning |\n|---|---|---|---|\n");
    rows("", KEYS, &mut out);
    out
}

fn rows(prefix: &str, keys: &[Key], out: &mut String) {
    for key in keys {
        let path = format!("{prefix}{}", key.name);
        let default =
            if key.default.is_empty() { "–".to_owned() } else { format!("`{}`", key.default) };
        let secret = if key.secret { " Secret." } else { "" };
        writeln!(out, "| `{path}` | {} | {default} | {}{secret} |", kind(key.kind), key.doc)
            .expect("a String takes every write");
        if let Kind::Object(inner) = key.kind {
            rows(&format!("{path} › "), inner, out);
        }
    }
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Boolean => "`true` or `false`".to_owned(),
        Kind::Integer { min, max } => format!("{min} to {max}"),
        Kind::Token { min_length } => format!("text, at least {min_length} characters"),
        Kind::Url => "URL".to_owned(),
        Kind::Time => "time (RFC 3339)".to_owned(),
        Kind::Size => "size, `512M`".to_owned(),
        Kind::Span => "duration, `1h30m`".to_owned(),
        Kind::SpanOrNever => "duration, `30m`, or `0`".to_owned(),
        Kind::Choice(words) => {
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ")
        }
        Kind::List(ListOf::Addresses) => "list of addresses, `10.0.0.0/8:80`".to_owned(),
        Kind::List(ListOf::Domains) => "list of domains, `*.example.com:443`".to_owned(),
        Kind::Object(_) => "object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_closes_every_object() {
        let schema = json_schema();
        assert_eq!(schema["additionalProperties"], false);
        let previous = &schema["properties"]["executors.previousAccessToken"];
        assert_eq!(previous["required"], json!(["value", "validUntil"]));
        assert_eq!(schema["properties"]["limits.memory"]["default"], "64G");
    }

    /// Run with `UPDATE_DOCS=1` to write the table.
    #[test]
    fn the_documentation_has_the_current_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/site-configuration.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (start, end) = ("<!-- table: generated -->\n", "<!-- /table -->");
        let (head, rest) = page.split_once(start).unwrap();
        let (table, tail) = rest.split_once(end).unwrap();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, format!("{head}{start}{}{end}{tail}", markdown())).unwrap();
        } else {
            assert_eq!(
                table,
                markdown(),
                "run: UPDATE_DOCS=1 cargo test -p instance documentation"
            );
        }
    }
}
