//! From an address to a place, by the operator's MMDB file: MaxMind's nested shape or the flat one of
//! DB-IP. A file that cannot be used means that no place is known, and nothing else.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use maxminddb::Reader;
use serde_json::Value;

use crate::model::session::Place;

/// Looks addresses up in the operator's MMDB file.
pub(crate) struct GeoIp {
    file: Option<PathBuf>,
    current: ArcSwapOption<Database>,
    /// The state of the file that was looked at last.
    seen: Mutex<Option<Mark>>,
}

struct Database {
    reader: Reader<Vec<u8>>,
    /// A damaged record was logged.
    damaged: AtomicBool,
}

impl GeoIp {
    /// A file that cannot be read means "no place", with one logged error. Blocking.
    pub(crate) fn open(file: Option<&Path>) -> Self {
        let geoip = Self {
            file: file.map(Path::to_owned),
            current: ArcSwapOption::empty(),
            seen: Mutex::new(None),
        };
        geoip.reload();
        geoip
    }

    pub(crate) fn place(&self, address: IpAddr) -> Option<Place> {
        let current = self.current.load();
        let database = current.as_deref()?;
        let address = address.to_canonical();
        if address.is_ipv6() && database.reader.metadata().ip_version == 4 {
            return None;
        }
        let record = database
            .reader
            .lookup(address)
            .and_then(|found| found.decode::<Value>());
        match record {
            Ok(record) => record.and_then(|record| place(&record)),
            Err(error) => {
                if !database.damaged.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "place database is damaged: some places stay unknown");
                }
                None
            }
        }
    }

    /// Reads the file again where it changed. Blocking. A file that is gone leaves no place; one that
    /// cannot be used leaves what was there.
    pub(crate) fn reload(&self) {
        let Some(file) = &self.file else {
            return;
        };
        let mark = Mark::of(file);
        {
            let Ok(mut seen) = self.seen.lock() else {
                return;
            };
            if seen.replace(mark) == Some(mark) {
                return;
            }
        }
        match read(file) {
            Ok(reader) => {
                let built = reader.metadata().build_epoch;
                tracing::info!(file = %file.display(), built, "place database read");
                let database = Database {
                    reader,
                    damaged: AtomicBool::new(false),
                };
                self.current.store(Some(database.into()));
            }
            Err(error) => {
                if mark == Mark::Missing {
                    self.current.store(None);
                }
                tracing::error!(error, file = %file.display(), "place database cannot be used");
            }
        }
    }
}

impl fmt::Debug for GeoIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeoIp")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// What tells one state of a file from the next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mark {
    Missing,
    Unreadable,
    File {
        inode: u64,
        bytes: u64,
        modified: (i64, i64),
    },
}

impl Mark {
    fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(file) => Self::File {
                inode: file.ino(),
                bytes: file.len(),
                modified: (file.mtime(), file.mtime_nsec()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Missing,
            Err(_) => Self::Unreadable,
        }
    }
}

fn read(path: &Path) -> Result<Reader<Vec<u8>>, String> {
    let bytes = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20));
    }
    Reader::open_readfile(path).map_err(|error| error.to_string())
}

/// Reads what is there of either shape; a member of another type is one that is missing.
fn place(record: &Value) -> Option<Place> {
    let (latitude, longitude) = coordinates(record).unzip();
    let place = Place {
        country_code: text(record, &["/country/iso_code", "/country_code"])
            .filter(|code| code.len() == 2),
        city: text(record, &["/city/names/en", "/city"]),
        subdivision: text(record, &["/subdivisions/0/names/en", "/state1"]),
        latitude_micro: latitude,
        longitude_micro: longitude,
        radius_km: record
            .pointer("/location/accuracy_radius")
            .and_then(Value::as_u64)
            .and_then(|radius| u32::try_from(radius).ok()),
        network: text(
            record,
            &[
                "/autonomous_system_organization",
                "/traits/autonomous_system_organization",
                "/traits/isp",
            ],
        ),
    };
    (place != Place::default()).then_some(place)
}

fn coordinates(record: &Value) -> Option<(i32, i32)> {
    let number = |paths: [&str; 2]| {
        paths
            .into_iter()
            .find_map(|path| record.pointer(path))
            .and_then(Value::as_f64)
    };
    Some((
        micro(number(["/location/latitude", "/latitude"])?, 90.0)?,
        micro(number(["/location/longitude", "/longitude"])?, 180.0)?,
    ))
}

/// Degrees to microdegrees, which fit where degrees are on Earth.
fn micro(degrees: f64, most: f64) -> Option<i32> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 180 million, as the check says"
    )]
    (degrees.abs() <= most).then(|| (degrees * 1e6).round() as i32)
}

/// The first of these that is a text, printable and within its bound.
fn text(record: &Value, paths: &[&str]) -> Option<String> {
    let text = paths
        .iter()
        .find_map(|path| record.pointer(path).and_then(Value::as_str))?;
    let mut kept = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > TEXT_BYTES_MAX {
            break;
        }
        kept.push(c);
    }
    (!kept.is_empty()).then_some(kept)
}

/// The largest published files are below 200 MiB; this one is held in memory.
const FILE_BYTES_MAX: u64 = 1 << 30;
const TEXT_BYTES_MAX: usize = 128;
