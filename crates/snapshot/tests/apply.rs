//! What applying a layer does, and what a hostile layer cannot do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod builder;

use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use builder::{Raw, archive, dir, file, hard_link, symlink, unfinished};
use zuwai_snapshot::{Applied, ApplyOptions, Ignore, RootFs, Scope, SnapshotError, SnapshotMode, apply_tar, tree};

/// A root beside a folder that nothing may touch.
struct Scratch {
    tmp: tempfile::TempDir,
    root: RootFs,
}

fn scratch() -> Scratch {
    scratch_ignoring(&[])
}

fn scratch_ignoring(ignore: &[&str]) -> Scratch {
    let tmp = tempfile::tempdir().unwrap();
    fs::create_dir(tmp.path().join("root")).unwrap();
    fs::create_dir(tmp.path().join("outside")).unwrap();
    fs::write(tmp.path().join("outside/precious"), "precious").unwrap();
    let ignore = Ignore::new(ignore.iter().map(PathBuf::from));
    let root = RootFs::open(&tmp.path().join("root"), ignore).unwrap();
    Scratch { tmp, root }
}

impl Scratch {
    fn apply(&self, entries: &[Raw<'_>]) -> Result<Applied, SnapshotError> {
        self.apply_bytes(&archive(entries))
    }

    fn apply_bytes(&self, tar: &[u8]) -> Result<Applied, SnapshotError> {
        let applied = apply_tar(&mut &tar[..], &self.root, &ApplyOptions::default());
        let outside: Vec<_> = fs::read_dir(self.tmp.path().join("outside")).unwrap().collect();
        assert_eq!(outside.len(), 1, "something was made or removed outside the root");
        assert_eq!(fs::read_to_string(self.tmp.path().join("outside/precious")).unwrap(), "precious");
        assert_eq!(fs::read_dir(self.tmp.path()).unwrap().count(), 2, "something was made beside the root");
        applied
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn tree(&self) -> Vec<String> {
        let text = tree::render(&self.root).unwrap();
        text.lines().map(|line| line.split(' ').skip(5).collect::<Vec<_>>().join(" ")).collect()
    }
}

fn refused(result: Result<Applied, SnapshotError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn owners_modes_and_times_are_those_of_the_entries_folders_included() {
    let scratch = scratch();
    let fine = Raw { pax: &[("mtime", b"1234567890.123456789"), ("uid", b"3000000")], ..file("d/f", "x") };
    let old = Raw { pax: &[("mtime", b"-86400.5")], ..file("d/old", "x") };
    let setuid = Raw { mode: 0o4755, pax: &[("uid", b"7")], ..file("d/setuid", "x") };
    let link = Raw { pax: &[("uid", b"8"), ("gid", b"9")], ..symlink("d/link", "f") };
    scratch.apply(&[dir("./"), Raw { mode: 0o1755, mtime: 77, ..dir("d") }, fine, old, setuid, link]).unwrap();
    let facts = |path: &str| fs::symlink_metadata(scratch.at(path)).unwrap();
    assert_eq!((facts("d").mtime(), facts("d").mode() & 0o7777), (77, 0o1755));
    let fine = facts("d/f");
    assert_eq!((fine.mtime(), fine.mtime_nsec(), fine.uid()), (1_234_567_890, 123_456_789, 3_000_000));
    assert_eq!((facts("d/old").mtime(), facts("d/old").mtime_nsec()), (-86_401, 500_000_000));
    assert_eq!((facts("d/setuid").mode() & 0o7777, facts("d/setuid").uid()), (0o4755, 7));
    assert_eq!((facts("d/link").uid(), facts("d/link").gid(), facts("d/link").mtime()), (8, 9, 1_600_000_000));
}

#[test]
fn a_folder_that_is_not_in_the_layer_keeps_its_time() {
    let scratch = scratch();
    scratch.apply(&[Raw { mtime: 5, ..dir("etc") }, file("etc/a", ""), file("etc/b", "")]).unwrap();
    scratch.apply(&[file("etc/c", ""), Raw { name: "etc/.wh.a", mode: 0, ..Raw::default() }]).unwrap();
    assert_eq!(fs::metadata(scratch.at("etc")).unwrap().mtime(), 5);
    assert_eq!(scratch.tree(), ["etc", "etc/b", "etc/c"]);
}

#[test]
fn folders_above_an_entry_are_made_when_nothing_told_of_them() {
    let scratch = scratch();
    let applied = scratch.apply(&[file("a/b/c", "x")]).unwrap();
    assert_eq!(fs::metadata(scratch.at("a/b")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(applied.paths(), ["/a", "/a/b", "/a/b/c"].map(PathBuf::from));
}

#[test]
fn whiteouts_delete_and_opaque_ones_spare_what_the_layer_brings() {
    let scratch = scratch();
    scratch.apply(&[dir("d"), dir("d/old"), file("d/old/x", ""), file("d/y", ""), file("z", "")]).unwrap();
    let entries = [
        file("d/new", ""),
        dir("d/kept"),
        file("d/sub/deep", ""),
        file("d/.wh..wh..opq", ""),
        file(".wh.z", ""),
        file("d/after", ""),
    ];
    scratch.apply(&entries).unwrap();
    assert_eq!(scratch.tree(), ["d", "d/after", "d/kept", "d/new", "d/sub", "d/sub/deep"]);
    scratch.apply(&[file(".wh.d", ""), file("gone/.wh.x", ""), file(".wh..wh.plnk", "")]).unwrap();
    assert!(scratch.tree().is_empty());
}

#[test]
fn a_folder_in_which_an_opaque_whiteout_deletes_keeps_its_time() {
    let scratch = scratch();
    let old = |name| Raw { mtime: 5, ..dir(name) };
    scratch.apply(&[old("d"), old("d/sub"), old("d/sub/deep"), file("d/sub/gone", "")]).unwrap();
    scratch.apply(&[file("d/sub/deep/new", ""), file("d/.wh..wh..opq", "")]).unwrap();
    assert_eq!(scratch.tree(), ["d", "d/sub", "d/sub/deep", "d/sub/deep/new"]);
    for folder in ["d", "d/sub", "d/sub/deep"] {
        assert_eq!(fs::metadata(scratch.at(folder)).unwrap().mtime(), 5, "{folder}");
    }
}

#[test]
fn an_archive_that_is_no_layer_has_no_whiteouts() {
    let scratch = scratch();
    fs::create_dir(scratch.at("into")).unwrap();
    let tar = archive(&[file(".wh.x", "text"), dir("./"), file("./y", "")]);
    let options = ApplyOptions { into: "/into".into(), owner: Some((5, 6)), whiteouts: false, ..Default::default() };
    let applied = apply_tar(&mut &tar[..], &scratch.root, &options).unwrap();
    assert_eq!(scratch.tree(), ["into", "into/.wh.x", "into/y"]);
    let facts = fs::metadata(scratch.at("into/y")).unwrap();
    assert_eq!((facts.uid(), facts.gid()), (5, 6));
    assert_eq!(applied.paths(), ["/into", "/into/.wh.x", "/into/y"].map(PathBuf::from));
}

#[test]
fn what_of_an_archive_goes_into_something_ignored_is_told_and_of_a_layer_is_not() {
    let scratch = scratch_ignoring(&["/own"]);
    fs::create_dir(scratch.at("own")).unwrap();
    let tar = archive(&[file("own/x", ""), file("own/y", ""), file("z", "")]);
    let options = ApplyOptions { whiteouts: false, ..Default::default() };
    let applied = apply_tar(&mut &tar[..], &scratch.root, &options).unwrap();
    assert_eq!(fs::read_dir(scratch.at("own")).unwrap().count(), 0);
    assert!(scratch.at("z").exists());
    assert_eq!(applied.warnings.len(), 1);
    assert!(applied.warnings[0].ends_with(": /own/x and 1 more"), "{:?}", applied.warnings);
    assert!(apply_tar(&mut &tar[..], &scratch.root, &ApplyOptions::default()).unwrap().warnings.is_empty());
}

#[test]
fn files_folders_and_links_replace_each_other() {
    let scratch = scratch();
    scratch.apply(&[file("a", "file"), dir("b"), file("b/x", ""), symlink("c", "b"), file("d", "old")]).unwrap();
    let link = hard_link("e", "d");
    scratch.apply(&[link]).unwrap();
    scratch.apply(&[dir("a"), file("a/y", ""), symlink("b", "a"), dir("c"), file("d", "new")]).unwrap();
    assert_eq!(scratch.tree(), ["a", "a/y", "b -> a", "c", "d", "e"]);
    assert_eq!(fs::read_to_string(scratch.at("d")).unwrap(), "new");
    assert_eq!(fs::read_to_string(scratch.at("e")).unwrap(), "old", "the other name of a replaced file changed");
}

#[test]
fn hard_links_are_one_file_and_may_name_their_target_absolutely() {
    let scratch = scratch();
    scratch
        .apply(&[dir("d"), file("d/a", "x"), hard_link("b", "/d/a"), hard_link("c", "./d/../b"), hard_link("b", "d/a")])
        .unwrap();
    let ino = |path: &str| fs::metadata(scratch.at(path)).unwrap().ino();
    assert_eq!((ino("d/a"), ino("b")), (ino("b"), ino("c")));
    assert!(refused(scratch.apply(&[hard_link("x", "none")])).starts_with("unpack \"x\""));
}

#[test]
fn devices_and_pipes_are_made() {
    let scratch = scratch();
    scratch
        .apply(&[
            Raw { name: "pipe", kind: b'6', mode: 0o622, ..Raw::default() },
            Raw { name: "null", kind: b'3', ..Raw::default() },
        ])
        .unwrap();
    let facts = |path: &str| fs::symlink_metadata(scratch.at(path)).unwrap();
    assert!(facts("pipe").file_type().is_fifo() && facts("pipe").mode() & 0o7777 == 0o622);
    assert!(facts("null").file_type().is_char_device());
}

#[test]
fn attributes_are_set_and_those_of_the_machine_are_not() {
    let scratch = scratch();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".as_slice();
    let value = b"\n22 linkpath=/etc/evil\n\0".as_slice();
    let entry = Raw {
        pax: &[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.security.selinux", b"x"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.odd", value),
        ],
        ..file("ping", "x")
    };
    assert!(scratch.apply(&[entry]).unwrap().warnings.is_empty());
    let text = tree::render(&scratch.root).unwrap();
    assert!(text.contains(" security.capability=01000002002000000000000000000000"), "{text}");
    assert!(text.contains(" user.odd=0a3232206c696e6b706174683d2f6574632f6576696c0a00\n"), "{text}");
    assert!(!text.contains("selinux") && !text.contains("overlay"));
}

#[test]
fn an_attribute_that_cannot_be_set_is_one_warning() {
    let scratch = scratch();
    let with = |name| Raw { pax: &[("SCHILY.xattr.user.note", b"x")], ..symlink(name, "x") };
    let warnings = scratch.apply(&[with("a"), with("b")]).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("user.note") && warnings[0].ends_with("/a and 1 more"), "{warnings:?}");
}

#[test]
fn capabilities_that_cannot_be_set_are_one_warning_and_their_files_are_there() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let scratch = scratch();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let pax: &[(&str, &[u8])] = &[("SCHILY.xattr.security.capability", capability)];
    let able = |name| Raw { pax, ..file(name, "program") };
    let applied = std::thread::scope(|scope| {
        // Capabilities are a thread's own: what this one gives up, the other tests keep.
        let without = scope.spawn(|| {
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(CapabilitySet::SETFCAP);
            set_capabilities(None, sets).unwrap();
            scratch.apply(&[able("ping"), able("traceroute"), able("arping")]).unwrap()
        });
        without.join().unwrap()
    });
    assert_eq!(applied.warnings.len(), 1, "{:?}", applied.warnings);
    assert!(applied.warnings[0].contains("security.capability"), "{:?}", applied.warnings);
    assert!(applied.warnings[0].ends_with("/ping and 2 more"), "{:?}", applied.warnings);
    assert_eq!(fs::read_to_string(scratch.at("arping")).unwrap(), "program");
    // Who may set them does.
    assert!(scratch.apply(&[able("ping")]).unwrap().warnings.is_empty());
    assert!(tree::render(&scratch.root).unwrap().contains(" ping security.capability="));
}

#[test]
fn long_names_of_pax_and_gnu_are_read() {
    let scratch = scratch();
    let pax = format!("{}/p", "a".repeat(200));
    let gnu = format!("{}/g", "b".repeat(200));
    let entries = [
        Raw { pax: &[("path", pax.as_bytes())], ..file("short", "") },
        Raw { name: "././@LongLink", kind: b'L', content: gnu.as_bytes(), ..Raw::default() },
        file("cut", ""),
    ];
    scratch.apply(&entries).unwrap();
    assert!(scratch.at(&pax).exists() && scratch.at(&gnu).exists());
}

#[test]
fn nothing_ignored_is_written_removed_or_replaced_wherever_links_lead() {
    let scratch = scratch_ignoring(&["/proc", "/etc/hosts", "/var/run/secrets"]);
    fs::create_dir_all(scratch.at("proc")).unwrap();
    fs::create_dir_all(scratch.at("etc")).unwrap();
    fs::create_dir_all(scratch.at("var/run/secrets")).unwrap();
    fs::write(scratch.at("etc/hosts"), "mounted").unwrap();
    fs::write(scratch.at("var/run/secrets/token"), "secret").unwrap();
    let applied = scratch
        .apply(&[
            symlink("link", "/proc"),
            file("link/x", ""),
            dir("proc"),
            file("proc/y", ""),
            dir("etc"),
            file("etc/hosts", "image"),
            file("etc/.wh.hosts", ""),
            symlink("var/run", "/run"),
            file(".wh.var", ""),
            file("etc/.wh..wh..opq", ""),
            hard_link("stolen", "etc/hosts"),
        ])
        .unwrap();
    assert_eq!(fs::read_dir(scratch.at("proc")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(scratch.at("etc/hosts")).unwrap(), "mounted");
    assert_eq!(fs::read_to_string(scratch.at("var/run/secrets/token")).unwrap(), "secret");
    assert!(!scratch.at("stolen").exists());
    assert_eq!(applied.warnings.len(), 1, "{:?}", applied.warnings);
    assert!(applied.warnings[0].ends_with("/var/run"), "{:?}", applied.warnings);
}

#[test]
fn names_that_lead_out_of_the_root_are_refused_by_name() {
    for (entry, reason) in [
        (file("../outside/x", ""), "its name leads out of the root"),
        (file("a/../../outside/x", ""), "its name leads out of the root"),
        (file("../../../../../../etc/zuwai-evil", ""), "its name leads out of the root"),
        (file(".wh...", ""), "it is a whiteout of no name"),
        (file(".wh..", ""), "it is a whiteout of no name"),
        (file(".wh.", ""), "it is a whiteout of no name"),
        (file("../outside/.wh.precious", ""), "its name leads out of the root"),
        (hard_link("x", "../outside/precious"), "it is a hard link to something outside the root"),
        (hard_link("x", "/"), "it is a hard link to a folder"),
        (symlink("x", ""), "it is a link to nothing"),
        (Raw { pax: &[("path", b"a\0b")], ..file("x", "") }, "its name has a NUL in it"),
        (file("./", ""), ""),
    ] {
        let scratch = scratch();
        let error = scratch.apply(std::slice::from_ref(&entry));
        if reason.is_empty() {
            error.unwrap();
        } else {
            let error = refused(error);
            assert!(error.ends_with(&format!("of the archive is refused: {reason}")), "{error}");
        }
        assert!(scratch.tree().is_empty());
    }
}

#[test]
fn absolute_names_lie_inside_the_root() {
    let scratch = scratch();
    scratch.apply(&[file("/etc/x", ""), file("//a/../b", "")]).unwrap();
    assert_eq!(scratch.tree(), ["b", "etc", "etc/x"]);
}

#[test]
fn links_of_the_image_never_lead_out_of_it() {
    let scratch = scratch();
    let outside = scratch.tmp.path().join("outside");
    let outside = outside.to_str().unwrap();
    scratch
        .apply(&[
            symlink("climb", "../../../outside"),
            symlink("direct", outside),
            symlink("up", ".."),
            dir("d"),
            symlink("d/up", "../../outside"),
        ])
        .unwrap();
    for name in ["climb/precious", "direct/precious", "up/outside/precious", "d/up/precious"] {
        let _ = scratch.apply(&[file(name, "evil")]);
        let parent = Path::new(name).parent().unwrap().to_str().unwrap();
        let _ = scratch.apply(&[file(&format!("{parent}/.wh.precious"), "")]);
        let _ = scratch.apply(&[file(&format!("{parent}/.wh..wh..opq"), "")]);
        let _ = scratch.apply(&[hard_link("stolen", name)]);
        let _ = scratch.apply(&[dir(parent)]);
    }
    assert!(!fs::read_to_string(scratch.at("stolen")).is_ok_and(|text| text == "precious"));
}

#[test]
fn a_file_through_a_link_to_a_file_replaces_the_link() {
    let scratch = scratch();
    let precious = scratch.tmp.path().join("outside/precious");
    scratch.apply(&[symlink("x", precious.to_str().unwrap()), file("x", "evil")]).unwrap();
    assert_eq!(fs::read_to_string(scratch.at("x")).unwrap(), "evil");
    assert!(!fs::symlink_metadata(scratch.at("x")).unwrap().is_symlink());
}

#[test]
fn a_folder_that_becomes_a_link_between_two_entries_is_followed_anew() {
    let scratch = scratch();
    scratch
        .apply(&[dir("a"), file("a/one", ""), dir("b"), symlink("a", "../outside"), dir("a/"), file("a/two", "")])
        .unwrap();
    assert_eq!(scratch.tree(), ["a", "a/two", "b"]);
    let scratch = self::scratch();
    scratch.apply(&[dir("a"), file("a/one", ""), dir("b"), symlink("a", "b"), file("a/two", "")]).unwrap();
    assert_eq!(scratch.tree(), ["a -> b", "b", "b/two"]);
}

#[test]
fn link_loops_end() {
    let scratch = scratch();
    let error = refused(scratch.apply(&[symlink("a", "b"), symlink("b", "a"), file("a/x", "")]));
    assert_eq!(error, "unpack \"a/x\"");
}

#[test]
fn claims_of_enormous_size_cost_nothing() {
    // A file of a terabyte that is not there.
    let scratch = scratch();
    let tar = unfinished(&[Raw { size: Some(1 << 40), ..file("huge", "x") }]);
    let error = refused(scratch.apply_bytes(&tar));
    assert_eq!(error, "the archive holds more than 274877906944 bytes (at entry \"huge\")");
    let tar = unfinished(&[Raw { size: Some(1 << 35), ..file("large", "x") }]);
    assert!(refused(scratch.apply_bytes(&tar)).starts_with("the archive is broken after entry \"large\""));
    // Headers of a gigabyte.
    let tar = unfinished(&[Raw { kind: b'x', size: Some(1 << 30), ..file("pax", "x") }]);
    assert!(refused(scratch.apply_bytes(&tar)).starts_with("the archive is broken"));
    let tar = unfinished(&[Raw { kind: b'L', size: Some(1 << 62), ..file("gnu", "x") }]);
    assert!(refused(scratch.apply_bytes(&tar)).starts_with("the archive is broken"));
    // Headers without an end.
    let tar = unfinished(&vec![Raw { kind: b'x', content: b"6 a=b\n", ..file("pax", "") }; 40]);
    assert!(refused(scratch.apply_bytes(&tar)).starts_with("the archive is broken"));
}

#[test]
fn sparse_files_get_their_holes_and_impossible_maps_are_refused() {
    let scratch = scratch();
    let sparse = |map: &'static [u8], size: &'static [u8], content: &'static str| Raw {
        pax: Vec::leak(vec![
            ("GNU.sparse.major", b"0".as_slice()),
            ("GNU.sparse.minor", b"1".as_slice()),
            ("GNU.sparse.name", b"sparse".as_slice()),
            ("GNU.sparse.size", size),
            ("GNU.sparse.map", map),
        ]),
        ..file("GNUSparseFile/x", content)
    };
    scratch.apply(&[sparse(b"2,3,1048576,2", b"2000000", "abcde"), file("next", "y")]).unwrap();
    let content = fs::read(scratch.at("sparse")).unwrap();
    assert_eq!((content.len(), &content[2..5], &content[1_048_576..1_048_578]), (2_000_000, &b"abc"[..], &b"de"[..]));
    assert!(fs::metadata(scratch.at("sparse")).unwrap().blocks() * 512 < 100_000);
    assert!(scratch.at("next").exists());
    for (map, size) in [
        (&b"0,6"[..], &b"10"[..]),
        (b"0,4", b"10"),
        (b"8,5", b"10"),
        (b"18446744073709551615,5", b"10"),
        (b"0,x", b"10"),
    ] {
        assert!(refused(scratch.apply(&[sparse(map, size, "abcde")])).contains("broken"), "{map:?}");
    }
    let error = refused(scratch.apply(&[sparse(b"0,5", b"1000000000000", "abcde")]));
    assert!(error.starts_with("the archive holds more than"), "{error}");
}

#[test]
fn sparse_files_are_read_in_every_format_that_gnu_tar_writes() {
    let tmp = tempfile::tempdir().unwrap();
    let sparse = fs::File::create(tmp.path().join("sparse")).unwrap();
    // More pieces than a header of the oldest format has room for, and a hole at the end.
    for piece in 0..30_u8 {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[piece + 1; 4096], u64::from(piece) << 20).unwrap();
    }
    sparse.set_len(40 << 20).unwrap();
    let expected = fs::read(tmp.path().join("sparse")).unwrap();
    for format in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let mut tar = std::process::Command::new("tar");
        let tar = tar.args(["--create", "--sparse", "--file=-", "--directory"]).arg(tmp.path()).args(format);
        let made = tar.arg("sparse").output().unwrap();
        assert!(made.status.success() && made.stdout.len() < 1 << 20, "{made:?}");
        let scratch = scratch();
        scratch.apply_bytes(&made.stdout).unwrap();
        assert!(fs::read(scratch.at("sparse")).unwrap() == expected, "{format:?}");
        assert!(fs::metadata(scratch.at("sparse")).unwrap().blocks() * 512 < 1 << 20, "{format:?}");
    }
}

