//! A whole Dockerfile: the arguments before the first FROM, and the stages with their instructions. How stages refer to
//! each other is for the plan.

use std::collections::HashMap;

use crate::instruction::{self, Declaration, From, Parsed, Placed};
use crate::syntax::{self, Directives, Line, Span, SyntaxError, SyntaxProblem};

/// See the module.
#[derive(Debug)]
pub(crate) struct Dockerfile {
    /// ARG before the first FROM, in order.
    pub(crate) global_args: Vec<Declaration>,
    /// In the order of the file; never empty.
    pub(crate) stages: Vec<StageSource>,
    /// What the top of the file says.
    pub(crate) directives: Directives,
    /// What is accepted, and should be told to whoever wrote it.
    pub(crate) notices: Vec<Notice>,
    /// The stages of each name, in order.
    named: HashMap<String, Vec<usize>>,
}

/// One stage as written.
#[derive(Debug)]
pub(crate) struct StageSource {
    /// Its name in lower case. The same name may stand twice: references mean the nearest stage before them.
    pub(crate) name: Option<String>,
    /// What it begins with.
    pub(crate) from: From,
    /// Its instructions, FROM excepted.
    pub(crate) instructions: Vec<Placed>,
    /// The place of FROM.
    pub(crate) span: Span,
    /// FROM as written.
    pub(crate) text: String,
}

/// Something to tell that is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Where.
    pub(crate) span: Span,
    /// One sentence, without a full stop.
    pub(crate) text: String,
}

impl Dockerfile {
    /// Reads the text of a Dockerfile. `file_name` is what errors call it.
    pub(crate) fn parse(text: &[u8], file_name: &str) -> Result<Self, SyntaxError> {
        let source = syntax::parse(text, file_name)?;
        let mut dockerfile = Dockerfile {
            global_args: Vec::new(),
            stages: Vec::new(),
            directives: source.directives,
            notices: source.blank_continuations.into_iter().map(blank_line).collect(),
            named: HashMap::new(),
        };
        for line in &source.lines {
            dockerfile.add(line)?;
        }
        match source.lines.last() {
            Some(last) if dockerfile.stages.is_empty() => {
                Err(SyntaxError::new(last.span.clone(), last.text.clone(), SyntaxProblem::NoStages))
            }
            _ => Ok(dockerfile),
        }
    }

    fn add(&mut self, line: &Line) -> Result<(), SyntaxError> {
        if self.stages.is_empty() && line.is("ARG") {
            self.global_args.extend(instruction::declarations(line)?);
            return Ok(());
        }
        match instruction::parse(line)? {
            Parsed::Stage(from) => self.begin_stage(line, from),
            Parsed::Step(instruction) => {
                let Some(stage) = self.stages.last_mut() else {
                    let keyword = line.keyword.to_ascii_uppercase();
                    let problem = SyntaxProblem::OutsideStage { keyword };
                    return Err(SyntaxError::new(line.span.clone(), line.text.clone(), problem));
                };
                let (span, text) = (line.span.clone(), line.text.clone());
                stage.instructions.push(Placed::new(instruction, span, text));
                if line.is("MAINTAINER") {
                    self.tell(
                        line,
                        "MAINTAINER is deprecated: LABEL org.opencontainers.image.authors=… takes its place",
                    );
                }
            }
        }
        Ok(())
    }

    fn begin_stage(&mut self, line: &Line, from: From) {
        let name = from.name.clone();
        if let Some(name) = &name {
            let stages = self.named.entry(name.clone()).or_default();
            stages.push(self.stages.len());
            if stages.len() > 1 {
                self.tell(line, &format!("two stages are called {name}: what comes later means the later one"));
            }
            if matches!(name.as_str(), "scratch" | "context") {
                self.tell(line, &format!("a stage called {name} hides what {name} usually means"));
            }
        }
        let (span, text) = (line.span.clone(), line.text.clone());
        self.stages.push(StageSource { name, from, instructions: Vec::new(), span, text });
    }

    fn tell(&mut self, line: &Line, text: &str) {
        self.notices.push(Notice { span: line.span.clone(), text: text.to_owned() });
    }

    /// The nearest stage of this name before the one with this index; case does not matter.
    pub(crate) fn earlier(&self, index: usize, name: &str) -> Option<usize> {
        let stages = self.named.get(&name.to_lowercase())?;
        stages[..stages.partition_point(|stage| *stage < index)].last().copied()
    }

    /// Whether a stage of this name comes after the one with this index; case does not matter.
    pub(crate) fn comes_later(&self, index: usize, name: &str) -> bool {
        let stages = self.named.get(&name.to_lowercase());
        stages.and_then(|stages| stages.last()).is_some_and(|last| *last > index)
    }

    /// The escape token of the file.
    pub(crate) fn escape(&self) -> char {
        self.directives.escape
    }
}

fn blank_line(span: Span) -> Notice {
    Notice { span, text: "the instruction goes on behind a blank line: Docker may refuse that one day".to_owned() }
}

#[cfg(test)]
#[path = "dockerfile_tests.rs"]
mod tests;
