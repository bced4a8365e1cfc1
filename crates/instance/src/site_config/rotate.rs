//! Puts a new shared secret into the file, keeping comments and layout.

use jiff::Timestamp;
use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};

use super::parse::parse;
use crate::problems::Problems;

const TOKEN: &str = "executors.accessToken";
const PREVIOUS: &str = "executors.previousAccessToken";

/// Sets the shared secret; the one it replaces is accepted until `previous_until`.
///
/// # Errors
/// When the text has mistakes, before or (which would be ours) after.
pub fn rotate(text: &str, new_token: &str, previous_until: Timestamp) -> Result<String, Problems> {
    let former = parse(text)?.access_token;
    let root = CstRootNode::parse(text, &ParseOptions::default())
        .expect("a text that was parsed once parses again");
    let object = root.object_value_or_set();
    if !former.is_empty() {
        let value = CstInputValue::String(former.expose().to_owned());
        let until = CstInputValue::String(previous_until.to_string());
        let fields = vec![("value".to_owned(), value), ("validUntil".to_owned(), until)];
        set(&object, PREVIOUS, CstInputValue::Object(fields));
    }
    set(&object, TOKEN, CstInputValue::String(new_token.to_owned()));
    let rotated = root.to_string();
    parse(&rotated)?;
    Ok(rotated)
}

fn set(object: &CstObject, name: &str, value: CstInputValue) {
    match object.get(name) {
        Some(property) => property.set_value(value),
        None => {
            object.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site_config::SharedToken;
    use crate::site_config::file::DEFAULT;

    #[test]
    fn the_former_secret_counts_until_the_time() {
        let until: Timestamp = "2026-05-02T00:00:00Z".parse().unwrap();
        let before: Timestamp = "2026-05-01T00:00:00Z".parse().unwrap();
        let (a, b, c) = ("a".repeat(30), "b".repeat(30), "c".repeat(30));
        let first = rotate(DEFAULT, &a, until).unwrap();
        assert!(first.contains("// Where users reach the instance."), "{first}");
        assert!(!first.contains(PREVIOUS));
        let second = rotate(&first, &b, until).unwrap();
        let third = rotate(&second, &c, until).unwrap();
        let config = parse(&third).unwrap();
        assert_eq!(config.check_shared_token(&a, before), SharedToken::Wrong);
        assert_eq!(config.check_shared_token(&b, before), SharedToken::Right);
        assert_eq!(config.check_shared_token(&b, until), SharedToken::Wrong);
        assert_eq!(config.check_shared_token(&c, until), SharedToken::Right);
    }
}
