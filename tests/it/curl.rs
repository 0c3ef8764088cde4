//! curl, as people use it: every version of HTTP, and transfers larger than any buffer with flat memory.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tests::require;
use tests::world::{Agent, World};
use tokio::process::Command;

/// `--http1.0`, `--http1.1` and `--http2`: downloads, uploads, heads, ranges and refusals.
#[tokio::test(flavor = "multi_thread")]
async fn every_version() {
    let Some(lab) = Lab::new("curl::every_version").await else {
        return;
    };
    let file = lab.world.dir.path().join("upload");
    let body: Vec<u8> = (0..500_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    std::fs::write(&file, &body).unwrap();
    let file = file.display().to_string();
    for (version, number) in [("--http1.0", "1"), ("--http1.1", "1.1"), ("--http2", "2")] {
        let is_old = version == "--http1.0";
        let ran = lab.curl(&[version, "/any?x=1"], &[]).await;
        let said = ran.said();
        assert!(
            said.ends_with(&format!(" {number} 200")),
            "{version}: {said}"
        );
        assert_eq!(lab.world.upstream.seen().pop().unwrap().target, "/any?x=1");

        let ran = lab
            .curl(
                &[version, "/echo", "--data-binary", &format!("@{file}")],
                &[],
            )
            .await;
        assert!(
            ran.stdout.starts_with(&body),
            "{version}: the body came back changed"
        );
        assert!(ran.said().ends_with(" 200"), "{version}");
        // As a file whose size is known, and as a stream.
        for (from, is_refused) in [(file.as_str(), false), ("-", is_old)] {
            lab.world.upstream.clear();
            let ran = lab.curl(&[version, "/upload", "-T", from], &body).await;
            if is_refused {
                // HTTP/1.0 has no chunks, so curl does not even try.
                assert_ne!(ran.code, Some(0), "{version}");
                continue;
            }
            assert!(
                ran.said().ends_with(" 200"),
                "{version} -T {from}: {}",
                ran.said()
            );
            let seen = lab.world.upstream.seen().pop().unwrap();
            assert_eq!(
                (seen.bytes(), seen.is_complete()),
                (500_000, true),
                "{version} -T {from}"
            );
        }
        let ran = lab
            .curl(
                &[
                    version,
                    "/big?n=3000000",
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{size_download}",
                ],
                &[],
            )
            .await;
        assert!(
            ran.said().starts_with("3000000"),
            "{version}: {}",
            ran.said()
        );
        let ran = lab.curl(&[version, "/any", "-I"], &[]).await;
        assert!(
            ran.said().to_ascii_lowercase().contains("content-length:"),
            "{version}: {}",
            ran.said()
        );
        let ran = lab
            .curl(
                &[
                    version,
                    "/any",
                    "-H",
                    "Expect: 100-continue",
                    "--data-binary",
                    "hello",
                ],
                &[],
            )
            .await;
        assert!(ran.said().ends_with(" 200"), "{version}: {}", ran.said());
        // An app that breaks off is an error to curl, never a short file.
        let ran = lab.curl(&[version, "-f", "/truncated"], &[]).await;
        assert!(!matches!(ran.code, Some(0)), "{version}: {}", ran.said());
        let ran = lab
            .curl(&[version, "/trailers", "-H", "TE: trailers"], &[])
            .await;
        assert!(ran.said().starts_with("hello"), "{version}: {}", ran.said());
    }
}

/// Gigabytes up and down over every version, and neither program grows with them.
#[tokio::test(flavor = "multi_thread")]
async fn large_transfers_with_flat_memory() {
    let Some(lab) = Lab::new("curl::large_transfers_with_flat_memory").await else {
        return;
    };
    let size = size();
    // What a first transfer needs is there afterwards.
    for version in ["--http1.1", "--http2"] {
        lab.upload(version, 16 << 20).await;
        lab.download(version, 16 << 20).await;
    }
    for version in ["--http1.1", "--http2"] {
        for direction in ["up", "down"] {
            let before = lab.peaks();
            let begun = Instant::now();
            if direction == "up" {
                lab.upload(version, size).await;
            } else {
                lab.download(version, size).await;
            }
            let took = begun.elapsed();
            let after = lab.peaks();
            eprintln!(
                "{version} {direction}: {} MiB in {:.1} s; peak memory of edge {} → {} KiB, agent {} → {} KiB",
                size >> 20,
                took.as_secs_f64(),
                before.0,
                after.0,
                before.1,
                after.1
            );
            assert!(
                after.0.saturating_sub(before.0) < GROWTH_MAX_KIB
                    && after.1.saturating_sub(before.1) < GROWTH_MAX_KIB,
                "{version} {direction}: grew from {before:?} to {after:?} KiB"
            );
        }
    }
}

struct Lab {
    world: World,
    agent: Agent,
    curl: PathBuf,
}

/// What curl did.
struct Ran {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Ran {
    fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.stdout).into_owned();
        match self.code {
            Some(0) => text,
            _ => text + self.stderr.as_str(),
        }
    }
}

