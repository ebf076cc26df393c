//! `SIGINT`, `SIGTERM` and `SIGHUP`: the first asks the build to stop and put everything back, the second ends the
//! program at once.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};
use zuwai_builder::isolation::Cancel;

/// Which signal came, if one did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signalled(Arc<AtomicUsize>);

impl Signalled {
    /// Begins to listen. `cancel` is asked for as soon as a signal comes.
    pub(crate) fn listen(cancel: &Cancel) -> io::Result<Self> {
        let signalled = Self::default();
        let again = Arc::new(AtomicBool::new(false));
        let (mut here, there) = UnixStream::pair()?;
        for (signal, code) in [(SIGHUP, 129_u8), (SIGINT, 130), (SIGTERM, 143)] {
            // In this order: the second time `again` is set already.
            flag::register_conditional_shutdown(signal, i32::from(code), Arc::clone(&again))?;
            flag::register(signal, Arc::clone(&again))?;
            flag::register_usize(signal, Arc::clone(&signalled.0), usize::from(code))?;
            low_level::pipe::register(signal, there.try_clone()?)?;
        }
        let cancel = cancel.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if here.read_exact(&mut [0]).is_ok() {
                cancel.cancel();
            }
        })?;
        Ok(signalled)
    }

    /// What a program ends with that a signal has ended: 128 and the signal's number.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        u8::try_from(self.0.load(Ordering::SeqCst)).ok().filter(|code| *code != 0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_signal_asks_the_build_to_stop() {
        let cancel = Cancel::default();
        let signalled = Signalled::listen(&cancel).unwrap();
        assert_eq!(signalled.exit_code(), None);
        low_level::raise(SIGTERM).unwrap();
        for _ in 0..500 {
            if cancel.is_cancelled() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(cancel.is_cancelled());
        assert_eq!(signalled.exit_code(), Some(143));
    }
}
