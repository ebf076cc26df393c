//! `FF_KANIKO_…`: switches of Kaniko's fork between its older behaviour and Docker's. zuwai has Docker's, always, so that
//! they are known and change nothing; one that nobody knows is a slip of the pen.

use crate::environment::Environment;
use crate::values::boolean;

const PREFIX: &str = "FF_KANIKO_";

/// Those that are on by default in the fork, and could be switched off.
const ON: &str = "BUILDKIT_ARG_ENV_PRECEDENCE CLEAN_KANIKO_DIR DEPRECATE_INTER_STAGE_RESTORE NO_PROPAGATE_ANNOTATIONS \
    OCI_WARMER PRESERVE_HARDLINKS RELATIVE_LINK_TARGETS PRESERVE_MOUNTED_PATHS RUN_MOUNT_BIND SECUREJOIN_EXTRACTION \
    VOLUME_SKIP_MKDIR WARMER_CACHE_LOCK SQUASH_STAGES OCI_STAGES RUN_MOUNT_CACHE RUN_MOUNT_SECRET NEW_CACHE_LAYOUT";

/// Those that are off by default.
const OFF: &str = "CROSS_REPO_MOUNT EXPAND_HEREDOC HASH_DIR_FRAMING INFER_CROSS_STAGE_CACHE_KEY PATH_SCOPED_REGISTRY_AUTH \
    PRECOMPILE_DOCKERIGNORE REPRODUCIBLE_PRESERVE_BASE_LAYERS RESOLVE_CACHE_KEY ROLLING_CACHE_KEY RUN_HONOR_GROUP \
    RUN_VIA_TINI SHARED_BASE_CACHE SKIP_CACHED_STAGES SKIP_RELABEL_RECOMPRESS SKIP_WRITE_WHITEOUTS UNTAR_SKIP_ROOT \
    CHOWN_ON_IMPLICIT_DIRS COPY_AS_ROOT COPY_CHMOD_ON_IMPLICIT_DIRS CACHE_LOOKAHEAD CACHE_PROBE_AFTER_MISS DISABLE_HTTP2 \
    IGNORE_CACHED_MANIFEST OCI_SCRATCH_BASE SCOPED_DOCKERIGNORE LANDLOCK POOL_REGISTRY_CONNECTIONS COPY_SKIP_SPECIAL_FILES";

/// What the user should be told: of switches that ask for Kaniko's older behaviour, and of those that nobody knows.
pub(crate) fn warning(environment: &Environment) -> Option<String> {
    let lists = |list: &str, name: &str| list.split_ascii_whitespace().any(|known| known == name);
    let mut unknown = Vec::new();
    let mut older = Vec::new();
    for (name, value) in environment.all() {
        let Some((name, flag)) = name.to_str().and_then(|name| Some((name, name.strip_prefix(PREFIX)?))) else {
            continue;
        };
        if lists(ON, flag) {
            older.extend((value.to_str().and_then(boolean) == Some(false)).then_some(name));
        } else if !lists(OFF, flag) {
            unknown.push(name);
        }
    }
    let mut parts = Vec::new();
    if !older.is_empty() {
        parts.push(format!("{} cannot be switched off: zuwai behaves as docker build does", older.join(", ")));
    }
    if !unknown.is_empty() {
        parts.push(format!("{} is no switch of Kaniko's", unknown.join(", ")));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_switches_are_taken_and_others_named() {
        let of = |variables: &[(&str, &str)]| warning(&Environment::of(variables));
        assert_eq!(of(&[("FF_KANIKO_EXPAND_HEREDOC", "1"), ("FF_KANIKO_OCI_WARMER", "true"), ("HOME", "/")]), None);
        assert_eq!(
            of(&[("FF_KANIKO_OCI_WARMER", "0"), ("FF_KANIKO_NONSENSE", "1")]).unwrap(),
            "FF_KANIKO_OCI_WARMER cannot be switched off: zuwai behaves as docker build does; FF_KANIKO_NONSENSE is no switch \
             of Kaniko's"
        );
    }
}
