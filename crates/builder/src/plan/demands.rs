//! What commands ask for besides files, checked before anything is downloaded: a processor that they run on, rights of the
//! isolation, secrets, agents.

use std::path::Path;

use zuwai_registry::Platform;

use crate::emulation;
use crate::error::BuildError;
use crate::instruction::{Demands, MountKind, Network, Placed};
use crate::isolation::{Isolation, IsolationError, Wish};
use crate::secrets::Secrets;
use crate::step::StepError;

/// What there is to ask with.
pub(super) struct Checker<'a> {
    pub(super) isolation: &'a dyn Isolation,
    pub(super) secrets: &'a Secrets,
    /// The platform of this machine.
    pub(super) host: &'a Platform,
    /// A folder in which something can be tried out.
    pub(super) folder: &'a Path,
}

impl Checker<'_> {
    /// Refuses the first instruction, of a stage for this platform, that asks for what cannot be had.
    pub(super) fn check(&self, instructions: &[Placed], platform: &Platform) -> Result<(), BuildError> {
        let mut commands = instructions.iter().filter_map(|placed| Some((placed, placed.demands()?))).peekable();
        if let Some((placed, _)) = commands.peek()
            && !emulation::runs(platform, self.host, self.folder)
        {
            let (platform, host) = (platform.to_string(), self.host.to_string());
            return Err(at(placed, StepError::Foreign { platform, host }));
        }
        for (placed, demands) in commands {
            self.isolation.check_run().map_err(|error| at(placed, error.into()))?;
            self.rights(&demands).map_err(|error| at(placed, error.into()))?;
            self.gifts(&demands).map_err(|error| at(placed, error))?;
        }
        Ok(())
    }

    fn rights(&self, demands: &Demands<'_>) -> Result<(), IsolationError> {
        match demands.network {
            Network::None => self.isolation.check(Wish::Offline)?,
            // The builder's network is the one its commands have.
            Network::Default | Network::Host => {}
        }
        if demands.insecure {
            self.isolation.check(Wish::Insecure)?;
        }
        demands.devices.iter().try_for_each(|device| self.isolation.check(Wish::Device(device)))
    }

    /// Secrets and agents that must be there.
    fn gifts(&self, demands: &Demands<'_>) -> Result<(), StepError> {
        for mount in &demands.mounts {
            match &mount.kind {
                MountKind::Secret { id, required: true, .. } if self.secrets.value(id).is_none() => {
                    return Err(StepError::NoSecret { id: id.clone() });
                }
                MountKind::Ssh { id, required: true, .. } if self.secrets.agent(id).is_none() => {
                    return Err(StepError::NoAgent { id: id.clone() });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn at(placed: &Placed, source: StepError) -> BuildError {
    BuildError::Step { span: placed.span.clone(), text: placed.text.clone(), source: Box::new(source) }
}
