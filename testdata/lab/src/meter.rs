//! A meter between a client and a server: hands every byte on, and counts. It can be told to damage one.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};

/// A port that leads to another one. It ends with this value.
#[derive(Debug)]
pub struct Meter {
    port: u16,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    up: AtomicU64,
    down: AtomicU64,
    ended: AtomicBool,
    /// The place of a byte that is to be changed, among all that the server sends.
    damaged: Option<u64>,
}

/// Bytes that went through, headers and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// From the clients to the server.
    pub up: u64,
    /// From the server to the clients.
    pub down: u64,
}

impl Meter {
    /// Starts one in front of a port of this machine.
    pub fn start(target: u16) -> Result<Self> {
        Self::with(target, None)
    }

    /// The same, and the byte at this place of all that the server sends is another one.
    pub fn damaging(target: u16, place: u64) -> Result<Self> {
        Self::with(target, Some(place))
    }

    fn with(target: u16, damaged: Option<u64>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
        let port = listener.local_addr().context("listen on loopback")?.port();
        let counts = Arc::new(Counts { damaged, ..Counts::default() });
        let shared = Arc::clone(&counts);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.ended.load(Ordering::Relaxed) {
                    return;
                }
                let counts = Arc::clone(&shared);
                // A connection that breaks is the client's to notice.
                thread::spawn(move || drop(join(&client, target, &counts)));
            }
        });
        Ok(Self { port, counts })
    }

    /// The port on 127.0.0.1 that leads to the other.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What went through since it was asked last.
    pub fn take(&self) -> Traffic {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        Traffic { up: take(&self.counts.up), down: take(&self.counts.down) }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.counts.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

fn join(client: &TcpStream, target: u16, counts: &Counts) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| hand_on(client, &server, &counts.up, None));
        hand_on(&server, client, &counts.down, counts.damaged);
    });
    Ok(())
}

fn hand_on(mut from: &TcpStream, mut to: &TcpStream, count: &AtomicU64, damaged: Option<u64>) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(length) = from.read(&mut buffer) {
        let before = count.fetch_add(length as u64, Ordering::Relaxed);
        let place = damaged.and_then(|place| place.checked_sub(before)).and_then(|place| usize::try_from(place).ok());
        if let Some(byte) = place.and_then(|place| buffer[..length].get_mut(place)) {
            *byte = !*byte;
        }
        if length == 0 || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_through_is_handed_on_and_counted() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let meter = Meter::damaging(listener.local_addr().unwrap().port(), 60_000).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 5];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(&vec![7; 70_000]).unwrap();
            asked
        });
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, meter.port())).unwrap();
        client.write_all(b"hello").unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!((server.join().unwrap(), answer.len()), (*b"hello", 70_000));
        let others: Vec<_> = answer.iter().enumerate().filter(|(_, byte)| **byte != 7).collect();
        assert_eq!(others, [(60_000, &!7)]);
        assert_eq!(meter.take(), Traffic { up: 5, down: 70_000 });
        assert_eq!(meter.take(), Traffic { up: 0, down: 0 });
    }
}
