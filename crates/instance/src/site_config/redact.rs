//! Hiding secrets in the text of the file, and putting them back when an edited text is saved.
//!
//! This works on the characters, not on the parsed file: a file with a mistake, and a line that
//! somebody commented out, must not show a secret either.

use std::ops::Range;

use super::keys;

/// What is shown instead of a secret.
pub const REDACTED: &str = "REDACTED";

/// One place in the text where a secret key has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// Name of the key (last part of its path), from the table.
    key: &'static str,
    /// The value as written, with its quotes.
    range: Range<usize>,
    /// Within a comment.
    comment: bool,
}

/// The text with every secret value replaced by `"REDACTED"`; nothing else changes.
/// A live secret that is also written elsewhere, for example in a remark, is replaced there too.
pub fn redact(text: &str) -> String {
    let places = places(text);
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for place in &places {
        out.push_str(&text[end..place.range.start]);
        out.push_str(&format!("\"{REDACTED}\""));
        end = place.range.end;
    }
    out.push_str(&text[end..]);
    for place in &places {
        let value = text[place.range.clone()].trim_matches('"');
        if value.len() >= keys::MIN_TOKEN_LENGTH {
            out = out.replace(value, REDACTED);
        }
    }
    out
}

/// Puts the stored values back where `edited` still says `"REDACTED"`. A value follows its key when
/// a line is commented out or in. What has no stored value stays as it is, and the check refuses it.
pub fn restore(edited: &str, stored: &str) -> String {
    let old = places(stored);
    let mut out = String::with_capacity(edited.len());
    let mut end = 0;
    let mut used: Vec<usize> = Vec::new();
    for place in places(edited) {
        if edited[place.range.clone()].trim_matches('"') != REDACTED {
            continue;
        }
        let same_key = |at: &usize| old[*at].key == place.key;
        let fresh = |at: &usize| !used.contains(at);
        let candidates = || (0..old.len()).filter(same_key);
        let found = candidates()
            .filter(fresh)
            .find(|at| old[*at].comment == place.comment)
            .or_else(|| candidates().find(fresh))
            .or_else(|| candidates().find(|at| !old[*at].comment));
        if let Some(at) = found {
            used.push(at);
            out.push_str(&edited[end..place.range.start]);
            out.push_str(&stored[old[at].range.clone()]);
            end = place.range.end;
        }
    }
    out.push_str(&edited[end..]);
    out
}

/// Finds every value of a secret key, in the order of the text.
fn places(text: &str) -> Vec<Place> {
    let names: Vec<&'static str> = keys::secrets().into_iter().map(|(_, key)| key.name).collect();
    let mut found: Vec<Place> = Vec::new();
    for piece in pieces(text) {
        match piece {
            Piece::Text(range) => {
                let word: Option<String> = serde_json::from_str(&text[range.clone()]).ok();
                let name = names.iter().find(|name| word.as_deref() == Some(**name));
                if let Some(key) = name
                    && let Some(value) = value_after(text, range.end)
                {
                    found.push(Place { key, range: value, comment: false });
                }
            }
            Piece::Comment(range) => in_comment(text, range, &names, &mut found),
        }
    }
    found.sort_by_key(|place| place.range.start);
    found.dedup_by(|b, a| b.range.start < a.range.end);
    found
}

