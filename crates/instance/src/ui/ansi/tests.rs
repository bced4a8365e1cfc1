use super::*;

fn render(bytes: &[u8]) -> Vec<Line> {
    Renderer::new(0, false).feed(bytes)
}

fn plain(bytes: &[u8]) -> Vec<String> {
    render(bytes).iter().map(|line| line.spans.iter().map(|s| s.text.as_str()).collect()).collect()
}

#[test]
fn stream_prefixes_become_a_mark_and_not_text() {
    let lines = render(b"stdout: one\nstderr: two\nstdo\nplain\n\n");
    let seen: Vec<_> = lines
        .iter()
        .map(|l| (l.stderr, l.spans.iter().map(|s| s.text.as_str()).collect::<String>()))
        .collect();
    let expected = [(false, "one"), (true, "two"), (false, "stdo"), (false, "plain"), (false, "")];
    assert_eq!(seen, expected.map(|(stderr, text)| (stderr, text.to_owned())));
    assert_eq!(lines.iter().map(|l| l.at).collect::<Vec<_>>(), [0, 12, 24, 29, 35]);
}

#[test]
fn only_colours_and_weight_survive() {
    let cases: [(&[u8], &str); 15] = [
        (b"a\x1b[2Jb", "ab"),
        (b"a\x1b[10;10Hb", "ab"),
        (b"\x1b]0;title\x07x", "x"),
        (b"\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1b]52;c;cm0gLXJmIC8=\x07x", "x"),
        (b"\x1bP+q544e\x1b\\x", "x"),
        (b"\x1b_apc\x1b\\x\x1b^pm\x1b\\y\x1bXsos\x1b\\z", "xyz"),
        (b"\xc2\x9d52;c;AAAA\xc2\x9cx", "x"),
        (b"\xc2\x9b31mred", "red"),
        (b"\x1b(0\x1bcx\x1b#8y", "xy"),
        (b"a\x08\x08\x07\x00\x7fb\x0b\x0c", "ab"),
        ("a\u{202e}b\u{2066}c".as_bytes(), "a\u{fffd}b\u{fffd}c"),
        (b"\xff\xc3(\xe2\x82x", "\u{fffd}\u{fffd}(\u{fffd}x"),
        (b"\x1b[?25l\x1b[>4;2mx\x1b[1 qy", "xy"),
        (b"tab\there", "tab\there"),
    ];
    for (bytes, text) in cases {
        assert_eq!(plain(bytes), [text], "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn an_unfinished_control_string_ends_with_its_line_or_its_limit() {
    assert_eq!(plain(b"\x1b]52;never ends\nnext line\n"), ["", "next line"]);
    let mut long = b"\x1b]0;".to_vec();
    long.extend(std::iter::repeat_n(b'x', 9000));
    let shown: usize = plain(&long).iter().map(String::len).sum();
    assert!(shown > 0 && shown < 1000, "{shown}");
}

#[test]
fn markup_is_text() {
    let html = render(b"<script>alert(1)</script> & \"'")[0].html();
    assert_eq!(
        html,
        "<div class=\"ln\" data-at=\"0\">&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;&#39;</div>\n"
    );
}

#[test]
fn classes_come_from_a_fixed_list() {
    let cases: [(&[u8], &str); 11] = [
        (b"\x1b[31mx", "f-1"),
        (b"\x1b[1;92;44mx", "s-b f-2 k-4"),
        (b"\x1b[38;5;196mx", "f-1"),
        (b"\x1b[38;2;250;250;250mx", "f-7"),
        (b"\x1b[38:2:0:0:200mx", "f-4"),
        (b"\x1b[38;5mx", ""),
        (b"\x1b[38;9;1mx", "s-b"),
        (b"\x1b[31m\x1b[mx", ""),
        (b"\x1b[7;9;4;3;2mx", "s-d s-i s-u s-s s-r"),
        (b"\x1b[99999999999999mx", ""),
        (b"\x1b[48;5;250mx", "k-7"),
    ];
    for (bytes, classes) in cases {
        let lines = render(bytes);
        assert_eq!(
            lines[0].spans[0].style.classes(),
            classes,
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    }
    let mut flood = b"\x1b[".to_vec();
    flood.extend(std::iter::repeat_n(b'1', 10_000));
    flood.extend_from_slice(b"mx");
    assert_eq!(render(&flood)[0].spans[0].style, Style::default());
}

#[test]
fn a_carriage_return_replaces_the_line() {
    assert_eq!(plain(b"10%\r50%\r100%\r\ndone\r\n"), ["100%", "done"]);
    let mut renderer = Renderer::new(0, false);
    assert_eq!(renderer.feed(b"10%")[0].how, How::New);
    assert!(renderer.feed(b"\r").is_empty());
    let again = renderer.feed(b"20%");
    assert_eq!(again[0].how, How::Replace);
    assert_eq!(again[0].spans[0].text, "20%");
    assert_eq!(renderer.feed(b"!")[0].how, How::Append);
}

#[test]
fn a_very_long_line_is_cut() {
    let lines = render(&vec![b'x'; 50_000]);
    let text = &lines[0].spans[0].text;
    assert_eq!(text.chars().count(), MAX_LINE_CHARS);
    assert!(text.ends_with('…'));
}

/// However the bytes are cut into pieces, and wherever a new renderer takes over at `end`, the text is
/// the same.
#[test]
fn pieces_cut_anywhere_give_the_same_text() {
    let bytes =
        "stdout: gr\u{fc}n \x1b[32mok\x1b[0m\r\nstderr: \u{1f600} x\x1b]8;;u\x1b\\y\nstd\nend"
            .as_bytes();
    let whole = plain(bytes);
    for cut in 0..=bytes.len() {
        let mut first = Renderer::new(0, false);
        let mut lines = first.feed(&bytes[..cut]);
        let end = first.end() as usize;
        assert!(end <= cut);
        let inside = end > 0 && bytes[end - 1] != b'\n';
        for line in Renderer::new(end as u64, inside).feed(&bytes[end..]) {
            match line.how {
                How::New => lines.push(line),
                How::Append if lines.is_empty() => lines.push(line),
                How::Append => {
                    let spans = line.spans;
                    lines.last_mut().expect("checked above").spans.extend(spans);
                }
                How::Replace => lines.last_mut().expect("a line to replace").spans = line.spans,
            }
        }
        let text: Vec<String> =
            lines.iter().map(|l| l.spans.iter().map(|s| s.text.as_str()).collect()).collect();
        assert_eq!(text, whole, "cut at {cut}");
    }
}
