//! The flags about the cache of layers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use zuwai_builder::{CachePlace, CacheRequest};
use zuwai_registry::Reference;

use crate::args::{UsageError, Values};
use crate::{request, values};

/// Kaniko's, two weeks.
const TTL: Duration = Duration::from_hours(336);
/// Where Kaniko's users mount a volume for it.
pub(crate) const FOLDER: &str = "/cache";

/// How the cache is used, if it is.
pub(crate) fn cache(values: &Values, destinations: &[Reference]) -> Result<Option<CacheRequest>, UsageError> {
    let mounts = mounts(values)?;
    if !values.switch("cache") {
        return match mounts {
            Some(_) => Err(UsageError::new(
                "--cache-mounts=registry: they are kept with the layers, and that needs --cache=true",
            )),
            None => Ok(None),
        };
    }
    let keep = !values.switch("no-push-cache");
    Ok(Some(CacheRequest {
        place: place(values, destinations)?,
        ttl: values.text("cache-ttl").and_then(values::duration).unwrap_or(TTL),
        copy_layers: values.switch("cache-copy-layers"),
        run_layers: values.switch("cache-run-layers"),
        keep,
        ignored: request::ignored(values)?,
        mounts,
    }))
}

/// Whether folders of cache mounts are kept with the layers, and the most bytes of one.
fn mounts(values: &Values) -> Result<Option<u64>, UsageError> {
    let text = values.text("cache-mounts-size").unwrap_or("2g");
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit: u32 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        _ => 64,
    };
    let size = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1_u64.checked_shl(unit)?));
    let size =
        size.ok_or_else(|| UsageError::new(format!("--cache-mounts-size: {text:?} is not a size such as 500m or 2g")))?;
    Ok((values.text("cache-mounts") == Some("registry")).then_some(size))
}

/// Where base images are that were fetched before the build, if anybody says so or the cache is used.
pub(crate) fn base_images(values: &Values) -> Option<PathBuf> {
    match values.text("cache-dir") {
        Some(folder) => Some(PathBuf::from(folder)),
        None => values.switch("cache").then(|| PathBuf::from(FOLDER)),
    }
}

fn place(values: &Values, destinations: &[Reference]) -> Result<CachePlace, UsageError> {
    let folder = |name: &Path| CachePlace::Layout(name.join("layers"));
    match (values.text("cache-repo"), destinations.first()) {
        (Some(text), _) => repository(text),
        (None, Some(destination)) if !values.switch("no-push") => repository(&format!("{}/cache", destination.name())),
        // A folder that is there is a volume that somebody has mounted for it.
        (None, _) if values.text("cache-dir").is_some() || Path::new(FOLDER).is_dir() => {
            Ok(folder(&PathBuf::from(values.text("cache-dir").unwrap_or(FOLDER))))
        }
        (None, _) => Err(UsageError::new("if using cache with --no-push, specify cache repo with --cache-repo")
            .hint("or name a folder that outlives the build, with --cache-dir")),
    }
}

fn repository(text: &str) -> Result<CachePlace, UsageError> {
    if let Some(folder) = text.strip_prefix("oci:").or_else(|| Some(text).filter(|text| text.starts_with('/'))) {
        if folder.is_empty() {
            return Err(UsageError::new("--cache-repo: oci: needs a folder: oci:/path"));
        }
        return Ok(CachePlace::Layout(PathBuf::from(folder)));
    }
    let reference: Reference = text.parse().map_err(|error| UsageError::new(format!("--cache-repo: {error}")))?;
    if reference.digest().is_some() || reference.tag().is_some() {
        return Err(UsageError::new(format!("--cache-repo: {text} is to be a repository, without a tag")));
    }
    Ok(CachePlace::Repository(reference))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::{message, wish};

    fn place_of(words: &[&str]) -> CachePlace {
        let wanted = wish(&[&["--cache"], words].concat(), &[]).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        wanted.build.cache.expect("a cache was asked for").place
    }

    #[test]
    fn layers_are_kept_beside_the_image_or_where_the_user_says() {
        let repository = |text: &str| CachePlace::Repository(text.parse().unwrap());
        assert_eq!(place_of(&["-d", "r.test/a/b:1", "-d", "other"]), repository("r.test/a/b/cache"));
        assert_eq!(place_of(&["-d", "r.test/a:1", "--cache-repo=r.test/kept"]), repository("r.test/kept"));
        assert_eq!(place_of(&["--no-push", "--cache-repo", "r.test/kept"]), repository("r.test/kept"));
        assert_eq!(place_of(&["--no-push", "--cache-repo=oci:/x/y"]), CachePlace::Layout("/x/y".into()));
        assert_eq!(place_of(&["--no-push", "--cache-repo=/x/y"]), CachePlace::Layout("/x/y".into()));
        assert_eq!(place_of(&["--no-push", "--cache-dir=/x"]), CachePlace::Layout("/x/layers".into()));
    }

    #[test]
    fn what_is_not_said_is_as_in_kaniko_but_that_copy_is_kept_too() {
        assert_eq!(wish(&["-d", "a"], &[]).ok().unwrap().build.cache, None);
        let cache =
            |words: &[&str]| wish(&[&["-d", "a", "--cache=true"], words].concat(), &[]).ok().unwrap().build.cache;
        let cache = |words: &[&str]| cache(words).unwrap();
        let kept = cache(&[]);
        assert_eq!((kept.ttl, kept.copy_layers, kept.run_layers, kept.keep), (TTL, true, true, true));
        let words = ["--cache-ttl=1h", "--cache-copy-layers=false", "--cache-run-layers=false", "--no-push-cache"];
        let kept = cache(&words);
        assert_eq!((kept.ttl, kept.copy_layers), (Duration::from_hours(1), false));
        assert_eq!((kept.run_layers, kept.keep), (false, false));
        assert_eq!(cache(&["--ignore-path=/x"]).ignored, [Path::new("/x")]);
    }

    #[test]
    fn cache_mounts_are_kept_with_the_layers_where_that_is_asked_for() {
        let mounts = |words: &[&str]| {
            wish(&[&["-d", "a", "--cache"], words].concat(), &[]).ok().unwrap().build.cache.unwrap().mounts
        };
        assert_eq!(mounts(&["--cache-mounts=local"]), None);
        assert_eq!(mounts(&["--cache-mounts=registry"]), Some(2 << 30));
        assert_eq!(mounts(&["--cache-mounts=registry", "--cache-mounts-size=500M"]), Some(500 << 20));
        assert!(message(&["-d", "a", "--cache-mounts=registry"]).contains("needs --cache=true"));
        assert!(message(&["-d", "a", "--cache-mounts-size=x"]).contains("not a size"));
    }

    #[test]
    fn a_cache_needs_a_place() {
        assert_eq!(
            message(&["--no-push", "--cache"]),
            "if using cache with --no-push, specify cache repo with --cache-repo"
        );
        assert!(message(&["-d", "a", "--cache", "--cache-repo=A b"]).starts_with("--cache-repo: "));
        assert!(message(&["-d", "a", "--cache", "--cache-repo=r.test/a:1"]).contains("without a tag"));
        assert!(message(&["-d", "a", "--cache", "--cache-repo=oci:"]).contains("oci:/path"));
    }
}
