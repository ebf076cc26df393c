//! What is wrong with a plan.

use zuwai_registry::image::ReferenceError;

use crate::syntax::suggest;

/// Stages that do not fit together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// `--target` names no stage.
    #[error("there is no stage called {name} to build{}", known(names))]
    UnknownTarget {
        /// As asked for.
        name: String,
        /// The names there are.
        names: Vec<String>,
    },
    /// `COPY --from` the stage it stands in.
    #[error("--from={name} names the stage that it stands in: a stage cannot read itself")]
    SelfReference {
        /// As written.
        name: String,
    },
    /// `COPY --from` a stage that comes later.
    #[error("--from={name} names a stage that comes later: only stages before this one can be read")]
    LaterStage {
        /// As written.
        name: String,
    },
    /// `COPY --from` a number that no stage has.
    #[error("--from={name}: there is no stage {name}; the file has {count}, counted from 0")]
    NoSuchStage {
        /// As written.
        name: String,
        /// How many stages there are.
        count: usize,
    },
    /// `SOURCE_DATE_EPOCH` says no time.
    #[error("SOURCE_DATE_EPOCH: {value:?} is no number of seconds since 1970, and no context is called so")]
    Epoch {
        /// What it says.
        value: String,
    },
    /// `SOURCE_DATE_EPOCH` names a stage.
    #[error("SOURCE_DATE_EPOCH: the time of what the stage {value} fetches is not supported")]
    EpochOfStage {
        /// Its name.
        value: String,
    },
    /// A name that is neither a stage nor can be an image.
    #[error("{name} is no stage of this file and cannot be an image: {reason}")]
    BadReference {
        /// As written, variables replaced.
        name: String,
        /// Why not.
        reason: ReferenceError,
        /// A stage that was perhaps meant.
        suggestion: Option<String>,
    },
}

impl PlanError {
    /// A way out, where there is one to name.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            PlanError::UnknownTarget { name, names } => suggest::nearest(name, names.iter().map(String::as_str))
                .map(|nearest| format!("did you mean --target={nearest}?")),
            PlanError::BadReference { suggestion: Some(stage), .. } => Some(format!("did you mean the stage {stage}?")),
            PlanError::LaterStage { name } => Some(format!("move the stage {name} up")),
            PlanError::Epoch { .. } => Some(
                "`date +%s` gives one, or `git log -1 --format=%ct` for the time of the last commit; `context` is that of a \
                 context out of git"
                    .to_owned(),
            ),
            PlanError::EpochOfStage { value } => Some(format!(
                "give the number with --build-arg SOURCE_DATE_EPOCH=…, or make a --build-context {value}=https://….git"
            )),
            _ => None,
        }
    }
}

fn known(names: &[String]) -> String {
    if names.is_empty() {
        return ": no stage of the file has a name".to_owned();
    }
    format!(": the file has {}", names.join(", "))
}
