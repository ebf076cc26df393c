//! From the target to everything it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zuwai_registry::{Platform, Pulled, Reference};

use super::images::Images;
use super::{Base, Origin, PlanError, PlannedStage, is_called, named, whole};
use crate::context::named::find;
use crate::dockerfile::Dockerfile;
use crate::error::BuildError;
use crate::instruction::{self, InstructionError, Placed};
use crate::reach::{self, Platforms};
use crate::request::NamedContext;
use crate::settings::Globals;
use crate::syntax::{Span, SyntaxError, suggest};

/// Walks from the target to everything it needs.
pub(super) struct Planner<'a, 'b> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) globals: &'b Globals,
    pub(super) images: Images<'b>,
    pub(super) stages: BTreeMap<usize, PlannedStage<'a>>,
    pub(super) contexts: &'b [NamedContext],
    /// Those of them that were met so far.
    pub(super) used: BTreeSet<usize>,
}

impl Planner<'_, '_> {
    /// Plans a stage and all that it needs: what is known to be needed first to last, so that nothing is planned in the middle
    /// of something else but what a trigger asks for.
    pub(super) fn reach(&mut self, index: usize) -> Result<(), BuildError> {
        if self.stages.contains_key(&index) {
            return Ok(());
        }
        let mut needed = reach::needed(self.dockerfile, index, self.globals, self.contexts);
        needed.insert(index);
        needed.into_iter().try_for_each(|index| self.visit(index))
    }

    /// Plans one stage. References go to earlier stages only, so this ends.
    fn visit(&mut self, index: usize) -> Result<(), BuildError> {
        if self.stages.contains_key(&index) {
            return Ok(());
        }
        let source = &self.dockerfile.stages[index];
        let syntax = |error: InstructionError| SyntaxError::new(source.span.clone(), source.text.clone(), error);
        let base_name = source.from.base(self.globals).map_err(syntax)?;
        let platform = source.from.platform(self.globals).map_err(syntax)?;
        let replacing = self.replacing(index);
        let base = match replacing {
            Some(context) => self.base_of(context, platform, &source.span)?,
            None => self.base(index, &base_name, platform, &source.span)?,
        };
        let mut origins = BTreeMap::new();
        let triggers = match &base {
            Base::Files { context, .. } => {
                let name = &self.contexts[*context].name;
                origins.insert(name.clone(), Origin::Context(*context));
                vec![whole::of(&self.contexts[*context], source)]
            }
            _ if replacing.is_some() => Vec::new(),
            base => self.triggers(base, &source.span)?,
        };
        let own = if replacing.is_some() { &[] } else { source.instructions.as_slice() };
        for placed in triggers.iter().chain(own) {
            for name in placed.uses() {
                if !origins.contains_key(name) {
                    origins.insert(name.to_owned(), self.origin(index, name, &placed.span)?);
                }
            }
        }
        let stage = PlannedStage {
            index,
            source,
            base,
            base_name,
            origins,
            triggers,
            replaced: replacing.is_some(),
            is_read: false,
            hands_on: false,
            goes_on: false,
            is_laid_upon: false,
            is_target: false,
        };
        self.stages.insert(index, stage);
        Ok(())
    }

    /// FROM: the nearest stage of the name before this one, `scratch`, a named context, or an image.
    fn base(&mut self, index: usize, name: &str, platform: Option<Platform>, span: &Span) -> Result<Base, BuildError> {
        if let Some(earlier) = self.earlier(index, name) {
            if let Some(context) = self.replacing(earlier) {
                let own = Platforms::default().of(index, self.dockerfile, self.globals, self.contexts)?;
                return self.base_of(context, own, span);
            }
            self.reach(earlier)?;
            return Ok(Base::Stage(earlier));
        }
        if name == "scratch" {
            return Ok(Base::Scratch);
        }
        if let Some(context) = find(self.contexts, name) {
            return self.base_of(context, platform, span);
        }
        Ok(Base::Image(self.image(index, name, platform.as_ref(), span)?))
    }

    /// COPY --from: a stage before this one by name or number, a named context, `scratch`, or an image.
    fn origin(&mut self, index: usize, name: &str, span: &Span) -> Result<Origin, BuildError> {
        let wrong = |problem| BuildError::Plan { span: Some(span.clone()), problem };
        let name_owned = || name.to_owned();
        let stages = &self.dockerfile.stages;
        let number = name.parse::<usize>().ok();
        if number == Some(index) || (number.is_none() && self.is_self(index, name)) {
            return Err(wrong(PlanError::SelfReference { name: name_owned() }));
        }
        let earlier = match number {
            Some(number) if number >= stages.len() => {
                return Err(wrong(PlanError::NoSuchStage { name: name_owned(), count: stages.len() }));
            }
            Some(number) => Some(number),
            None => self.earlier(index, name),
        };
        let replacing = match earlier {
            Some(earlier) => self.replacing(earlier),
            None => find(self.contexts, name),
        };
        if let Some(context) = replacing {
            return self.origin_of(context, span);
        }
        if let Some(earlier) = earlier {
            if earlier > index {
                return Err(wrong(PlanError::LaterStage { name: name_owned() }));
            }
            self.reach(earlier)?;
            return Ok(Origin::Stage(earlier));
        }
        if self.dockerfile.comes_later(index, name) {
            return Err(wrong(PlanError::LaterStage { name: name_owned() }));
        }
        if name == "scratch" {
            return Ok(named::nothing());
        }
        Ok(Origin::Image(self.image(index, name, None, span)?))
    }

    fn earlier(&self, index: usize, name: &str) -> Option<usize> {
        self.dockerfile.earlier(index, name)
    }

    /// Whether the name is the stage's own and no earlier one's.
    fn is_self(&self, index: usize, name: &str) -> bool {
        is_called(&self.dockerfile.stages[index], name) && self.earlier(index, name).is_none()
    }

    fn image(
        &mut self,
        index: usize,
        name: &str,
        platform: Option<&Platform>,
        span: &Span,
    ) -> Result<Arc<Pulled>, BuildError> {
        let names = self.dockerfile.stages[..index].iter().filter_map(|stage| stage.name.as_deref());
        let suggestion = suggest::nearest(name, names);
        let reference: Reference = name.parse().map_err(|reason| {
            let problem = PlanError::BadReference { name: name.to_owned(), reason, suggestion: suggestion.clone() };
            BuildError::Plan { span: Some(span.clone()), problem }
        })?;
        self.images.pull(&reference, name, platform).map_err(|source| BuildError::Pull {
            span: Some(span.clone()),
            image: name.to_owned(),
            stage: suggestion,
            source,
        })
    }

    /// The triggers of a base, as instructions.
    fn triggers(&self, base: &Base, from: &Span) -> Result<Vec<Placed>, BuildError> {
        let texts: Vec<&str> = match base {
            Base::Scratch | Base::Files { .. } => Vec::new(),
            Base::Image(pulled) => pulled.image.config.config.on_build.iter().map(String::as_str).collect(),
            Base::Stage(index) => self.stages[index].source.instructions.iter().filter_map(Placed::trigger).collect(),
        };
        texts.into_iter().map(|text| Ok(instruction::trigger(text, from)?)).collect()
    }
}
