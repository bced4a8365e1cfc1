//! What a job prints: however it is cut, the same text comes out, and none of the forms of its secrets.
//!
//! The input has three parts with NUL between them: where to cut, the secrets with tabs between them, and the
//! text, in which a byte from 0xc0 on stands for a form of a secret, or half of one. So near misses are frequent.
#![no_main]

use std::collections::BTreeMap;

use fuzz::redact::Redactor;
use fuzz::{forms, visible};
use libfuzzer_sys::fuzz_target;

/// Stands for each secret. No secret that has it in it is tried: nothing could keep that one out.
const GONE: char = '\u{1}';

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |byte| *byte == 0);
    let (Some(cuts), Some(secrets), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
        return;
    };
    let Ok(secrets) = std::str::from_utf8(secrets) else { return };
    let secrets: Vec<&str> = secrets.split('\t').filter(|secret| !secret.contains(GONE)).collect();
    let redactor = Redactor::new(
        &secrets.iter().map(|secret| ((*secret).to_owned(), GONE.to_string())).collect::<BTreeMap<_, _>>(),
    );
    let text = written_out(text, &secrets);
    let whole = redact(&redactor, &text, &[]);
    assert_eq!(redact(&redactor, &text, cuts), whole);
    let seen = visible(&whole);
    for form in secrets.iter().flat_map(|secret| forms(secret)) {
        let leaked = seen.windows(form.len()).any(|window| window == form);
        assert!(!leaked, "{:?} is in {:?}", String::from_utf8_lossy(&form), String::from_utf8_lossy(&whole));
    }
});

fn written_out(text: &[u8], secrets: &[&str]) -> Vec<u8> {
    let forms: Vec<Vec<u8>> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    let mut out = Vec::new();
    for byte in text {
        match byte.checked_sub(0xc0).map(usize::from) {
            Some(number) if !forms.is_empty() => {
                let form = &forms[number / 3 % forms.len()];
                let half = form.len() / 2;
                out.extend_from_slice([form.as_slice(), &form[..half], &form[half..]][number % 3]);
            }
            _ => out.push(*byte),
        }
    }
    out
}

/// In chunks of these lengths, and the rest as one.
fn redact(redactor: &Redactor, mut text: &[u8], cuts: &[u8]) -> Vec<u8> {
    let (mut stream, mut out) = (redactor.stream(), Vec::new());
    for cut in cuts {
        let (chunk, rest) = text.split_at(usize::from(*cut).min(text.len()));
        stream.push(chunk, &mut out);
        text = rest;
    }
    stream.push(text, &mut out);
    stream.finish(&mut out);
    out
}