#[test]
fn a_header_that_says_a_billion_costs_nothing() {
    let scratch = scratch();
    let pieces: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.size", b"10"),
        ("GNU.sparse.numblocks", b"1000000000"),
        ("GNU.sparse.offset", b"0"),
        ("GNU.sparse.numbytes", b"1"),
    ];
    // The number is not what counts, but the pieces that are there.
    scratch.apply(&[Raw { pax: pieces, ..file("x", "y") }]).unwrap();
    assert_eq!(fs::metadata(scratch.at("x")).unwrap().len(), 10);
    // The later format, whose map stands before the content.
    let pieces: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"x"),
        ("GNU.sparse.realsize", b"10"),
    ];
    let map = format!("{:\0<512}", "1000000000\n0\n1\n");
    assert!(refused(scratch.apply(&[Raw { pax: pieces, ..file("GNUSparseFile/x", &map) }])).contains("broken"));
    // More pieces than there are bytes, of which the archive ends before it has them all; a block and more is behind the last
    // whole line, so that the parser asks for no more than there is.
    let map = format!("{:\0<1536}", "5000\n0\n1\n");
    let tar = unfinished(&[Raw { pax: pieces, ..file("GNUSparseFile/x", &map) }]);
    assert!(refused(scratch.apply_bytes(&tar)).contains("it ends within a header"));
    assert_eq!(scratch.tree(), ["x"]);
}

