//! The socket itself: where it is, who may connect, how it comes and goes.

use std::fs;
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::shutdown::Shutdown;

/// The operator's socket, open. Dropping it takes the file away.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: Arc<UnixListener>,
    path: PathBuf,
    /// Device and inode, so that only our own file is removed.
    file: (u64, u64),
}

/// Where the socket of a data folder is.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("edge.sock")
}

/// Opens the socket: mode 0600, in a folder that nobody else may enter.
///
/// # Errors
/// `AddrInUse` when another edge answers there; `PermissionDenied` when others may enter the folder.
pub(crate) async fn listen(data_dir: &Path) -> io::Result<Listening> {
    let others = fs::metadata(data_dir)?.permissions().mode() & 0o077;
    if others != 0 {
        let message = format!("others may enter {0}: chmod 700 {0}", data_dir.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    let path = path(data_dir);
    if path.as_os_str().len() >= PATH_BYTES_MAX {
        let message = format!(
            "{} is longer than a socket's path may be: choose a shorter data folder",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    refuse_second(&path).await?;
    // Bound in a folder of its own, made private, then moved into place: at no moment can anybody else
    // connect, and a stale file is replaced in one step.
    let nest = data_dir.join(".sock");
    let _ = fs::remove_dir_all(&nest);
    fs::DirBuilder::new().mode(0o700).create(&nest)?;
    let fresh = nest.join("s");
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
    fs::rename(&fresh, &path)?;
    fs::remove_dir(&nest)?;
    let data = fs::metadata(&path)?;
    Ok(Listening {
        listener: Arc::new(listener),
        path,
        file: (data.dev(), data.ino()),
    })
}

/// A file there is stale only when nobody listens.
async fn refuse_second(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(data) if !data.file_type().is_socket() => {
            let message = format!("{} is there and no socket", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(_) => {
            let message = format!("another edge listens on {}", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, message))
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

impl Listening {
    /// Serves until nobody is inside any more, so that the drain itself can be watched; open answers are
    /// finished.
    pub(crate) fn serve(
        &self,
        router: Router,
        shutdown: Shutdown,
    ) -> impl Future<Output = ()> + Send + use<> {
        let listener = Arc::clone(&self.listener);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        async move {
            loop {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                let accepted = tokio::select! {
                    () = shutdown.emptied() => return,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((stream, _)) if is_owner(&stream) => {
                        let serving = serve_one(stream, router.clone(), shutdown.clone());
                        shutdown.spawn(async move {
                            serving.await;
                            drop(place);
                        });
                    }
                    Ok(_) => {
                        tracing::warn!("another user's process connected to the operator's socket");
                    }
                    Err(error) => {
                        tracing::warn!(%error, "operator's socket does not accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let ours = fs::metadata(&self.path).is_ok_and(|data| (data.dev(), data.ino()) == self.file);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, "operator's socket not removed");
        }
    }
}

/// The file's mode says the same; this holds where a mode was loosened by hand. Root may, as everywhere.
fn is_owner(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn serve_one(stream: UnixStream, router: Router, shutdown: Shutdown) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WITHIN)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shutdown.emptied() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "operator's connection ended");
    }
}

/// `sun_path` with its final zero.
const PATH_BYTES_MAX: usize = 104;
const CONNECTIONS_MAX: usize = 32;
const HEADER_WITHIN: Duration = Duration::from_secs(10);
/// When files have run out: accepting pauses instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
