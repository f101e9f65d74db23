//! A monitor that receives pings, and a follower with health endpoints.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::{EMAIL, PASSWORD, World};

/// Longer than anything takes, unless it never comes.
const LIMIT: Duration = Duration::from_secs(60);

/// A request received by a monitor.
#[derive(Debug)]
pub(crate) struct Pinged {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: String,
}

/// An HTTP server that receives pings.
pub(crate) struct Monitor {
    pub(crate) address: SocketAddr,
    pinged: Receiver<Pinged>,
}

impl Monitor {
    /// It answers every ping with this status.
    pub(crate) fn answering(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, pinged) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let sender = sender.clone();
                thread::spawn(move || {
                    let mut stream = BufReader::new(stream.unwrap());
                    while let Some(request) = read(&mut stream) {
                        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nOK");
                        let _ = sender.send(request);
                        let _ = stream.get_mut().write_all(answer.as_bytes());
                    }
                });
            }
        });
        Monitor { address, pinged }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/check-5e1f", self.address)
    }

    #[track_caller]
    pub(crate) fn next(&self) -> Pinged {
        self.pinged.recv_timeout(LIMIT).unwrap()
    }

    /// The pings not read yet.
    pub(crate) fn rest(&self) -> Vec<Pinged> {
        self.pinged.try_iter().collect()
    }
}

fn read(stream: &mut BufReader<TcpStream>) -> Option<Pinged> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut length = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Pinged { method, path, body: String::from_utf8(body).unwrap() })
}

/// A program that follows a vault, with health endpoints at an address.
pub(crate) struct Follower {
    program: Child,
    address: String,
    errors: BufReader<ChildStderr>,
}

impl Follower {
    pub(crate) fn start(world: &World, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_obsync"))
            .args(args)
            .args(["--follow", "--listen", "127.0.0.1:0"])
            .current_dir(world.path(""))
            .env_clear()
            .env("OBSYNC_HOME", world.home())
            .env("OBSYNC_API_URL", world.server.url())
            .env("OBSIDIAN_EMAIL", EMAIL)
            .env("OBSIDIAN_PASSWORD", PASSWORD)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(program.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("obsync: listening at http://");
        let address = address.unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Follower { program, address, errors }
    }

    /// Its answer: status and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Waits until it answers with this status; returns the body.
    #[track_caller]
    pub(crate) fn until(&self, path: &str, status: u16) -> String {
        let begun = Instant::now();
        loop {
            let (answered, body) = self.get(path);
            if answered == status {
                return body;
            }
            assert!(begun.elapsed() < LIMIT, "{path}: {answered} {body}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.program.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.program), signal).unwrap();
    }

    /// Waits until it ends by itself. Returns its exit status and standard error.
    #[track_caller]
    pub(crate) fn ended(mut self) -> (i32, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.program.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < LIMIT, "it does not end");
            thread::sleep(Duration::from_millis(20));
        };
        let mut errors = String::new();
        self.errors.read_to_string(&mut errors).unwrap();
        (status.code().unwrap(), errors)
    }

    /// Ends it in good order. Returns its exit status and standard error.
    pub(crate) fn stop(mut self) -> (i32, String) {
        self.signal(Signal::TERM);
        let mut errors = String::new();
        self.errors.read_to_string(&mut errors).unwrap();
        (self.program.wait().unwrap().code().unwrap(), errors)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// Receives datagrams until one is this text; returns all of them.
#[cfg(target_os = "linux")]
#[track_caller]
pub(crate) fn until_said(socket: &std::os::unix::net::UnixDatagram, wanted: &str) -> Vec<String> {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut said: Vec<String> = Vec::new();
    while !said.iter().any(|text| text.starts_with(wanted)) {
        let mut buffer = [0; 4096];
        let length =
            socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}: no {wanted} after {said:?}"));
        said.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
    }
    said
}

/// True if nothing more arrives for a while.
pub(crate) fn is_silent(monitor: &Monitor) -> bool {
    matches!(monitor.pinged.recv_timeout(Duration::from_millis(300)), Err(RecvTimeoutError::Timeout))
}