impl Lab {
    async fn new(test: &str) -> Option<Self> {
        let curl = require::program("curl", test)?;
        let world = World::start().await;
        let agent = world.agent("app", &[]).await;
        Some(Self { world, agent, curl })
    }

    /// curl at the endpoint, with its version and a path; says version and status at the end.
    fn command(&self, arguments: &[&str]) -> Command {
        let net = &self.world.net;
        let host = net.host("app");
        let port = net.addr.port();
        let mut command = Command::new(&self.curl);
        command
            .args(["-sS", "--no-buffer", "-w", " %{http_version} %{http_code}"])
            .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
            .arg("--cacert")
            .arg(self.world.ready["ca_file"].as_str().unwrap())
            .env_remove("https_proxy")
            .env_remove("HTTPS_PROXY")
            .env("NO_PROXY", "*")
            .kill_on_drop(true);
        for argument in arguments {
            if argument.starts_with('/')
                && !argument.starts_with("/dev/")
                && !argument.starts_with("/tmp")
            {
                command.arg(format!("https://{host}:{port}{argument}"));
            } else {
                command.arg(argument);
            }
        }
        command
    }

    async fn curl(&self, arguments: &[&str], stdin: &[u8]) -> Ran {
        use tokio::io::AsyncWriteExt as _;
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("curl runs");
        let mut input = child.stdin.take().expect("piped");
        let stdin = stdin.to_vec();
        let feed = tokio::spawn(async move {
            // Not every command reads it.
            let _ = input.write_all(&stdin).await;
        });
        let ran = tests::wait::within(&format!("curl {arguments:?}"), child.wait_with_output())
            .await
            .expect("waited for");
        feed.abort();
        Ran {
            code: ran.status.code(),
            stdout: ran.stdout,
            stderr: String::from_utf8_lossy(&ran.stderr).into_owned(),
        }
    }

    async fn upload(&self, version: &str, size: u64) {
        self.world.upstream.clear();
        let mut zeros = Command::new("head")
            .args(["-c", &size.to_string(), "/dev/zero"])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("head runs");
        let stdin: Stdio = zeros
            .stdout
            .take()
            .expect("piped")
            .try_into()
            .expect("a pipe");
        let mut command = self.command(&[version, "/upload", "-T", "-"]);
        command.stdin(stdin);
        let said = finish(command, size).await;
        let seen = self.world.upstream.seen().pop().unwrap();
        assert!(said.ends_with(" 200"), "{version}: {said}");
        assert_eq!(
            (seen.bytes(), seen.is_complete()),
            (size, true),
            "{version}: {said}"
        );
        let _ = zeros.wait().await;
    }

    async fn download(&self, version: &str, size: u64) {
        let target = format!("/big?n={size}");
        let command = self.command(&[
            version,
            &target,
            "-o",
            "/dev/null",
            "-w",
            "%{size_download} %{http_code}",
        ]);
        let said = finish(command, size).await;
        assert_eq!(said, format!("{size} 200"), "{version}");
    }

    /// The most memory that edge and agent ever held, in KiB.
    fn peaks(&self) -> (u64, u64) {
        (
            peak_kib(self.world.edge.process.pid()),
            peak_kib(self.agent.process.pid()),
        )
    }
}

async fn finish(mut command: Command, size: u64) -> String {
    // A busy computer and a build without optimisation: 4 MiB a second.
    let patience = Duration::from_secs(30 + (size >> 22));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = tokio::time::timeout(patience, command.output()).await;
    let ran = ran.expect("in time").expect("curl runs");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(
        ran.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    said
}

fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse().ok())
        .expect("its peak")
}

/// Bytes of one transfer: 256 MiB unless the environment asks for whole gibibytes.
fn size() -> u64 {
    std::env::var("SALLYPORT_UPLOAD_GIB")
        .ok()
        .and_then(|gib| gib.parse::<u64>().ok())
        .map_or(256 << 20, |gib| gib << 30)
}

/// Windows and buffers of one exchange, several times over, and far below any transfer.
const GROWTH_MAX_KIB: u64 = 32 * 1024;
