//! What commands ask for besides files, checked before anything is downloaded: rights of the isolation, secrets, agents.

use crate::error::BuildError;
use crate::instruction::{Demands, MountKind, Network, Placed};
use crate::isolation::{Isolation, IsolationError, Wish};
use crate::secrets::Secrets;
use crate::step::StepError;

/// Refuses the first instruction that asks for what cannot be had.
pub(super) fn check(instructions: &[Placed], isolation: &dyn Isolation, secrets: &Secrets) -> Result<(), BuildError> {
    for placed in instructions {
        let Some(demands) = placed.demands() else { continue };
        let wrong = |source: StepError| BuildError::Step {
            span: placed.span.clone(),
            text: placed.text.clone(),
            source: Box::new(source),
        };
        isolation.check_run().map_err(|error| wrong(error.into()))?;
        rights(&demands, isolation).map_err(|error| wrong(error.into()))?;
        for mount in &demands.mounts {
            match &mount.kind {
                MountKind::Secret { id, required: true, .. } if secrets.value(id).is_none() => {
                    return Err(wrong(StepError::NoSecret { id: id.clone() }));
                }
                MountKind::Ssh { id, required: true, .. } if secrets.agent(id).is_none() => {
                    return Err(wrong(StepError::NoAgent { id: id.clone() }));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn rights(demands: &Demands<'_>, isolation: &dyn Isolation) -> Result<(), IsolationError> {
    match demands.network {
        Network::None => isolation.check(Wish::Offline)?,
        // The builder's network is the one its commands have.
        Network::Default | Network::Host => {}
    }
    if demands.insecure {
        isolation.check(Wish::Insecure)?;
    }
    demands.devices.iter().try_for_each(|device| isolation.check(Wish::Device(device)))
}
