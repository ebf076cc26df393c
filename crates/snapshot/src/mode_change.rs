//! What `--chmod` says: an octal mode, or chmod's symbolic words.

use std::fmt;
use std::str::FromStr;

/// A change of permissions, as `chmod` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeChange(Change);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Set(u32),
    Clauses(Vec<Clause>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Clause {
    /// Which of 0700, 0070, 0007 are meant.
    who: u32,
    actions: Vec<Action>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Action {
    operator: char,
    permissions: Vec<char>,
}

/// Text that is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid mode {text:?}: {reason}")]
pub struct ModeChangeError {
    text: String,
    reason: &'static str,
}

impl ModeChange {
    /// Sets the lower twelve bits.
    pub fn octal(mode: u32) -> Self {
        Self(Change::Set(mode & 0o7777))
    }

    /// The mode that comes of `mode` (the lower twelve bits); `X` means execute for folders and for what anyone may
    /// execute already.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match &self.0 {
            Change::Set(set) => *set,
            Change::Clauses(clauses) => clauses.iter().fold(mode & 0o7777, |mode, clause| clause.apply(mode, is_dir)),
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        self.actions.iter().fold(mode, |mode, action| {
            let bits = action.permissions.iter().fold(0, |bits, &letter| bits | self.bits(letter, mode, is_dir));
            match action.operator {
                '+' => mode | bits,
                '-' => mode & !bits,
                _ => (mode & !self.cleared(is_dir)) | bits,
            }
        })
    }

    /// What `=` takes away before it sets. As GNU chmod: a folder keeps setuid and setgid unless they are named.
    fn cleared(&self, is_dir: bool) -> u32 {
        let mut bits = self.who;
        if !is_dir {
            bits |= if self.who & 0o700 != 0 { 0o4000 } else { 0 } | if self.who & 0o070 != 0 { 0o2000 } else { 0 };
        }
        if self.who == 0o777 {
            bits |= 0o1000;
        }
        bits
    }

    fn bits(&self, letter: char, mode: u32, is_dir: bool) -> u32 {
        let spread = |three: u32| (three | three << 3 | three << 6) & self.who;
        match letter {
            'r' => spread(4),
            'w' => spread(2),
            'x' => spread(1),
            'X' if is_dir || mode & 0o111 != 0 => spread(1),
            's' => (if self.who & 0o700 != 0 { 0o4000 } else { 0 }) | (if self.who & 0o070 != 0 { 0o2000 } else { 0 }),
            't' if self.who == 0o777 => 0o1000,
            'u' => spread(mode >> 6 & 7),
            'g' => spread(mode >> 3 & 7),
            'o' => spread(mode & 7),
            _ => 0,
        }
    }
}

impl FromStr for ModeChange {
    type Err = ModeChangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason| ModeChangeError { text: text.to_owned(), reason };
        if text.is_empty() {
            return Err(error("it is empty"));
        }
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| error("it is not octal"))?;
            return if mode <= 0o7777 { Ok(Self::octal(mode)) } else { Err(error("it is larger than 7777")) };
        }
        let clauses = text.split(',').map(|clause| parse_clause(clause).map_err(error)).collect::<Result<_, _>>()?;
        Ok(Self(Change::Clauses(clauses)))
    }
}

fn parse_clause(text: &str) -> Result<Clause, &'static str> {
    let start = text.find(['+', '-', '=']).ok_or("it is neither octal nor of the form u=rwX,go=rX")?;
    let mut who = 0;
    for letter in text[..start].chars() {
        who |= match letter {
            'u' => 0o700,
            'g' => 0o070,
            'o' => 0o007,
            'a' => 0o777,
            _ => return Err("before +, - or = come only u, g, o and a"),
        };
    }
    let who = if who == 0 { 0o777 } else { who };
    let mut actions: Vec<Action> = Vec::new();
    for letter in text[start..].chars() {
        match letter {
            '+' | '-' | '=' => actions.push(Action { operator: letter, permissions: Vec::new() }),
            'r' | 'w' | 'x' | 'X' | 's' | 't' | 'u' | 'g' | 'o' => {
                actions.last_mut().expect("the text begins with an operator").permissions.push(letter);
            }
            _ => return Err("after +, - or = come only r, w, x, X, s, t, u, g and o"),
        }
    }
    Ok(Clause { who, actions })
}

impl fmt::Display for ModeChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Change::Set(mode) => write!(formatter, "{mode:04o}"),
            Change::Clauses(clauses) => {
                for (position, clause) in clauses.iter().enumerate() {
                    formatter.write_str(if position == 0 { "" } else { "," })?;
                    for (letter, bits) in [('u', 0o700), ('g', 0o070), ('o', 0o007)] {
                        if clause.who & bits != 0 {
                            write!(formatter, "{letter}")?;
                        }
                    }
                    for action in &clause.actions {
                        write!(formatter, "{}{}", action.operator, action.permissions.iter().collect::<String>())?;
                    }
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(text: &str, mode: u32, is_dir: bool) -> u32 {
        text.parse::<ModeChange>().unwrap().apply(mode, is_dir)
    }

    #[test]
    fn octal_sets_all_twelve_bits() {
        assert_eq!(apply("0755", 0o4600, false), 0o755);
        assert_eq!(apply("4755", 0o600, true), 0o4755);
        assert_eq!(apply("7", 0o777, false), 0o7);
    }

    #[test]
    fn symbolic_words_mean_what_chmod_means() {
        assert_eq!(apply("u=rwX,go=rX", 0o600, false), 0o644);
        assert_eq!(apply("u=rwX,go=rX", 0o700, false), 0o755);
        assert_eq!(apply("u=rwX,go=rX", 0o600, true), 0o755);
        assert_eq!(apply("a+x", 0o644, false), 0o755);
        assert_eq!(apply("+x", 0o644, false), 0o755);
        assert_eq!(apply("go-w", 0o777, false), 0o755);
        assert_eq!(apply("u+s", 0o755, false), 0o4755);
        assert_eq!(apply("g+s", 0o755, true), 0o2755);
        assert_eq!(apply("+t", 0o777, true), 0o1777);
        assert_eq!(apply("g=u", 0o740, false), 0o770);
        assert_eq!(apply("u=rw", 0o4755, false), 0o655);
        assert_eq!(apply("u+x-w", 0o644, false), 0o544);
    }

    #[test]
    fn what_is_no_mode_says_why() {
        for (text, reason) in [
            ("", "it is empty"),
            ("10000", "it is larger than 7777"),
            ("089", "it is not octal"),
            ("rwx", "it is neither octal nor of the form u=rwX,go=rX"),
            ("z+x", "before +, - or = come only u, g, o and a"),
            ("u+q", "after +, - or = come only r, w, x, X, s, t, u, g and o"),
        ] {
            assert_eq!(text.parse::<ModeChange>().unwrap_err().to_string(), format!("invalid mode {text:?}: {reason}"));
        }
    }
}
