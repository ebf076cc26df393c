//! A port in front of a server behind which answers get stuck: so many bytes come, and then nothing any more, or one byte now
//! and then. What a registry, a proxy or a network does on a bad day.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// See the module. It ends with the process that made it.
#[derive(Debug)]
pub struct Tarpit {
    port: u16,
}

/// How an answer gets stuck.
#[derive(Debug, Clone, Copy)]
pub struct Stuck {
    /// So many bytes of each connection's answers come at once.
    pub after: usize,
    /// And one more each time that this has passed; `None` is never.
    pub pause: Option<Duration>,
}

impl Tarpit {
    /// Starts one in front of a port of this machine, which nobody need listen on where nothing is to come at all. `held` is
    /// told each time that an answer gets stuck.
    pub fn start(target: u16, stuck: Stuck, held: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
        let port = listener.local_addr().context("listen on loopback")?.port();
        let held = Arc::new(held);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let held = Arc::clone(&held);
                // A connection that breaks is the client's to notice.
                thread::spawn(move || drop(pass(&client, target, stuck, &*held)));
            }
        });
        Ok(Self { port })
    }

    /// `127.0.0.1:<port>`, as it stands in references.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn pass(client: &TcpStream, target: u16, stuck: Stuck, held: &dyn Fn()) -> io::Result<()> {
    if stuck.after == 0 {
        // What is asked is heard, and that is all.
        (&*client).read_exact(&mut [0])?;
        held();
        return io::copy(&mut &*client, &mut io::sink()).map(drop);
    }
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let sent = io::copy(&mut &*client, &mut &server);
            let _ = server.shutdown(std::net::Shutdown::Both);
            sent
        });
        let passed = io::copy(&mut (&server).take(stuck.after as u64), &mut &*client)?;
        if passed < stuck.after as u64 {
            return client.shutdown(std::net::Shutdown::Both);
        }
        held();
        while let Some(pause) = stuck.pause {
            thread::sleep(pause);
            let mut byte = [0];
            (&server).read_exact(&mut byte)?;
            (&*client).write_all(&byte)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_as_far_as_it_is_let_and_then_by_the_byte() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut stream in server.incoming().flatten() {
                stream.write_all(b"0123456789").unwrap();
                thread::sleep(Duration::from_mins(1));
            }
        });
        let (told, telling) = std::sync::mpsc::channel();
        let stuck = Stuck { after: 4, pause: Some(Duration::from_millis(20)) };
        let tarpit = Tarpit::start(port, stuck, move || told.send(()).unwrap()).unwrap();
        let mut client = TcpStream::connect(tarpit.host()).unwrap();
        let mut answer = [0; 7];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"0123456");
        telling.recv_timeout(Duration::from_secs(10)).unwrap();
    }
}
