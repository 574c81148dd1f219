//! The thread that keeps what arrives on the disk: the destination's side of parking, in place of a restore.

use super::{ParkedCopy, ParkedPlace};
use crate::data::{DataStream, receive_manifest};
use crate::destination::Staged;
use crate::faults::{Faults, Steps};
use crate::link::tracing_line;
use grid_os::criu::{CriuError, Recorder};
use grid_os::private_tmp::skip;
use grid_os::socket::Socket;
use grid_types::Bytes;
use grid_types::fault::FaultPoint;
use grid_types::wire::{Manifest, Stage};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

/// Everything that the thread needs.
pub(crate) struct Keeping {
    pub(crate) faults: Faults,
    pub(crate) place: ParkedPlace,
    pub(crate) stage: Stage,
    pub(crate) stream: Socket,
}

impl Keeping {
    pub(crate) fn run(self) -> Result<Staged, String> {
        let mut steps = Steps::new(&self.faults);
        let kept = self.keep(&mut steps);
        if kept.is_err() {
            // A disk that is full gets its room back.
            self.place.drop().unwrap_or_else(|e| tracing_line(&e));
        }
        tracing_line(&format!("parked {} of {}: {}", self.stage.title, self.stage.offload, steps.text()));
        kept.map(Staged::Parked)
    }

    fn keep(&self, steps: &mut Steps) -> Result<ParkedCopy, String> {
        let disk = |e: io::Error| format!("E-DISK the parked copy could not be written: {e}");
        let text = |e: CriuError| match e {
            // Reading the stream writes the record: either may have failed.
            CriuError::PageStream(e) if is_disk(&e) => disk(e),
            other => other.to_string(),
        };
        let broke = |e: io::Error| if is_disk(&e) { disk(e) } else { format!("the page stream: {e}") };
        let file = steps.run(FaultPoint::OpenParked, || self.open().map_err(disk))?;
        let mut data = DataStream::new(&self.stream);
        steps.run(FaultPoint::SayReady, || data.say_ready().map_err(broke))?;
        let mut record = Recorder::new(data, file, &self.place.part);
        let admitted = self.stage.admitted.0;
        let memory = steps.run(FaultPoint::ReceivePages, || record.pages(admitted).map_err(text))?;
        let manifest: Manifest =
            steps.run(FaultPoint::ReceiveManifest, || receive_manifest(&mut record).map_err(broke))?;
        steps.run(FaultPoint::ReceiveImages, || record.images().map_err(text))?;
        if manifest.private_tmp {
            skip(&mut record, self.stage.admitted).map_err(broke)?;
        }
        let seal = steps.run(FaultPoint::SealParked, || {
            let seal = record.seal().map_err(disk)?;
            self.name_it().map_err(disk)?;
            Ok(seal)
        })?;
        let (size, sha256) = (seal.size, seal.sha256);
        Ok(ParkedCopy { size, sha256, memory: Bytes(memory), files: manifest.files, signals: Vec::new() })
    }

    fn open(&self) -> io::Result<File> {
        self.place.make_dir()?;
        let _ = std::fs::remove_file(&self.place.part);
        File::options().write(true).create_new(true).mode(0o600).open(&self.place.part)
    }

    /// The whole copy gets its name, durably.
    fn name_it(&self) -> io::Result<()> {
        std::fs::rename(&self.place.part, &self.place.file)?;
        File::open(&self.place.dir)?.sync_all()
    }
}

fn is_disk(e: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(e.kind(), StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem)
}
