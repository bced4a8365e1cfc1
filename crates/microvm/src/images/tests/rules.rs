//! Each rule of merging layers, by hand.

use super::*;

#[test]
fn later_layers_win_and_directories_are_merged() {
    let found = listing(&[
        &[dir("a"), file("a/x", "1"), file("a/y", "1"), file("f", "1"), dir("d"), file("d/z", "1")],
        &[file("a/x", "2"), dir("f"), file("f/in", "2"), file("d", "2")],
    ])
    .unwrap();
    assert_eq!(found["a/x"], "file 2 644 0:0");
    assert_eq!(found["a/y"], "file 1 644 0:0");
    assert_eq!(found["f"], "dir 750 0:0");
    assert_eq!(found["d"], "file 2 644 0:0");
    assert!(!found.contains_key("d/z"));
}

#[test]
fn a_directory_keeps_its_description_until_a_layer_gives_another() {
    let lower: &[Item] = &[dir("a").mode(0o1777).owned(5, 6)];
    assert_eq!(listing(&[lower, &[file("a/x", "")]]).unwrap()["a"], "dir 1777 5:6");
    assert_eq!(listing(&[lower, &[dir("a").owned(7, 8)]]).unwrap()["a"], "dir 750 7:8");
    assert_eq!(listing(&[&[file("a/b/x", "")]]).unwrap()["a/b"], "dir 755 0:0");
}

#[test]
fn whiteouts_hide_lower_layers_only() {
    let lower: &[Item] = &[file("a/x", "1"), file("a/y", "1"), file("b/x", "1")];
    assert_eq!(paths(&[lower, &[file("a/.wh.x", "")]]), ["a", "a/y", "b", "b/x"]);
    assert_eq!(paths(&[lower, &[file(".wh.a", "")]]), ["b", "b/x"]);
    // In the same layer the order does not matter.
    for upper in [[file(".wh.a", ""), file("a/new", "2")], [file("a/new", "2"), file(".wh.a", "")]]
    {
        assert_eq!(paths(&[lower, &upper]), ["a", "a/new", "b", "b/x"]);
    }
    for upper in [[file("a/.wh.x", ""), file("a/x", "2")], [file("a/x", "2"), file("a/.wh.x", "")]]
    {
        assert_eq!(listing(&[lower, &upper]).unwrap()["a/x"], "file 2 644 0:0");
    }
    // Nothing there to hide; the parent is made, as engines do.
    assert_eq!(paths(&[&[file("n/.wh.x", "")]]), ["n"]);
    // A whiteout of a lower layer is no file for the upper ones.
    assert_eq!(paths(&[&[file(".wh.a", "")], lower]).len(), 5);
}

#[test]
fn opaque_directories_hide_all_of_the_lower_layers() {
    let lower: &[Item] = &[dir("a").owned(3, 3), file("a/x", "1"), file("a/d/y", "1")];
    for upper in [
        [file("a/.wh..wh..opq", ""), file("a/new", "2")],
        [file("a/new", "2"), file("a/.wh..wh..opq", "")],
    ] {
        let found = listing(&[lower, &upper]).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "a/new"]);
        assert_eq!(found["a"], "dir 750 3:3");
    }
    assert_eq!(paths(&[lower, &[file(".wh..wh..opq", "")], &[file("z", "")]]), ["z"]);
}

#[test]
fn hard_links_share_a_file_until_one_is_replaced() {
    let lower: &[Item] = &[file("a", "1"), hardlink("b", "a"), hardlink("d/c", "/b")];
    let found = listing(&[lower]).unwrap();
    assert_eq!((&found["a"], &found["b"]), (&found["b"], &found["d/c"]));
    assert!(found["a"].ends_with("#0"));
    let found = listing(&[lower, &[file("a", "2")]]).unwrap();
    assert_eq!(found["a"], "file 2 644 0:0");
    assert!(found["b"].starts_with("file 1") && found["b"] == found["d/c"]);
    // Into a lower layer.
    let found = listing(&[lower, &[hardlink("e", "d/c")]]).unwrap();
    assert_eq!(found["e"], found["a"]);
    // The lower layer's file, also when the same layer hides its other name.
    let found = listing(&[&[file("a", "1")], &[hardlink("e", "a"), file(".wh.a", "")]]).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["e"]);
    // To a symbolic link itself.
    let found = listing(&[&[symlink("s", "nowhere"), hardlink("t", "s")]]).unwrap();
    assert_eq!(found["t"], "-> nowhere 777 0:0 #0");
}

