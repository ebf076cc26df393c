//! Named contexts in a plan: what one is as a base, and as what COPY reads from.

use std::collections::BTreeMap;
use std::sync::Arc;

use zuwai_registry::{Image, ImageConfig, ImageFormat, Platform, Pulled};

use super::{Base, Origin, Planner};
use crate::context::named;
use crate::error::BuildError;
use crate::request::NamedSource;
use crate::syntax::Span;

/// What a named context turned out to be.
enum Named {
    Files,
    Image(Arc<Pulled>),
    Nothing,
}

impl Planner<'_, '_> {
    /// A named context as what a stage begins with.
    pub(super) fn base_of(
        &mut self,
        context: usize,
        platform: Option<Platform>,
        span: &Span,
    ) -> Result<Base, BuildError> {
        Ok(match self.context(context, platform.as_ref(), span)? {
            Named::Files => Base::Files { context, platform },
            Named::Image(pulled) => Base::Image(pulled),
            Named::Nothing => Base::Scratch,
        })
    }

    /// A named context as what COPY reads from.
    pub(super) fn origin_of(&mut self, context: usize, span: &Span) -> Result<Origin, BuildError> {
        Ok(match self.context(context, None, span)? {
            Named::Files => Origin::Context(context),
            Named::Image(pulled) => Origin::Image(pulled),
            Named::Nothing => nothing(),
        })
    }

    /// Finds out what a named context is. Its files are fetched when the plan is made.
    fn context(&mut self, context: usize, platform: Option<&Platform>, span: &Span) -> Result<Named, BuildError> {
        self.used.insert(context);
        let named = &self.contexts[context];
        let pulled = match &named.source {
            NamedSource::Files(_) | NamedSource::Repository(_) => return Ok(Named::Files),
            NamedSource::Nothing => return Ok(Named::Nothing),
            NamedSource::Image(reference) => self.images.pull(reference, &reference.to_string(), platform),
            NamedSource::Layout { folder, tag, digest } => {
                self.images.read(folder, tag.as_deref(), digest.as_ref(), platform, &named.reference)
            }
        };
        let image = format!("{} (--build-context {})", named.shown(), named.name);
        let pulled = pulled.map_err(|source| BuildError::Pull { span: Some(span.clone()), image, stage: None, source });
        pulled.map(Named::Image)
    }

    /// The context that stands for a stage.
    pub(super) fn replacing(&self, index: usize) -> Option<usize> {
        named::find(self.contexts, self.dockerfile.stages[index].name.as_deref()?)
    }
}

/// An image without files: `scratch`.
pub(super) fn nothing() -> Origin {
    let (config, format) = (ImageConfig::default(), ImageFormat::Oci);
    let image = Image { config, layers: Vec::new(), format, annotations: BTreeMap::new() };
    let digest = image.encode().descriptor.digest;
    let origin = "scratch".parse().expect("it could be the name of an image");
    Origin::Image(Arc::new(Pulled { image, digest, origin }))
}
