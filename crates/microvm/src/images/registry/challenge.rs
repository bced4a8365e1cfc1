//! `WWW-Authenticate` challenges (RFC 9110 §11.6.1).

use std::collections::BTreeMap;

/// One challenge.
#[derive(Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Lower-case.
    pub scheme: String,
    /// Keys are lower-case.
    pub parameters: BTreeMap<String, String>,
}

/// Reads the challenges of one header value; stops at what it does not understand.
pub fn parse(value: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = token(rest);
        if word.is_empty() {
            return challenges;
        }
        match (after.strip_prefix('='), challenges.last_mut()) {
            (Some(after), Some(challenge)) => {
                let Some((value, after)) = parameter(after) else { return challenges };
                challenge.parameters.insert(word.to_ascii_lowercase(), value);
                rest = after;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                let scheme = word.to_ascii_lowercase();
                challenges.push(Challenge { scheme, parameters: BTreeMap::new() });
                rest = after;
            }
        }
    }
}

fn token(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "-._~+/!#$%&'*^`|".contains(c)));
    text.split_at(end.unwrap_or(text.len()))
}

fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, rest) = token(text);
        return Some((word.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[index + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn real_challenges_are_read() {
        let found = parse(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b:pull,push""#,
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].scheme, "bearer");
        assert_eq!(found[0].parameters["realm"], "https://auth.docker.io/token");
        assert_eq!(found[0].parameters["scope"], "a:b:pull,push");
        let found = parse(r#"Negotiate, Basic realm="a \"b\"", charset=UTF-8"#);
        assert_eq!(found[1].parameters["realm"], "a \"b\"");
        assert_eq!(found[1].parameters["charset"], "UTF-8");
    }

    proptest! {
        #[test]
        fn any_text_ends_in_an_answer(text in "\\PC{0,60}") {
            parse(&text);
        }
    }
}
