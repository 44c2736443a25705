//! A Redis server of one's own, on a free port, with its data in a folder of its own; ended when dropped.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hypersockets::Result;

pub(crate) struct RedisServer {
    child: Option<Child>,
    port: u16,
    folder: PathBuf,
}

impl RedisServer {
    /// Starts one with its data below `folder`; `None` where this host has no `redis-server`.
    ///
    /// # Errors
    /// It was started, and does not answer.
    pub(crate) fn start(folder: &Path) -> Result<Option<Self>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        std::fs::create_dir_all(folder)?;
        let mut server = Self { child: None, port, folder: folder.to_owned() };
        Ok(if server.resume()? { Some(server) } else { None })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Kills it, as a power cut would: what it had acknowledged is on its disk.
    #[allow(dead_code)] // for a test
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It is ours, and may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it on its data; whether this host has the program.
    pub(crate) fn resume(&mut self) -> Result<bool> {
        let port = self.port.to_string();
        // Each write is on the disk before it is acknowledged.
        let arguments =
            ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always"];
        let mut command = Command::new("redis-server");
        command.args(arguments).arg("--dir").arg(&self.folder).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = command.spawn() else { return Ok(false) };
        self.child = Some(child);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if began.elapsed() > PATIENCE {
                return Err("redis-server does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(true)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It is ours, and may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
