//! Web servers that nobody here wrote, which note every request that they saw: method, target, body bytes
//! and `X-Forwarded-For`, one line each. Smuggling is judged by what they saw, not by what the edge said.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::require;
use crate::wait;

/// A running server that answers every request with its target.
#[derive(Debug)]
pub struct Judge {
    pub kind: Kind,
    pub address: String,
    notes: PathBuf,
    _server: Child,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Nginx,
    Node,
    Python,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Nginx, Self::Node, Self::Python];

    const fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Node => "node",
            Self::Python => "python3",
        }
    }
}

impl Judge {
    /// Starts it; `None` after saying why `test` is skipped.
    pub async fn start(kind: Kind, folder: &Path, test: &str) -> Option<Self> {
        let program = find(kind.program()).or_else(|| require::program(kind.program(), test))?;
        let folder = folder.join(kind.program());
        std::fs::create_dir_all(&folder).expect("a folder");
        let notes = folder.join("notes.txt");
        std::fs::write(&notes, "").expect("a file");
        let mut command = Command::new(program);
        let port = free_port().await;
        match kind {
            Kind::Nginx => {
                let config = NGINX
                    .replace("FOLDER", &folder.display().to_string())
                    .replace("PORT", &port.to_string());
                let file = folder.join("nginx.conf");
                std::fs::write(&file, config).expect("a file");
                command
                    .arg("-p")
                    .arg(&folder)
                    .arg("-e")
                    .arg(folder.join("error.txt"));
                command.arg("-c").arg(&file);
            }
            Kind::Node => {
                command.args(["-e", NODE]).arg(port.to_string()).arg(&notes);
            }
            Kind::Python => {
                command
                    .args(["-c", PYTHON])
                    .arg(port.to_string())
                    .arg(&notes);
            }
        }
        let errors = std::fs::File::create(folder.join("stderr.txt")).expect("a file");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .kill_on_drop(true);
        let server = command.spawn().expect("the server starts");
        let address = format!("127.0.0.1:{port}");
        wait::until(&format!("{kind:?} listens"), || async {
            TcpStream::connect(&address).await.ok()
        })
        .await;
        Some(Self {
            kind,
            address,
            notes,
            _server: server,
        })
    }

    /// What it saw so far: `METHOD TARGET BODY-BYTES FORWARDED-FOR`.
    pub fn seen(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.notes).expect("the notes");
        // No body and an empty one are one thing here.
        text.lines()
            .map(|line| line.replace(" 0 ", " - "))
            .collect()
    }

    /// Forgets what it saw.
    pub fn clear(&self) {
        let file = std::fs::OpenOptions::new().write(true).open(&self.notes);
        file.and_then(|file| file.set_len(0)).expect("emptied");
    }
}

/// Servers are not on everybody's path.
fn find(program: &str) -> Option<PathBuf> {
    require::find(program).or_else(|| {
        let file = Path::new("/usr/sbin").join(program);
        file.is_file().then_some(file)
    })
}

/// These servers cannot say which port the system gave them: one that was free a moment ago.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// `proxy_pass` to itself makes it read bodies: what it read is what the inner server notes.
const NGINX: &str = r"
daemon off;
user root;
worker_processes 1;
pid FOLDER/pid;
error_log FOLDER/error.txt;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path FOLDER/body;
  proxy_temp_path FOLDER/proxy;
  fastcgi_temp_path FOLDER/fastcgi;
  uwsgi_temp_path FOLDER/uwsgi;
  scgi_temp_path FOLDER/scgi;
  underscores_in_headers on;
  log_format note '$request_method $request_uri $http_content_length $http_x_forwarded_for';
  server {
    listen 127.0.0.1:PORT;
    location / { proxy_pass http://unix:FOLDER/inner; }
  }
  server {
    listen unix:FOLDER/inner;
    access_log FOLDER/notes.txt note;
    default_type text/plain;
    location / { return 200 $request_uri; }
  }
}
";

const NODE: &str = r"
const [port, notes] = process.argv.slice(1);
const fs = require('fs');
require('http').createServer((request, response) => {
  let bytes = 0;
  request.on('data', (data) => { bytes += data.length; });
  request.on('end', () => {
    const from = request.headers['x-forwarded-for'] || '-';
    fs.appendFileSync(notes, `${request.method} ${request.url} ${bytes || '-'} ${from}\n`);
    response.end(request.url);
  });
}).listen(Number(port), '127.0.0.1');
";

const PYTHON: &str = r#"
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
port, notes = sys.argv[1:]
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            total = 0
            while size := int(self.rfile.readline().split(b";")[0], 16):
                total += len(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip(): pass
            return total
        return len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
    def answer(self):
        read = self.body()
        with open(notes, "a") as file:
            print(self.command, self.path, read or "-", self.headers.get("X-Forwarded-For", "-"), file=file)
        self.send_response(200)
        text = self.path.encode()
        self.send_header("Content-Length", len(text))
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(text)
    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = answer
ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"#;
