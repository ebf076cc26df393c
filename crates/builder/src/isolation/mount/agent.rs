//! An agent of whoever asked for the build, such as ssh-agent: what a command says to a socket in its root is handed on to
//! the agent's socket, and the answers back. The agent's own socket is not shown: its mode and its folder are not the
//! command's, and it may lie where the command's root does not.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

/// The socket of an agent, found wherever it is moved to.
#[derive(Debug)]
pub struct Agent {
    /// Held open (`O_PATH`), so that it can be reached when the folder it lies in has become another one.
    socket: Arc<OwnedFd>,
}

impl Agent {
    /// Opens the agent's socket and speaks to nobody yet.
    ///
    /// # Errors
    /// Nothing is there, or something that is no socket.
    pub fn open(path: &Path) -> io::Result<Self> {
        let socket = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let mode = rustix::fs::fstat(&socket)?.st_mode;
        if rustix::fs::FileType::from_raw_mode(mode) != rustix::fs::FileType::Socket {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a socket"));
        }
        Ok(Self { socket: Arc::new(socket) })
    }

    /// Makes a socket at a path of this machine, and serves it until what is returned is dropped.
    pub(super) fn serve(&self, path: &Path) -> io::Result<Serving> {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        let (socket, done) = (Arc::clone(&self.socket), Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&done);
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                match listener.accept() {
                    Ok((stream, _)) => hand_on(&stream, &socket),
                    Err(_) => thread::sleep(Duration::from_millis(10)),
                }
            }
        });
        Ok(Serving { done, thread: Some(thread) })
    }
}

/// A socket that is served. Conversations that go on when it is dropped end with the process at their other end.
pub(super) struct Serving {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Carries bytes both ways, in two threads of their own. An agent that is gone is a conversation that ends at once.
fn hand_on(command: &UnixStream, socket: &OwnedFd) {
    let path = PathBuf::from(format!("/proc/self/fd/{}", socket.as_raw_fd()));
    let Ok(agent) = UnixStream::connect(path) else { return };
    let pairs = (command.try_clone(), agent.try_clone(), command.try_clone());
    let (Ok(command), Ok(other), Ok(back)) = pairs else { return };
    if command.set_nonblocking(false).is_err() {
        return;
    }
    thread::spawn(move || pump(command, agent));
    thread::spawn(move || pump(other, back));
}

fn pump(mut from: UnixStream, mut to: UnixStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_is_said_reaches_the_agent_and_its_answer_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        let listener = UnixListener::bind(&path).unwrap();
        let agent = Agent::open(&path).unwrap();
        let moved = folder.path().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        let answering = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut said = [0; 5];
            stream.read_exact(&mut said).unwrap();
            stream.write_all(b"and ").unwrap();
            stream.write_all(&said).unwrap();
        });
        let inside = folder.path().join("inside");
        let serving = agent.serve(&inside).unwrap();
        let mut stream = UnixStream::connect(&inside).unwrap();
        stream.write_all(b"hello").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "and hello");
        answering.join().unwrap();
        drop(serving);
        assert!(UnixStream::connect(&inside).is_err());
    }

    #[test]
    fn what_is_no_socket_is_no_agent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "").unwrap();
        assert_eq!(Agent::open(&path).unwrap_err().to_string(), "it is not a socket");
        assert!(Agent::open(&folder.path().join("none")).is_err());
    }
}
