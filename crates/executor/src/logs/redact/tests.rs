use proptest::prelude::*;

use super::*;

fn redactor(secrets: &[&str]) -> Redactor {
    Redactor::new(&secrets.iter().map(|s| ((*s).to_owned(), "‹gone›".to_owned())).collect())
}

fn in_chunks(redactor: &Redactor, chunks: &[&[u8]]) -> String {
    let mut stream = redactor.stream();
    let mut out = Vec::new();
    for chunk in chunks {
        stream.push(chunk, &mut out);
    }
    stream.finish(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn a_secret_cut_in_the_middle_is_found() {
    let r = redactor(&["hunter2"]);
    assert_eq!(in_chunks(&r, &[b"say hun", b"ter2 ok\n"]), "say ‹gone› ok\n");
    assert_eq!(in_chunks(&r, &[b"hunhunt", b"er2"]), "hun‹gone›");
}

#[test]
fn text_that_begins_no_secret_is_not_held_back() {
    let r = redactor(&["hunter2"]);
    let mut out = Vec::new();
    let mut stream = r.stream();
    stream.push(b"hello hun\n", &mut out);
    assert_eq!(out, b"hello hun\n");
    stream.push(b"hun", &mut out);
    assert_eq!(out, b"hello hun\n");
    stream.finish(&mut out);
    assert_eq!(out, b"hello hun\nhun");
}

#[test]
fn overlapping_secrets_leave_nothing() {
    let r = redactor(&["abcdef", "efghij"]);
    assert_eq!(in_chunks(&r, &[b"-abcdefghij-"]), "-‹gone›-");
    assert_eq!(in_chunks(&r, &[b"-abcdef", b"ghij-"]), "-‹gone›-");
    assert_eq!(redactor(&["abab"]).text("-ababab-abababab-"), "-‹gone›-‹gone›-");
}

#[test]
fn colours_inside_a_secret_do_not_hide_it() {
    let r = redactor(&["hunter2"]);
    assert_eq!(in_chunks(&r, &[b"x hun\x1b[01;31m", b"t\x1b[mer2 y"]), "x ‹gone› y");
    assert_eq!(in_chunks(&r, &[b"x hun\x1b", b"[31mter2 y"]), "x ‹gone› y");
}

#[test]
fn a_multi_line_secret_is_found_with_either_line_end() {
    let r = redactor(&["first line\nsecond line\nab"]);
    assert_eq!(r.text("<first line\r\nsecond line\r\nab>"), "<‹gone›>");
    assert_eq!(r.text("  second line\n"), "  ‹gone›\n");
}

#[test]
fn what_remains_of_a_killed_writer_is_not_shown() {
    assert_eq!(redactor(&["hunter2hunter2"]).text("token hunter2hun"), "token ‹gone›");
    assert_eq!(redactor(&["hunter2hunter2"]).text("go hun"), "go hun");
}

#[test]
fn without_secrets_nothing_changes() {
    assert_eq!(redactor(&[]).text("a\r\nb"), "a\r\nb");
    assert_eq!(redactor(&["", "\n"]).text("a\r\nb"), "a\r\nb");
}

#[test]
fn the_replacement_belongs_to_the_secret() {
    let secrets = [
        ("alpha-1".to_owned(), "${{ secrets.A }}".to_owned()),
        ("beta-22".to_owned(), "${{ secrets.B }}".to_owned()),
    ];
    let r = Redactor::new(&secrets.into_iter().collect());
    assert_eq!(r.text("alpha-1 beta-22"), "${{ secrets.A }} ${{ secrets.B }}");
}

/// Text made of pieces of the secrets, so that near misses and overlaps are frequent.
fn adversarial(secrets: Vec<String>) -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<Vec<u8>> = secrets
        .iter()
        .flat_map(|secret| {
            let all = variants(secret);
            all.into_iter().flat_map(|form| {
                let half = form.len() / 2;
                [form.clone(), form[..half].to_vec(), form[half..].to_vec()]
            })
        })
        .chain([
            b"\n".to_vec(),
            b"\r\n".to_vec(),
            b" ".to_vec(),
            b"\x1b[1m".to_vec(),
            b"\x1b".to_vec(),
        ])
        .collect();
    prop::collection::vec(prop::sample::select(pieces), 0..12).prop_map(|parts| parts.concat())
}

fn cases() -> impl Strategy<Value = (Vec<String>, Vec<u8>, Vec<usize>)> {
    prop::collection::vec("[ab'\"/\n]{1,9}|[a-c]{4,6}|[A-Za-z0-9+/=ü]{8,90}", 1..4).prop_flat_map(
        |secrets| {
            let cuts = prop::collection::vec(0..400usize, 0..8);
            (Just(secrets.clone()), adversarial(secrets), cuts)
        },
    )
}

proptest! {
    #[test]
    fn chunking_never_matters_and_no_secret_gets_out((secrets, text, cuts) in cases()) {
        let r = Redactor::new(&secrets.iter().map(|s| (s.clone(), "\u{1}".to_owned())).collect());
        let whole = in_chunks(&r, &[&text]);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        prop_assert_eq!(&in_chunks(&r, &chunks), &whole);
        let seen = Visible::of(whole.as_bytes()).bytes().to_vec();
        for secret in &secrets {
            for form in variants(secret) {
                let leaked = seen.windows(form.len()).any(|window| window == form);
                prop_assert!(!leaked, "{:?} is in {:?}", String::from_utf8_lossy(&form), whole);
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(text in prop::collection::vec(any::<u8>(), 0..300), cut in 0..300usize) {
        let r = redactor(&["hunter2", "\u{1b}[x", "a\nb"]);
        let cut = cut.min(text.len());
        prop_assert_eq!(in_chunks(&r, &[&text[..cut], &text[cut..]]), in_chunks(&r, &[&text]));
    }
}
