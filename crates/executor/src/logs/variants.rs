//! The forms in which a secret shows up in output: as it is, URL-encoded, in base64 at any alignment,
//! in hex, JSON-escaped, quoted by a shell, and line by line.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, NO_PAD};

use super::escapes::Visible;

/// Shorter secrets are looked for as they are only: their encodings are too common in honest text.
const MIN_ENCODED: usize = 4;
/// Shorter lines of a multi-line secret are not looked for alone.
const MIN_LINE: usize = 8;
/// Columns at which `base64` and `xxd -p` break lines.
const BASE64_COLUMNS: usize = 76;
const HEX_COLUMNS: usize = 60;

/// All forms of `secret` as the matcher sees them (without escapes and carriage returns), each once.
pub(super) fn variants(secret: &str) -> Vec<Vec<u8>> {
    let raw = secret.as_bytes();
    let mut forms = vec![raw.to_vec()];
    if raw.len() >= MIN_ENCODED {
        forms.extend(url_encoded(raw));
        forms.extend(base64_forms(raw));
        forms.extend(hex_forms(raw));
        forms.extend(json_escaped(secret));
        forms.push(secret.replace('\'', r"'\''").into_bytes());
    }
    let wrapped: Vec<Vec<u8>> = forms.iter().flat_map(|form| lines(form)).collect();
    forms.extend(wrapped);
    for form in &mut forms {
        *form = Visible::of(form).bytes().to_vec();
    }
    forms.retain(|form| !form.iter().all(u8::is_ascii_whitespace));
    forms.sort();
    forms.dedup();
    forms
}

/// Percent-encoding as different programs do it: strict, lower-case digits, form encoding, and with
/// the characters left alone that JavaScript's `encodeURI` leaves alone.
fn url_encoded(raw: &[u8]) -> Vec<Vec<u8>> {
    let encode = |keep: &[u8], upper: bool, plus: bool| {
        let mut out = Vec::with_capacity(raw.len());
        for &byte in raw {
            match byte {
                b' ' if plus => out.push(b'+'),
                _ if byte.is_ascii_alphanumeric() || keep.contains(&byte) => out.push(byte),
                _ if upper => out.extend(format!("%{byte:02X}").bytes()),
                _ => out.extend(format!("%{byte:02x}").bytes()),
            }
        }
        out
    };
    vec![
        encode(b"-._~", true, false),
        encode(b"-._~", false, false),
        encode(b"-._*", true, true),
        encode(b"-._~/", true, false),
        encode(b"-._~!*'()", true, false),
        encode(b"-._~!*'();/?:@&=+$,#", true, false),
    ]
}

fn base64_forms(raw: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for alphabet in [alphabet::STANDARD, alphabet::URL_SAFE] {
        let engine = GeneralPurpose::new(&alphabet, GeneralPurposeConfig::new());
        let padded = engine.encode(raw).into_bytes();
        forms.extend(wrap(&padded, BASE64_COLUMNS));
        forms.push(padded);
        let engine = GeneralPurpose::new(&alphabet, NO_PAD);
        for shift in 0..3 {
            // The characters that also carry bits of the neighbours differ from text to text.
            let mut shifted = vec![0; shift];
            shifted.extend(raw);
            let encoded = engine.encode(&shifted).into_bytes();
            let first = (shift * 8).div_ceil(6);
            let last = shifted.len() * 8 / 6;
            forms.push(encoded[first..last].to_vec());
        }
    }
    forms
}

fn hex_forms(raw: &[u8]) -> Vec<Vec<u8>> {
    let lower = hex::encode(raw).into_bytes();
    let mut forms = wrap(&lower, HEX_COLUMNS).into_iter().collect::<Vec<_>>();
    forms.push(hex::encode_upper(raw).into_bytes());
    forms.push(lower);
    forms
}

/// The encoded text broken at a column, if it is that long.
fn wrap(encoded: &[u8], columns: usize) -> Option<Vec<u8>> {
    (encoded.len() > columns).then(|| encoded.chunks(columns).collect::<Vec<_>>().join(&b'\n'))
}

/// As a JSON string; Go also escapes `<`, `>` and `&`, Python everything that is not ASCII.
fn json_escaped(secret: &str) -> Vec<Vec<u8>> {
    let quoted = serde_json::to_string(secret).expect("a string is always JSON");
    let plain = quoted[1..quoted.len() - 1].to_owned();
    let go = plain.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    let mut ascii = String::new();
    for c in plain.chars() {
        if c.is_ascii() {
            ascii.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    let slash = plain.replace('/', "\\/");
    vec![plain.into_bytes(), go.into_bytes(), ascii.into_bytes(), slash.into_bytes()]
}

/// The lines of a form with several, when long enough to mean something: other programs indent them,
/// number them, or print only some.
fn lines(form: &[u8]) -> Vec<Vec<u8>> {
    if !form.contains(&b'\n') {
        return Vec::new();
    }
    form.split(|byte| *byte == b'\n')
        .map(|line| line.trim_ascii().to_vec())
        .filter(|line| line.len() >= MIN_LINE)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(secret: &str, form: &str) -> bool {
        variants(secret).contains(&form.as_bytes().to_vec())
    }

    #[test]
    fn encodings_are_covered() {
        let secret = "p@ss w/<ö'\"";
        assert!(has(secret, "p%40ss%20w%2F%3C%C3%B6%27%22"));
        assert!(has(secret, "p%40ss+w%2F%3C%C3%B6%27%22"));
        assert!(has(secret, "p@ss w/<ö'\\\""));
        assert!(has(secret, "p@ss w/\\u003cö'\\\""));
        assert!(has(secret, "p@ss w/<\\u00f6'\\\""));
        assert!(has(secret, "p@ss w/<ö'\\''\""));
        assert!(has(secret, &hex::encode(secret)));
        assert!(has(secret, &hex::encode_upper(secret)));
    }

    #[test]
    fn every_alignment_of_base64_is_covered() {
        let engine = base64::engine::general_purpose::STANDARD;
        for before in ["", "x", "xy", "xyz"] {
            let text = engine.encode(format!("{before}hunter2-hunter2{before}"));
            let found = variants("hunter2-hunter2")
                .iter()
                .any(|form| form.len() > 16 && text.contains(std::str::from_utf8(form).unwrap()));
            assert!(found, "not found in {text}");
        }
    }

    #[test]
    fn a_multi_line_secret_is_also_looked_for_line_by_line() {
        let secret = "-----BEGIN KEY-----\r\nMIIEvQIBADANBg\n}\n-----END KEY-----\n";
        assert!(has(secret, "MIIEvQIBADANBg"));
        assert!(!has(secret, "}"));
        assert!(has(secret, "-----BEGIN KEY-----\nMIIEvQIBADANBg\n}\n-----END KEY-----\n"));
    }

    #[test]
    fn a_short_secret_is_looked_for_as_it_is_only() {
        assert_eq!(variants("abc"), [b"abc".to_vec()]);
        assert!(variants("").is_empty());
        assert!(variants("\n").is_empty());
    }
}