/// In a comment a key may have lost its quotes; a value without quotes counts when it is long
/// enough to be a secret.
fn in_comment(text: &str, range: Range<usize>, names: &[&'static str], found: &mut Vec<Place>) {
    for key in names {
        for (at, _) in text[range.clone()].match_indices(key) {
            let start = range.start + at;
            let quoted = text[..start].ends_with('"');
            let mut end = start + key.len();
            if text[end..range.end].starts_with(['"', '\'']) {
                end += 1;
            }
            let Some(value) = value_after(&text[..range.end], end) else { continue };
            let long = value.len() >= keys::MIN_TOKEN_LENGTH / 2;
            if quoted || long || text[value.clone()].starts_with('"') {
                found.push(Place { key, range: value, comment: true });
            }
        }
    }
}

/// The value behind `:` or `=`: a string in quotes up to its end (or the end of the line), or
/// anything up to a space, comma or closing brace.
fn value_after(text: &str, offset: usize) -> Option<Range<usize>> {
    let colon = skip_trivia(&text[offset..]).strip_prefix([':', '='])?;
    let value = skip_trivia(colon);
    let start = text.len() - value.len();
    let length = if let Some(body) = value.strip_prefix('"') {
        string_end(body) + 1
    } else {
        value.find(|c: char| c.is_whitespace() || ",}".contains(c)).unwrap_or(value.len())
    };
    (length > 0).then_some(start..start + length)
}

/// Drops white space and comments, and the stars at the start of lines of a block comment.
fn skip_trivia(text: &str) -> &str {
    let rest = text.trim_start_matches(|c: char| c.is_whitespace() || c == '*');
    if rest.starts_with("//") {
        skip_trivia(rest.find('\n').map_or("", |end| &rest[end..]))
    } else if rest.starts_with("/*") {
        skip_trivia(rest.find("*/").map_or("", |end| &rest[end + 2..]))
    } else {
        rest
    }
}

/// Bytes of a string's body with its closing quote; an unclosed string ends with its line.
fn string_end(body: &str) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            '\n' => return at,
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    body.len()
}

enum Piece {
    Text(Range<usize>),
    Comment(Range<usize>),
}

/// Splits the file into strings and comments; everything else is passed over.
fn pieces(text: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let length = if let Some(body) = rest.strip_prefix('"') {
            let length = string_end(body) + 1;
            found.push(Piece::Text(at..at + length));
            length
        } else if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            found.push(Piece::Comment(at..at + length));
            length
        } else if rest.starts_with("/*") {
            let length = rest.find("*/").map_or(rest.len(), |end| end + 2);
            found.push(Piece::Comment(at..at + length));
            length
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        at += length;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
  // old: "executors.accessToken": "commented-out-secret-1",
  "executors.accessToken": "live-secret-0123456789", // was live-secret-0123456789 before
  /* "executors.previousAccessToken": {
       "value": "commented-out-secret-2", "validUntil": "x" } */
  "executors.previousAccessToken": { "value" : "previous-secret-987654", "validUntil": "2026-05-01T00:00:00Z" },
  "externalURL": "https://x.example" // keep me
}
"#;

    fn secrets_of(text: &str) -> usize {
        text.matches("secret-").count()
    }

    #[test]
    fn live_and_commented_secrets_are_hidden_and_come_back() {
        let shown = redact(FILE);
        assert_eq!(secrets_of(&shown), 0, "{shown}");
        assert!(shown.contains("// keep me") && shown.contains("https://x.example"));
        let back = restore(&shown, FILE);
        let expected = FILE.replace("was live-secret-0123456789", "was REDACTED");
        assert_eq!(back, expected);
    }

    #[test]
    fn a_secret_follows_its_key_when_a_line_is_commented_out_or_in() {
        let live = r#"{ "executors.accessToken": "live-secret-0123456789" }"#;
        let commented = "{ // \"executors.accessToken\": \"REDACTED\"\n}";
        let restored = restore(commented, live);
        assert!(restored.contains("// \"executors.accessToken\": \"live-secret-0123456789\""));
        let again = restore(&redact(live), &restored);
        assert_eq!(again, live);
    }

    #[test]
    fn a_new_value_wins_and_an_unknown_one_stays_marked() {
        let stored = r#"{ "executors.accessToken": "live-secret-0123456789" }"#;
        let edited = r#"{ "executors.accessToken": "brand-new-0123456789012" }"#;
        assert_eq!(restore(edited, stored), edited);
        let nothing = r#"{ "executors.accessToken": "REDACTED" }"#;
        assert_eq!(restore(nothing, "{}"), nothing);
    }

    #[test]
    fn broken_files_hide_secrets_too() {
        for text in [
            "{ \"executors.accessToken\": \"unclosed-secret-12345\n \"b\": 1",
            "\"executors.accessToken\" : secret-without-quotes-1",
            "{ \"executors.access\\u0054oken\": \"escaped-name-secret-9\" }",
            "// executors.accessToken = loose-secret-123456789",
            "/* \"executors.accessToken\":\n   \"next-line-secret-12345\"",
            "{ \"executors.accessToken\" // y\n : /* x */ \"after-comment-secret-1\" }",
        ] {
            assert_eq!(secrets_of(&redact(text)), 0, "{text} → {}", redact(text));
        }
    }
}
