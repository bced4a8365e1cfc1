//! What is refused, and with which words.

use super::*;

fn refusal(layers: &[&[Item]]) -> String {
    listing(layers).unwrap_err().to_string()
}

#[test]
fn paths_that_leave_or_cannot_be_are_refused() {
    for path in ["../x", "a/../../x", "a/..", ".."] {
        assert!(refusal(&[&[file(path, "")]]).contains("`..`"), "{path}");
    }
    for path in ["a\nb", "a/\n"] {
        assert!(refusal(&[&[file(path, "")]]).contains("newline"), "{path:?}");
    }
    assert!(refusal(&[&[file(&"a".repeat(256), "")]]).contains("255 bytes"));
    assert!(refusal(&[&[file(&"a/".repeat(256), "")]]).contains("255 components"));
    assert!(refusal(&[&[file(&"abcdefg/".repeat(600), "")]]).contains("4096"));
    assert!(refusal(&[&[file("/", "")]]).contains("root is not a directory"));
    // An absolute path is one from the image's root.
    assert_eq!(paths(&[&[file("//etc/./x", "")]]), ["etc", "etc/x"]);
}

#[test]
fn refusals_name_the_entry_without_its_raw_bytes() {
    let text = refusal(&[&[file("ok", ""), file("\u{1b}]52;x\u{7}/../y", "")]]);
    assert!(text.contains("\\x1b]52;x\\x07/../y"), "{text}");
    assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)));
    assert!(refusal(&[&[file(&"../".repeat(1000), "")]]).len() < 400);
}

#[test]
fn entries_below_something_that_is_no_directory_are_refused() {
    assert!(refusal(&[&[file("a", ""), file("a/x", "")]]).contains("not a directory"));
    assert!(refusal(&[&[symlink("a", "a"), file("a/x", "")]]).contains("loop"));
    assert!(refusal(&[&[symlink("a", "b"), symlink("b", "a"), file("a/x", "")]]).contains("loop"));
    assert!(
        refusal(&[&[file("f", ""), symlink("a", "f"), file("a/x", "")]])
            .contains("not a directory")
    );
    let lower: &[Item] = &[file("f", "")];
    assert!(refusal(&[lower, &[hardlink("a", "f"), file("a/x", "")]]).contains("not a directory"));
    // The path that a link makes has the same limits.
    let far = "d/".repeat(200);
    assert!(
        refusal(&[&[symlink("a", &far), file(&format!("a/{}x", "e/".repeat(100)), "")]])
            .contains("255")
    );
    assert!(refusal(&[&[symlink("a", ".wh.b"), file("a/x", "")]]).contains("whiteout"));
    assert!(refusal(&[&[symlink("a", &"n".repeat(300)), file("a/x", "")]]).contains("255 bytes"));
}

#[test]
fn hard_links_to_what_is_not_a_file_of_the_image_are_refused() {
    for (target, why) in [
        ("../../etc/shadow", "`..`"),
        ("missing", "does not exist"),
        ("d", "directories"),
        ("x", "itself"),
        ("/", "root"),
        ("", "root"),
        (".wh.f", "whiteout"),
        ("f/below", "not a directory"),
        ("a\nb", "newline"),
    ] {
        let text = refusal(&[&[dir("d"), file("f", ""), hardlink("x", target)]]);
        assert!(text.contains(why), "{target}: {text}");
    }
    assert!(refusal(&[&[dir("d")], &[hardlink("x", "d")]]).contains("directories"));
    assert!(
        refusal(&[&[symlink("s", "/etc")], &[hardlink("x", "s/passwd")]])
            .contains("does not exist")
    );
}

#[test]
fn whiteouts_that_name_nothing_are_refused() {
    for path in [".wh.", ".wh..", ".wh...", "a/.wh."] {
        assert!(refusal(&[&[file(path, "")]]).contains("names nothing"), "{path}");
    }
    assert!(refusal(&[&[file(".wh.a/b", "")]]).contains("used as a directory"));
}

#[test]
fn symbolic_links_without_a_usable_target_are_refused() {
    assert!(refusal(&[&[symlink("s", "")]]).contains("empty"));
    assert!(refusal(&[&[symlink("s", &"a/".repeat(3000))]]).contains("too long"));
    assert!(refusal(&[&[symlink("s", "a\nb")]]).contains("newline"));
}

#[test]
fn bombs_end_at_the_limits() {
    let mut spool = Spool::new(std::io::sink());
    let mut budget = Budget::new(100);
    // Directories that entries imply are counted too.
    let deep: Vec<Item> = (0..3).map(|i| file(&format!("{i}/{}", "a/".repeat(50)), "")).collect();
    let error = read_layer(archive(&deep).as_slice(), &mut spool, &mut budget).unwrap_err();
    assert!(error.to_string().contains("number of files"), "{error}");

    let mut budget = Budget::new(100);
    budget.metadata = 5_000;
    let fat = file("x", "").xattr("user.x", &[7; 6_000]);
    let error = read_layer(archive(&[fat]).as_slice(), &mut spool, &mut budget).unwrap_err();
    assert!(error.to_string().contains("names and attributes"), "{error}");

    // A petabyte that is not there.
    let mut huge = archive(&[file("x", "")]);
    let mut header = huge[..512].to_vec();
    header[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0]);
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    huge[..512].copy_from_slice(&header);
    let error = read_layer(huge.as_slice(), &mut spool, &mut Budget::new(9)).unwrap_err();
    assert!(error.to_string().contains("inside a file"), "{error}");
}

#[test]
fn more_owners_than_squashfs_has_room_for_are_refused() {
    let mut spool = Spool::new(std::io::sink());
    let mut budget = Budget::new(100_000);
    let items: Vec<Item> =
        (0..33_000).map(|i| file(&i.to_string(), "").owned(i, 100_000 + i)).collect();
    let tree = read_layer(archive(&items).as_slice(), &mut spool, &mut budget).unwrap();
    let mut view = Dir::default();
    merge::apply(&mut view, tree).unwrap();
    assert!(merge::measure(&view).unwrap_err().to_string().contains("owners"));
}

#[test]
fn sparse_and_unknown_kinds_are_refused() {
    let typed = |kind: u8| {
        let mut bytes = archive(&[file("x", "")]);
        bytes[156] = kind;
        bytes[148..156].fill(b' ');
        let sum: u64 = bytes[..512].iter().map(|b| u64::from(*b)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        merged(&[bytes]).map(drop).map_err(|e| e.to_string())
    };
    assert!(typed(b'S').unwrap_err().contains("sparse"));
    assert!(typed(b'Z').unwrap_err().contains("unknown entry type 'Z'"));
    assert!(typed(b'7').is_ok());
}
