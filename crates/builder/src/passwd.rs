//! Users and groups of an image, read from its own /etc/passwd and /etc/group by our own parser: libc's would load code
//! that the image brings. Who a RUN runs as follows what the container runtimes do; who COPY gives files to follows
//! `--chown`, which reads a lone number differently.

/// The file of users.
const PASSWD: &str = "/etc/passwd";
/// The file of groups.
const GROUP: &str = "/etc/group";
/// Identifiers end here, as with the runtimes: the kernel's last ones have meanings of their own.
const LARGEST: u32 = i32::MAX.unsigned_abs();

/// A user or a group that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswdError {
    /// No such user.
    #[error("the user `{name}` is not in {PASSWD} of the image")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// No such group.
    #[error("the group `{name}` is not in {GROUP} of the image")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// A number that is too large.
    #[error("{text} is too large a number for a user or a group: {LARGEST} is the last")]
    TooLarge {
        /// The number.
        text: String,
    },
    /// `--chown=:` and the like.
    #[error("`{text}` names no owner: it is written user, user:group or :group")]
    NoOwner {
        /// As written.
        text: String,
    },
}

/// The users and groups of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    users: Vec<UserRow>,
    groups: Vec<GroupRow>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct UserRow {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct GroupRow {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// Who a command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Groups besides that one; none when the group was named.
    pub(crate) groups: Vec<u32>,
    /// The home folder: `/` for a user that is not in the file.
    pub(crate) home: String,
}

impl Accounts {
    /// Reads the bytes of both files; a file that an image does not have has none. Lines that are not well-formed are
    /// nobody's.
    pub(crate) fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Accounts { users: rows(passwd, user_row), groups: rows(group, group_row) }
    }

    /// Who `USER text` means: `name`, `uid`, and either with `:group` or `:gid`; empty is root. A number that the file
    /// does not have is taken as it is, with the group 0.
    pub(crate) fn user(&self, text: &str) -> Result<User, PasswdError> {
        let (name, group) = text.split_once(':').unwrap_or((text, ""));
        let name = if name.is_empty() { "0" } else { name };
        let number = number(name)?;
        let row = self.users.iter().find(|row| row.name == name || number == Some(row.uid));
        let (uid, gid) = match (row, number) {
            (Some(row), _) => (row.uid, row.gid),
            (None, Some(uid)) => (uid, 0),
            (None, None) => return Err(PasswdError::UnknownUser { name: name.to_owned() }),
        };
        let home = self.users.iter().find(|row| row.uid == uid).map_or("/", |row| row.home.as_str());
        let home = if home.is_empty() { "/" } else { home }.to_owned();
        if !group.is_empty() {
            return Ok(User { uid, gid: self.group(group, true)?, groups: Vec::new(), home });
        }
        let is_member = |group: &&GroupRow| row.is_some_and(|row| group.members.contains(&row.name));
        let groups = self.groups.iter().filter(is_member).map(|group| group.gid).collect();
        Ok(User { uid, gid, groups, home })
    }

    /// Who `--chown=text` means. A lone number is user and group; a lone name brings the user's own group.
    pub(crate) fn owner(&self, text: &str) -> Result<(u32, u32), PasswdError> {
        let (name, group) = text.split_once(':').unwrap_or((text, ""));
        if name.is_empty() && group.is_empty() {
            return Err(PasswdError::NoOwner { text: text.to_owned() });
        }
        let (uid, gid) = match number(name)? {
            Some(uid) => (uid, uid),
            None if name.is_empty() => (0, 0),
            None => {
                let row = self.users.iter().find(|row| row.name == name);
                let row = row.ok_or_else(|| PasswdError::UnknownUser { name: name.to_owned() })?;
                (row.uid, row.gid)
            }
        };
        Ok((uid, if group.is_empty() { gid } else { self.group(group, false)? }))
    }

    /// `rows_first`: whether a number is looked up as a name before it is taken as a number.
    fn group(&self, text: &str, rows_first: bool) -> Result<u32, PasswdError> {
        let number = number(text)?;
        let row = self.groups.iter().find(|row| row.name == text || (rows_first && number == Some(row.gid)));
        match (row, number) {
            (Some(row), number) if rows_first || number.is_none() => Ok(row.gid),
            (_, Some(gid)) => Ok(gid),
            _ => Err(PasswdError::UnknownGroup { name: text.to_owned() }),
        }
    }
}

/// A text of digits as a number, `None` for any other text.
fn number(text: &str) -> Result<Option<u32>, PasswdError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let number = text.parse().ok().filter(|number| *number <= LARGEST);
    number.map(Some).ok_or_else(|| PasswdError::TooLarge { text: text.to_owned() })
}

/// A number of a row. A row whose number is too large is not well-formed: the kernel takes the last one for "leave it as
/// it is", `setresuid(2)`, and the command would stay root.
fn identifier(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number <= LARGEST)
}