/// A terabyte of zeros behind some bytes.
fn terabyte_behind(start: Vec<u8>) -> impl std::io::Read + Send {
    std::io::Cursor::new(start).chain(std::io::repeat(0).take(1 << 40))
}

#[test]
fn a_gzip_bomb_fills_neither_the_disk_nor_the_day() {
    // A quarter of a megabyte that unpacks to a quarter of a gigabyte, and says so.
    let tar = archive(&[file("small", "x")]);
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&unfinished(&[file("first", "x"), Raw { size: Some(1 << 28), ..file("bomb", "") }])).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(1 << 28), &mut bomb).unwrap();
    bomb.write_all(&tar).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 1 << 19);
    let scratch = scratch();
    let options = ApplyOptions { max_bytes: 1 << 20, ..ApplyOptions::default() };
    let mut inflated = flate2::bufread::MultiGzDecoder::new(&bomb[..]);
    let error = refused(apply_tar(&mut inflated, &scratch.root, &options));
    assert_eq!(error, "the archive holds more than 1048576 bytes (at entry \"bomb\")");
    assert_eq!(scratch.tree(), ["first"], "something of the bomb was written");

    // Many small files.
    let many: Vec<Raw<'_>> = vec![file("x", "0123456789"); 200];
    let options = ApplyOptions { max_bytes: 1000, ..ApplyOptions::default() };
    let error = refused(apply_tar(&mut &archive(&many)[..], &scratch.root, &options));
    assert_eq!(error, "the archive holds more than 1000 bytes (at entry \"x\")");

    // What no entry says: behind the end, and in headers for all entries.
    let error = refused(apply_tar(&mut terabyte_behind(tar), &scratch.root, &ApplyOptions::default()));
    assert!(error.contains("more than a gigabyte follows its end"), "{error}");
    for (record, times) in
        [(b"6 a=b\n".to_vec(), 17_000), (format!("1000012 a={}\n", "b".repeat(1_000_001)).into(), 17)]
    {
        let global = unfinished(&[Raw { kind: b'g', content: &record, ..file("pax", "") }]);
        let mut endless = std::io::Cursor::new(global.repeat(times));
        let error = refused(apply_tar(&mut endless, &scratch.root, &ApplyOptions::default()));
        assert!(error.contains("headers that are for all entries are larger than 16 MiB"), "{error}");
    }
}