#[test]
fn a_symbolic_link_leads_only_within_its_own_layer() {
    // Of a lower layer: the upper layer's directory hides it, as with overlay mounts.
    let found = listing(&[&[dir("b"), symlink("a", "b")], &[file("a/x", "2")]]).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "a/x", "b"]);
    // Of the same layer: followed, and never above the root.
    for target in ["b", "/b", "../../b", "./b/../b", "/../b"] {
        let found = paths(&[&[dir("b"), symlink("a", target), file("a/x", "2")]]);
        assert_eq!(found, ["a", "b", "b/x"], "{target}");
    }
    let found = paths(&[&[symlink("p/a", "../q"), file("p/a/x", ""), hardlink("h", "p/a/x")]]);
    assert_eq!(found, ["h", "p", "p/a", "q", "q/x"]);
    // A directory entry over a link replaces the link.
    let found = listing(&[&[dir("b"), symlink("a", "b"), dir("a"), file("a/x", "2")]]).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "a/x", "b"]);
}

#[test]
fn later_entries_of_one_layer_replace_earlier_ones() {
    let found = listing(&[&[
        file("x", "1"),
        file("x", "2"),
        dir("d"),
        file("d/in", "1"),
        file("d", "2"),
        dir("e"),
        file("e/in", "1"),
        dir("e").owned(9, 9),
    ]])
    .unwrap();
    assert_eq!(found["x"], "file 2 644 0:0");
    assert_eq!(found["d"], "file 2 644 0:0");
    assert_eq!(found["e"], "dir 750 9:9");
    assert!(found.contains_key("e/in"));
}

#[test]
fn modes_owners_and_kinds_are_kept() {
    let found = listing(&[&[
        file("su", "").mode(0o4755).owned(70_000, u32::MAX - 1),
        item("pipe", Kind::Fifo, 0o600),
        symlink("s", "/etc/../x"),
    ]])
    .unwrap();
    assert_eq!(found["su"], "file  4755 70000:4294967294");
    assert_eq!(found["pipe"], "fifo 600 0:0");
    assert_eq!(found["s"], "-> /etc/../x 777 0:0");
}

#[test]
fn the_root_can_be_described() {
    let (view, _) = merged(&[archive(&[dir("./").mode(0o700).owned(1, 2)])]).unwrap();
    let meta = view.meta.unwrap();
    assert_eq!((meta.mode, meta.uid, meta.gid), (0o700, 1, 2));
}

#[test]
fn devices_are_dropped_and_still_hide_what_was_there() {
    let found = paths(&[
        &[file("dev/null", "fake"), file("dev/tty", "x"), dir("dev/disk"), file("dev/disk/a", "")],
        &[
            item("dev/null", Kind::Device, 0o666),
            item("dev/disk", Kind::Device, 0o666),
            file("dev/disk/b", ""),
        ],
    ]);
    assert_eq!(found, ["dev", "dev/disk", "dev/disk/b", "dev/tty"]);
}

#[test]
fn attributes_that_steer_the_kernel_are_dropped() {
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let ping = file("ping", "")
        .xattr("security.capability", &capability)
        .xattr("user.note", b"\0\n=")
        .xattr("trusted.overlay.redirect", b"/etc")
        .xattr("user.overlay.opaque", b"y")
        .xattr("system.posix_acl_access", b"x");
    let (view, _) = merged(&[archive(&[ping])]).unwrap();
    let Some(Node::Leaf(leaf)) = view.children.get(&b"ping"[..]) else { panic!("no file") };
    let names: Vec<_> = leaf.meta.xattrs.iter().map(|(name, _)| name.as_slice()).collect();
    assert_eq!(names, [&b"security.capability"[..], b"user.note"]);
    assert_eq!(leaf.meta.xattrs[0].1, capability);
}

#[test]
fn names_are_bytes() {
    let mut odd = file("", "1");
    odd.entry.path = b"dir/\xff\xfe \\\"'$(x)\t".to_vec();
    let (view, _) = merged(&[archive(&[odd, file("Dir/x", ""), file("DIR/x", "")])]).unwrap();
    let Some(Node::Dir(inner)) = view.children.get(&b"dir"[..]) else { panic!("no directory") };
    assert_eq!(inner.children.keys().next().unwrap().as_ref(), b"\xff\xfe \\\"'$(x)\t");
    assert_eq!(view.children.len(), 3);
}

#[test]
fn what_the_aufs_driver_left_is_skipped() {
    let found = paths(&[&[
        file(".wh..wh.aufs", ""),
        dir(".wh..wh.plnk"),
        file(".wh..wh.plnk/1.2", ""),
        file("a/.wh..wh.orph", ""),
        file("b", ""),
    ]]);
    assert_eq!(found, ["b"]);
}