fn rows<T>(bytes: &[u8], row: fn(&[&str]) -> Option<T>) -> Vec<T> {
    let line = |line: &[u8]| {
        let text = String::from_utf8_lossy(line);
        row(&text.trim().split(':').collect::<Vec<_>>())
    };
    bytes.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// `name:password:uid:gid:comment:home:shell`, `passwd(5)`; what follows the group may be missing.
fn user_row(fields: &[&str]) -> Option<UserRow> {
    let [name, _, uid, gid, rest @ ..] = fields else { return None };
    let (uid, gid) = (identifier(uid)?, identifier(gid)?);
    let home = rest.get(1).copied().unwrap_or_default().to_owned();
    (!name.is_empty()).then(|| UserRow { name: (*name).to_owned(), uid, gid, home })
}

/// `name:password:gid:member,member`, `group(5)`; the members may be missing.
fn group_row(fields: &[&str]) -> Option<GroupRow> {
    let [name, _, gid, rest @ ..] = fields else { return None };
    let members = rest.first().copied().unwrap_or_default();
    let members = members.split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect();
    let gid = identifier(gid)?;
    (!name.is_empty()).then(|| GroupRow { name: (*name).to_owned(), gid, members })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accounts() -> Accounts {
        Accounts::parse(
            b"root:x:0:0:root:/root:/bin/sh\n\n# comment\nbroken:x:y:0::/:\napp:x:1000:2000:App:/home/app:/bin/sh\n\
              nohome:x:1001:1001::\n77:x:78:79::/n:\n\xff:x:5:5::/:\nshort:x:6:7",
            b"root:x:0:root\nweb:x:33:app,root\napp:x:2000:\nwheel:x:10:other,app\n88:x:89:\nbroken:x:\n",
        )
    }

    #[test]
    fn a_command_runs_as_the_user_that_is_named() {
        for (text, uid, gid, groups, home) in [
            ("", 0, 0, &[0, 33][..], "/root"),
            ("root", 0, 0, &[0, 33], "/root"),
            ("0", 0, 0, &[0, 33], "/root"),
            ("app", 1000, 2000, &[33, 10], "/home/app"),
            ("1000", 1000, 2000, &[33, 10], "/home/app"),
            ("app:web", 1000, 33, &[], "/home/app"),
            ("app:33", 1000, 33, &[], "/home/app"),
            ("app:4242", 1000, 4242, &[], "/home/app"),
            ("app:", 1000, 2000, &[33, 10], "/home/app"),
            (":web", 0, 33, &[], "/root"),
            ("4242", 4242, 0, &[], "/"),
            ("4242:7", 4242, 7, &[], "/"),
            ("nohome", 1001, 1001, &[], "/"),
            ("short", 6, 7, &[], "/"),
            ("77", 78, 79, &[], "/n"),
        ] {
            let expected = User { uid, gid, groups: groups.to_vec(), home: home.to_owned() };
            assert_eq!(accounts().user(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn without_files_there_is_root() {
        let none = Accounts::parse(b"", b"");
        let root = User { uid: 0, gid: 0, groups: vec![], home: "/".into() };
        assert_eq!(none.user(""), Ok(root.clone()));
        assert_eq!(none.user("0:0"), Ok(root));
        assert_eq!(none.user("root"), Err(PasswdError::UnknownUser { name: "root".into() }));
    }

    #[test]
    fn files_go_to_the_owner_that_is_named() {
        for (text, owner) in [
            ("app", (1000, 2000)),
            ("12", (12, 12)),
            ("1000", (1000, 1000)),
            ("app:web", (1000, 33)),
            ("12:web", (12, 33)),
            ("app:7", (1000, 7)),
            ("0:0", (0, 0)),
            (":web", (0, 33)),
            ("app:", (1000, 2000)),
            ("77", (77, 77)),
            ("1:88", (1, 88)),
        ] {
            assert_eq!(accounts().owner(text), Ok(owner), "{text}");
        }
    }

    #[test]
    fn names_that_are_nowhere_say_where_they_are_not() {
        let accounts = accounts();
        let user = "the user `nobody` is not in /etc/passwd of the image";
        let group = "the group `staff` is not in /etc/group of the image";
        assert_eq!(accounts.user("nobody").unwrap_err().to_string(), user);
        assert_eq!(accounts.owner("nobody").unwrap_err().to_string(), user);
        assert_eq!(accounts.user("app:staff").unwrap_err().to_string(), group);
        assert_eq!(accounts.owner("1:staff").unwrap_err().to_string(), group);
        assert!(matches!(accounts.user("broken"), Err(PasswdError::UnknownUser { .. })));
        assert!(matches!(accounts.user("4294967295"), Err(PasswdError::TooLarge { .. })));
        assert!(matches!(accounts.owner("1:99999999999999999999"), Err(PasswdError::TooLarge { .. })));
        assert!(matches!(accounts.owner(":"), Err(PasswdError::NoOwner { .. })));
    }

    #[test]
    fn rows_with_numbers_that_are_too_large_are_nobodys() {
        for number in ["2147483648", "4294967294", "4294967295", "4294967296", "-1"] {
            let passwd = format!("evil:x:{number}:0::/:\nworse:x:7:{number}::/:\ngood:x:2147483647:5::/:\n");
            let group = format!("evil:x:{number}:good\n");
            let accounts = Accounts::parse(passwd.as_bytes(), group.as_bytes());
            for name in ["evil", "worse"] {
                let unknown = Err(PasswdError::UnknownUser { name: name.to_owned() });
                assert_eq!(accounts.user(name), unknown, "{number}");
                assert_eq!(accounts.owner(name).err(), unknown.err(), "{number}");
            }
            let good = User { uid: LARGEST, gid: 5, groups: vec![], home: "/".into() };
            assert_eq!(accounts.user("good"), Ok(good), "{number}");
            let unknown = PasswdError::UnknownGroup { name: "evil".to_owned() };
            assert_eq!(accounts.user("good:evil"), Err(unknown.clone()), "{number}");
            assert_eq!(accounts.owner("good:evil"), Err(unknown), "{number}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(passwd: Vec<u8>, group: Vec<u8>, text: String) {
            let accounts = Accounts::parse(&passwd, &group);
            let _ = (accounts.user(&text), accounts.owner(&text));
        }
    }
}