#[test]
fn limits_name_the_entry_at_which_they_were_passed() {
    let scratch = scratch();
    let tar = archive(&[file("a", "12345"), file("b", "12345"), file("c", "1")]);
    let options = ApplyOptions { max_bytes: 10, ..ApplyOptions::default() };
    let error = apply_tar(&mut &tar[..], &scratch.root, &options).unwrap_err();
    assert_eq!(error.to_string(), "the archive holds more than 10 bytes (at entry \"c\")");
    let options = ApplyOptions { max_entries: 1, ..ApplyOptions::default() };
    let error = apply_tar(&mut &tar[..], &scratch.root, &options).unwrap_err();
    assert_eq!(error.to_string(), "the archive holds more than 1 entries (at entry \"b\")");
}

#[test]
fn a_full_disk_is_told_with_the_entry() {
    let scratch = scratch();
    let mounted = scratch.at("small");
    fs::create_dir(&mounted).unwrap();
    let options = c"size=64k";
    rustix::mount::mount("tmpfs", &mounted, "tmpfs", rustix::mount::MountFlags::empty(), options).unwrap();
    let root = RootFs::open(&mounted, Ignore::default()).unwrap();
    let large = "x".repeat(300_000);
    let tar = archive(&[file("fits", "x"), file("usr/lib/large", &large)]);
    let error = apply_tar(&mut &tar[..], &root, &ApplyOptions::default()).unwrap_err();
    rustix::mount::unmount(&mounted, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(error.to_string(), "unpack \"usr/lib/large\"");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "No space left on device (os error 28)");
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::StorageFull));
}

