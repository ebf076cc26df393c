//! What `.dockerignore` hides, mostly as tables.

use proptest::prelude::*;

use super::*;

fn ignore(text: &str) -> Dockerignore {
    Dockerignore::parse(text.as_bytes(), Path::new(".dockerignore")).unwrap()
}

fn hides(text: &str, path: &str) -> bool {
    ignore(text).hidden_by(Path::new(path)).is_some()
}

#[test]
fn a_pattern_matches_as_moby_says() {
    for (pattern, path, expected) in [
        ("**", "file", true),
        ("**", "dir/file", true),
        ("**/", "file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/dir2/file", true),
        ("dir/**", "dir", false),
        ("dir/**", "dirs/file", false),
        ("dir**", "dirs/file", true),
        ("**/dir", "dir", true),
        ("**/dir", "a/b/dir", true),
        ("**/dir", "a/b/dir/file", true),
        ("**/dir", "adir", false),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/*", "dir/dir2/dir2/file", true),
        ("**/dir2/**", "dir/dir2/file", true),
        ("**/dir2/**", "dir/dir2", false),
        ("**file", "file", true),
        ("**file", "dir/file", true),
        ("**file", "xfile", true),
        ("**/file", "xfile", false),
        ("**/file*.txt", "dir/file1.txt", true),
        ("**/*.txt", "file.txt", true),
        ("**/*.txt", "dir/file.txt", true),
        ("**/*.txt", "dir/file.txtx", false),
        ("**/*.txt", "dir/.txt", true),
        ("a**/*.txt", "a/file.txt", true),
        ("a**/*.txt", "a/dir/dir/file.txt", true),
        ("a**/*.txt", "ab/dir/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt", "a/file.txt", true),
        ("a/*.txt**", "a/file.txt", true),
        ("a**b", "ab", true),
        ("a**b", "axb", false),
        ("a**b", "ax/b", true),
        ("a[b-d]e", "ae", false),
        ("a[b-d]e", "ace", true),
        ("a[b-d]e", "aae", false),
        ("a[^b-d]e", "aze", true),
        ("a[^b-d]e", "a/e", true),
        ("a[!b]e", "a!e", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
        ("a?b", "a/b", false),
        ("abc.def", "abcdef", false),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("abc*def+", "abcxdef+", true),
        ("(a)|b$*", "(a)|b$c", true),
        ("{a,b}", "a", false),
        ("foo", "foo/bar/baz", true),
        ("foo", "x/foo", false),
        ("foo/", "foo/bar", true),
        ("/foo", "foo", true),
        ("./foo", "foo", true),
        ("foo/../bar", "bar", true),
        ("*", "a/b", true),
        ("*/*/temp*", "a/b/temporary/x", true),
        ("*/temp*", "somedir/temporary.txt", true),
        ("temp?", "tempa", true),
        (".", "file", false),
        ("/", "file", false),
        ("..", "file", false),
        ("../file", "file", false),
        ("☺*", "☺x", true),
        ("☺?", "☺☺", true),
        ("\\!a", "!a", true),
        ("!!a", "!a", false),
        ("  spaced  ", "spaced", true),
        (" # no comment", "# no comment", true),
    ] {
        assert_eq!(hides(pattern, path), expected, "{pattern} {path}");
    }
}

#[test]
fn the_last_line_that_matches_decides() {
    assert!(!hides("*.md\n!README.md", "README.md"));
    assert!(hides("!README.md\n*.md", "README.md"));
    assert!(hides("*.md\n!README*.md\nREADME-secret.md", "README-secret.md"));
    assert!(!hides("dir\n!dir/keep", "dir/keep/file"));
    assert!(hides("dir\n!dir/keep\ndir/keep/file", "dir/keep/file"));
    assert!(hides("*\n!src", "Makefile"));
    assert!(!hides("*\n!src", "src/main.c"));
    assert!(!hides("*\n! src", "src/main.c"));
    assert!(!hides("*\n!/src", "src/main.c"));
    assert!(!hides("!a*\n*\n!*b*", "abc"));
}

#[test]
fn the_context_itself_is_never_hidden() {
    for path in ["", ".", "/"] {
        assert!(!hides("**", path));
    }
}

#[test]
fn comments_blank_lines_carriage_returns_and_a_byte_order_mark_are_no_patterns() {
    let ignore = ignore("\u{feff}# first\r\n\r\n  \r\n one \r\n#two\n\tthree\n");
    let rules: Vec<_> = ignore.rules.iter().map(|rule| (rule.line, rule.text.as_str())).collect();
    assert_eq!(rules, [(4, "one"), (6, "three")]);
    assert!(ignore.hidden_by(Path::new("one")).is_some());
}

#[test]
fn the_rule_that_hides_is_named_with_its_line() {
    let ignore = ignore("# build\n\ntarget\n**/*.jar\n");
    let rule = ignore.hidden_by(Path::new("/target/app.jar")).unwrap();
    assert_eq!((rule.line, rule.text.as_str()), (4, "**/*.jar"));
    let rule = ignore.hidden_by(Path::new("target/classes")).unwrap();
    assert_eq!((rule.line, rule.text.as_str()), (3, "target"));
}

#[test]
fn what_is_no_pattern_is_an_error_with_its_line() {
    for (text, expected) in [
        ("a\n[", "x/.dockerignore:2: `[` is not a pattern"),
        ("a[]b", "x/.dockerignore:1: `a[]b` is not a pattern"),
        ("[z-a]", "x/.dockerignore:1: `[z-a]` is not a pattern"),
        ("\n\n!\n", "x/.dockerignore:3: `!` stands alone: there is no pattern behind it"),
        ("! ", "x/.dockerignore:1: `!` stands alone: there is no pattern behind it"),
        ("!/", "x/.dockerignore:1: `!` stands alone: there is no pattern behind it"),
        ("a\\", "x/.dockerignore:1: `a\\` is not a pattern"),
    ] {
        let error = Dockerignore::parse(text.as_bytes(), Path::new("x/.dockerignore")).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_hidden_folder_is_entered_only_if_a_later_line_may_take_back_something_in_it() {
    for (text, folder, expected) in [
        ("node_modules", "node_modules", false),
        ("node_modules\n!node_modules/keep", "node_modules", true),
        ("node_modules\n!node_modules/a/b/keep", "node_modules/a", true),
        ("node_modules\n!node_modules/a/b/keep", "node_modules/b", false),
        ("!node_modules/keep\nnode_modules", "node_modules", false),
        ("*\n!src", "docs", false),
        ("*\n!src/main", "src", true),
        ("node_modules\n!*.md", "node_modules", false),
        ("node_modules\n!*/*.md", "node_modules", true),
        ("node_modules\n!*/*.md", "node_modules/x", false),
        ("node_modules\n!**/*.md", "node_modules/x", true),
        ("node_modules\n!**.md", "node_modules/x", true),
        ("node_modules/**\n!node_modules/x/**", "node_modules/x", true),
        ("node_modules\n!other/**", "node_modules/x", false),
        ("node_modules\n!node_modules/x/**", "node_modules", true),
    ] {
        assert_eq!(ignore(text).may_show_below(Path::new(folder)), expected, "{text:?} {folder}");
    }
}

#[test]
fn names_that_are_not_utf8_are_compared_by_their_bytes() {
    use std::ffi::OsStr;
    let ignore = Dockerignore::parse(b"a\xff\n*\xfe", Path::new(".dockerignore")).unwrap();
    let hidden = |name: &[u8]| ignore.hidden_by(Path::new(OsStr::from_bytes(name))).is_some();
    assert!(hidden(b"a\xff"));
    assert!(hidden(b"xx\xfe"));
    assert!(!hidden(b"xx\xfd"));
    assert!(!hidden(b"a\xfd"));
}

#[test]
fn a_pattern_of_many_stars_is_no_trap() {
    let ignore = ignore(&"**/a*".repeat(60));
    assert!(ignore.hidden_by(Path::new(&"a/".repeat(2_000))).is_some());
    assert!(ignore.hidden_by(Path::new(&format!("{}b", "aaaa".repeat(1_000)))).is_none());
}

fn lines() -> impl Strategy<Value = String> {
    prop::collection::vec("!?(\\*\\*/|\\*/|/)?[ab*?]{1,3}(/[ab*]{1,2}){0,2}", 0..5).prop_map(|lines| lines.join("\n"))
}

proptest! {
    /// Walking with `may_show_below` as the guard sees every file that asking for each file would show.
    #[test]
    fn a_folder_that_is_not_entered_holds_nothing_to_be_seen(lines in lines(), path in "[ab]{1,2}(/[ab]{1,2}){0,3}") {
        let Ok(ignore) = Dockerignore::parse(lines.as_bytes(), Path::new("i")) else { return Ok(()) };
        if ignore.hidden_by(Path::new(&path)).is_none() {
            for folder in Path::new(&path).ancestors().skip(1).filter(|folder| *folder != Path::new("")) {
                prop_assert!(
                    ignore.hidden_by(folder).is_none() || ignore.may_show_below(folder),
                    "{} is shown but {} is not entered", path, folder.display()
                );
            }
        }
    }

    #[test]
    fn a_file_in_a_folder_that_matches_matches_too(pattern in "[ab*?/]{1,6}", path in "[ab]{1,2}(/[ab]{1,2}){0,2}") {
        let Ok(ignore) = Dockerignore::parse(pattern.as_bytes(), Path::new("i")) else { return Ok(()) };
        if ignore.hidden_by(Path::new(&path)).is_some() {
            prop_assert!(ignore.hidden_by(&Path::new(&path).join("below")).is_some());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..60), path in "[a-z/*.]{0,20}") {
        if let Ok(ignore) = Dockerignore::parse(&text, Path::new("i")) {
            ignore.hidden_by(Path::new(&path));
            ignore.may_show_below(Path::new(&path));
        }
    }
}
