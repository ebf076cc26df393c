//! A stream that breaks off when the build is asked to stop: what reads or writes much goes through one.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Lets bytes pass, and counts them, until the flag is set; from then on everything is an error.
pub(crate) struct Cancellable<'a, T> {
    inner: T,
    cancelled: &'a AtomicBool,
    bytes: u64,
}

impl<'a, T> Cancellable<'a, T> {
    pub(crate) fn new(inner: T, cancelled: &'a AtomicBool) -> Self {
        Self { inner, cancelled, bytes: 0 }
    }

    /// How many bytes have passed.
    pub(crate) fn passed_bytes(&self) -> u64 {
        self.bytes
    }

    /// The stream itself.
    pub(crate) fn into_inner(self) -> T {
        self.inner
    }

    fn check(&self) -> io::Result<()> {
        if self.cancelled.load(Ordering::SeqCst) {
            return Err(io::Error::other("the build was cancelled"));
        }
        Ok(())
    }

    fn passed(&mut self, count: usize) -> usize {
        self.bytes += count as u64;
        count
    }
}

impl<T: Read> Read for Cancellable<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        let count = self.inner.read(buffer)?;
        Ok(self.passed(count))
    }
}

impl<T: Write> Write for Cancellable<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        let count = self.inner.write(bytes)?;
        Ok(self.passed(count))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_until_the_flag_is_set() {
        let flag = AtomicBool::new(false);
        let mut read = Cancellable::new(&b"abcdef"[..], &flag);
        read.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(read.passed_bytes(), 4);
        let mut written = Cancellable::new(Vec::new(), &flag);
        written.write_all(b"xyz").unwrap();
        flag.store(true, Ordering::SeqCst);
        assert!(read.read_exact(&mut [0; 1]).is_err() && written.write_all(b"z").is_err());
        assert_eq!(written.into_inner(), b"xyz");
    }
}
