//! What only a file can get wrong: faults of the disk, keys, schemas, and what lies in its bytes.

mod broken_disk;
mod file;

use super::Embedded;
use super::disk::Disk;
use crate::store::Store;
use crate::store::suite::Lab;

/// The engine below a lab's store.
fn engine(lab: &Lab) -> &Embedded {
    match lab.store() {
        Store::Embedded(engine) => engine,
    }
}

fn disk(lab: &Lab) -> &Disk {
    engine(lab).engine.disk()
}
