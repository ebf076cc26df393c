//! The platform an image is for, in the words of Go's `GOOS`, `GOARCH` and containerd's variants.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Operating system, architecture and, where it matters, variant and version.
///
/// Compared and printed in containerd's normal form when it was parsed from text; what stands in a document is kept as
/// written, and [`Platform::normalized`] gives the form to compare.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, `arm`, …
    #[serde(default)]
    pub architecture: String,
    /// `linux`, `windows`, …
    #[serde(default)]
    pub os: String,
    /// Of Windows images: the build they are for.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// `v7`, `v8`, … where the architecture has variants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("platform `{text}` is not of the form os/architecture, os/architecture/variant: {reason}")]
pub struct PlatformError {
    text: String,
    reason: &'static str,
}

impl Platform {
    /// An operating system and an architecture, in normal form.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
            os_version: None,
        }
        .normalized()
    }

    /// The platform this program was built for.
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            other => other,
        };
        Platform::new(std::env::consts::OS, architecture, None)
    }

    /// As containerd normalises: aliases resolved, the default variant of an architecture left out (`arm64/v8` is
    /// `arm64`, `amd64/v1` is `amd64`) or put in (`arm` is `arm/v7`), lower case.
    #[must_use]
    pub fn normalized(&self) -> Platform {
        let os = match self.os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = self.variant.as_deref().unwrap_or_default().to_ascii_lowercase();
        let (architecture, variant) = match (self.architecture.to_ascii_lowercase().as_str(), variant.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64".to_owned(), String::new()),
            ("x86_64" | "x86-64" | "amd64", other) => ("amd64".to_owned(), other.to_owned()),
            ("i386" | "i486" | "i586" | "i686" | "x86" | "386", _) => ("386".to_owned(), String::new()),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0" | "") => ("arm64".to_owned(), String::new()),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64".to_owned(), "v9".to_owned()),
            ("aarch64" | "arm64", other) => ("arm64".to_owned(), other.to_owned()),
            ("armhf", _) | ("arm", "" | "7") => ("arm".to_owned(), "v7".to_owned()),
            ("armel", _) | ("arm", "6") => ("arm".to_owned(), "v6".to_owned()),
            ("arm", "5" | "8") => ("arm".to_owned(), format!("v{variant}")),
            (architecture, variant) => (architecture.to_owned(), variant.to_owned()),
        };
        Platform {
            os,
            architecture,
            variant: (!variant.is_empty()).then_some(variant),
            os_version: self.os_version.clone().filter(|version| !version.is_empty()),
        }
    }

    /// How well an image for `offered` runs here: 0 is exact, larger is worse, `None` is not at all. An older variant of
    /// the same architecture runs (containerd, `platforms.Only`); another version of Windows does not.
    pub fn suits(&self, offered: &Platform) -> Option<u32> {
        let (wanted, offered) = (self.normalized(), offered.normalized());
        if wanted.os != offered.os {
            return None;
        }
        match (&wanted.os_version, &offered.os_version) {
            (Some(wanted), Some(offered)) if !offered.starts_with(wanted.as_str()) => return None,
            (Some(_), None) => return None,
            _ => {}
        }
        if wanted.architecture == offered.architecture {
            return match (level(&wanted), level(&offered)) {
                (Some(wanted), Some(offered)) => wanted.checked_sub(offered),
                _ => (wanted.variant == offered.variant).then_some(0),
            };
        }
        None
    }
}

/// Variants of one architecture as a ladder: each rung runs what the rungs below it run.
fn level(platform: &Platform) -> Option<u32> {
    let default = match platform.architecture.as_str() {
        "amd64" => 1,
        "arm64" => 8,
        "arm" => 7,
        _ => return platform.variant.is_none().then_some(0),
    };
    match platform.variant.as_deref() {
        None => Some(default),
        Some(variant) => variant.strip_prefix('v')?.parse().ok(),
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// `os/architecture[/variant]`, with an optional `:osversion` at the end as Kaniko's `--custom-platform` has it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason| PlatformError { text: text.to_owned(), reason };
        let (names, os_version) = match text.split_once(':') {
            Some((_, "")) => return Err(error("the version of the operating system is empty")),
            Some((names, version)) => (names, Some(version.to_owned())),
            None => (text, None),
        };
        let parts: Vec<&str> = names.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(word) {
            return Err(error("each part is one or more letters, digits, `_`, `-` or `.`"));
        }
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
            [_] => return Err(error("the architecture is missing, as in linux/amd64")),
            _ => return Err(error("it has more than three parts")),
        };
        let platform = Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant, os_version };
        Ok(platform.normalized())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(formatter, "/{variant}")?;
        }
        if let Some(version) = &self.os_version {
            write!(formatter, ":{version}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn aliases_and_default_variants_become_the_normal_form() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/v9", "linux/arm64/v9"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("linux/riscv64", "linux/riscv64"),
            ("windows/amd64:10.0.17763", "windows/amd64:10.0.17763"),
        ] {
            assert_eq!(platform(text).to_string(), normal);
            assert_eq!(platform(normal).to_string(), normal);
        }
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for text in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64", "windows/amd64:"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_older_variant_runs_and_a_newer_does_not() {
        assert_eq!(platform("linux/arm/v7").suits(&platform("linux/arm/v7")), Some(0));
        assert_eq!(platform("linux/arm/v7").suits(&platform("linux/arm/v6")), Some(1));
        assert_eq!(platform("linux/arm/v6").suits(&platform("linux/arm/v7")), None);
        assert_eq!(platform("linux/amd64/v3").suits(&platform("linux/amd64")), Some(2));
        assert_eq!(platform("linux/amd64").suits(&platform("linux/amd64/v2")), None);
        assert_eq!(platform("linux/amd64").suits(&platform("linux/arm64")), None);
        assert_eq!(platform("linux/amd64").suits(&platform("windows/amd64")), None);
        assert_eq!(platform("windows/amd64:10.0.17763").suits(&platform("windows/amd64:10.0.17763.1")), Some(0));
        assert_eq!(platform("windows/amd64:10.0.17763").suits(&platform("windows/amd64:10.0.20348")), None);
    }

    #[test]
    fn the_host_is_in_normal_form() {
        assert_eq!(Platform::host(), Platform::host().normalized());
        assert_eq!(Platform::host().os, "linux");
    }
}