#[test]
fn a_snapshotter_that_was_told_knows_the_tree_without_looking() {
    let scratch = scratch_ignoring(&["/etc/hosts"]);
    fs::create_dir(scratch.at("etc")).unwrap();
    fs::write(scratch.at("etc/hosts"), "").unwrap();
    let mut snapshotter = SnapshotMode::Full.snapshotter();
    let one = [
        dir("etc"),
        file("etc/passwd", "root"),
        dir("d"),
        file("d/a", "a"),
        hard_link("b", "d/a"),
        hard_link("c", "d/a"),
        symlink("l", "d"),
    ];
    snapshotter.adopt(&scratch.apply(&one).unwrap());
    let two = [
        file("d/a", "other"),
        file("etc/shadow", ""),
        file(".wh.l", ""),
        file("unknown/x", "x"),
        hard_link("new", "c"),
    ];
    snapshotter.adopt(&scratch.apply(&two).unwrap());
    snapshotter.settle(&scratch.root).unwrap();
    assert_eq!(snapshotter.changes(&scratch.root, &Scope::Everywhere).unwrap(), []);
    // What was told holds: an owner set to what it is adds nothing.
    for path in ["b", "d/a", "etc/passwd", "new", "c"] {
        std::os::unix::fs::chown(scratch.at(path), Some(0), Some(0)).unwrap();
    }
    fs::set_permissions(scratch.at("d"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(snapshotter.changes(&scratch.root, &Scope::Everywhere).unwrap(), []);
}

/// Enough small files for several threads to write them.
fn names_and_contents() -> Vec<(String, String)> {
    (0..3000)
        .map(|number| (format!("d{}/f{number}", number / 40), format!("{number} ").repeat(number * 7 % 900)))
        .collect()
}

#[test]
fn thousands_of_small_files_get_their_own_content_and_are_known() {
    let scratch = scratch();
    let files = names_and_contents();
    let links: Vec<String> = files.iter().map(|(name, _)| format!("{name}-link")).collect();
    let large = "large".repeat(40_000);
    let mut entries = Vec::new();
    for (number, (name, content)) in files.iter().enumerate() {
        let mode = [0o644, 0o755, 0o4755, 0o600][number % 4];
        let pax: &[(&str, &[u8])] = if number % 5 == 0 { &[("uid", b"7"), ("gid", b"8")] } else { &[] };
        if number % 97 == 0 {
            entries.push(file(name, "an older one"));
        }
        entries.push(Raw { mode, pax, mtime: 1_000_000_000 + number as u64, ..file(name, content) });
        if number % 41 == 0 {
            entries.push(hard_link(&links[number], name));
        }
        if number == 1500 {
            entries.push(file("large", &large));
        }
    }
    let mut snapshotter = SnapshotMode::Full.snapshotter();
    snapshotter.adopt(&scratch.apply(&entries).unwrap());
    for (number, (name, content)) in files.iter().enumerate() {
        assert_eq!(&fs::read_to_string(scratch.at(name)).unwrap(), content, "{name}");
        let facts = fs::metadata(scratch.at(name)).unwrap();
        let owner = if number % 5 == 0 { (7, 8) } else { (0, 0) };
        assert_eq!(
            (facts.mode() & 0o7777, facts.uid(), facts.gid()),
            ([0o644, 0o755, 0o4755, 0o600][number % 4], owner.0, owner.1)
        );
        assert_eq!(facts.mtime(), 1_000_000_000 + i64::try_from(number).unwrap());
        assert_eq!(facts.nlink(), if number % 41 == 0 { 2 } else { 1 });
    }
    assert_eq!(fs::read_to_string(scratch.at("large")).unwrap(), large);
    snapshotter.settle(&scratch.root).unwrap();
    assert_eq!(snapshotter.changes(&scratch.root, &Scope::Everywhere).unwrap(), []);
    for (number, (name, _)) in files.iter().enumerate().filter(|(number, _)| number % 5 != 0) {
        std::os::unix::fs::chown(scratch.at(name), Some(0), Some(0)).unwrap();
        fs::set_permissions(scratch.at(name), fs::Permissions::from_mode([0o644, 0o755, 0o4755, 0o600][number % 4]))
            .unwrap();
    }
    assert_eq!(snapshotter.changes(&scratch.root, &Scope::Everywhere).unwrap(), []);
}

#[test]
fn a_disk_that_small_files_fill_is_told_with_one_of_them() {
    let scratch = scratch();
    let mounted = scratch.at("small");
    fs::create_dir(&mounted).unwrap();
    let options = c"size=1m";
    rustix::mount::mount("tmpfs", &mounted, "tmpfs", rustix::mount::MountFlags::empty(), options).unwrap();
    let root = RootFs::open(&mounted, Ignore::default()).unwrap();
    let files = names_and_contents();
    let tar = archive(&files.iter().map(|(name, content)| file(name, content)).collect::<Vec<_>>());
    let error = apply_tar(&mut &tar[..], &root, &ApplyOptions::default()).unwrap_err();
    rustix::mount::unmount(&mounted, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(error.to_string().starts_with("unpack \"d"), "{error}");
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::StorageFull));
}

#[test]
fn owners_set_to_what_they_are_add_nothing_whatever_kind_of_entry_was_applied() {
    let scratch = scratch();
    let sparse: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"0"),
        ("GNU.sparse.minor", b"1"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.size", b"2000000"),
        ("GNU.sparse.map", b"2,3,1048576,2"),
    ];
    let entries = [
        dir("d"),
        file("d/full", "content"),
        file("d/empty", ""),
        hard_link("hard", "d/full"),
        symlink("soft", "d/full"),
        Raw { kind: b'6', ..file("pipe", "") },
        Raw { kind: b'3', ..file("null", "") },
        Raw { pax: sparse, ..file("GNUSparseFile/x", "abcde") },
    ];
    let mut snapshotter = SnapshotMode::Full.snapshotter();
    snapshotter.adopt(&scratch.apply(&entries).unwrap());
    snapshotter.settle(&scratch.root).unwrap();
    for path in ["d", "d/full", "d/empty", "hard", "soft", "pipe", "null", "sparse"] {
        std::os::unix::fs::lchown(scratch.at(path), Some(0), Some(0)).unwrap();
    }
    assert_eq!(snapshotter.changes(&scratch.root, &Scope::Everywhere).unwrap(), []);
}

#[test]
fn names_that_are_not_text_stay_as_they_are() {
    let scratch = scratch();
    scratch.apply(&[Raw { pax: &[("path", b"\xff\xfe(")], ..file("x", "") }]).unwrap();
    let names: Vec<_> = fs::read_dir(scratch.root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names[0].as_bytes(), b"\xff\xfe(");
}
