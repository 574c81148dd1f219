//! The far ends of a tree's streams on the node where it lives: made before the tree is restored, held by the tree's
//! pid 1, and joined with the shadow at home once the tree may run.
//!
//! Owns the making of pipes and the dialling. Never reads or writes a stream: that is pid 1's
//! (`grid_shadow::far`).

use crate::agent::{Agent, Input};
use crate::data::Dial;
use crate::link::tracing_line;
use crate::shadow::StreamLink;
use crate::tree::TreePlace;
use grid_os::spawn::Owner;
use grid_shadow::control::{Control, FromFar, Listener, ToFar};
use grid_shadow::far;
use grid_types::AttemptId;
use grid_types::streams::{ShadowTerms, Stream, StreamKind};
use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, fchown, pipe2};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Numbers under which pid 1 finds its control socket, and the first of its ends.
const CONTROL: i32 = 5;
const FIRST_END: i32 = 6;
/// A far end that is asked to pause answers within this.
const PAUSE_WITHIN: Duration = Duration::from_secs(2);

/// Both ends of every stream of one tree, until pid 1 and the restored tree have theirs.
pub(crate) struct Ends {
    control: Listener,
    far: Vec<OwnedFd>,
    tree: Vec<(String, OwnedFd)>,
    /// The streams under the names that their ends have here.
    pub(crate) here: Vec<Stream>,
}

/// Pid 1's control socket.
pub(crate) fn control_path(place: &TreePlace) -> PathBuf {
    place.dir.0.join("control.sock")
}

impl Ends {
    /// Makes them, and writes down for pid 1 what they are.
    pub(crate) fn make(place: &TreePlace, terms: &ShadowTerms, owner: Owner) -> io::Result<Self> {
        std::fs::create_dir_all(&place.dir.0)?;
        let mut ends = Self {
            control: Listener::bind(&control_path(place), 0o600)?,
            far: Vec::new(),
            tree: Vec::new(),
            here: Vec::new(),
        };
        let mut config = far::Config { shadow: terms.shadow.clone(), generation: terms.generation, streams: Vec::new() };
        for (stream, fd) in terms.streams.iter().zip(FIRST_END..) {
            let (tree, far) = pair(stream.kind)?;
            // CRIU, as the owner, opens it anew by its number.
            for end in [&tree, &far] {
                fchown(end, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
            }
            ends.here.push(Stream { name: name_of(tree.as_fd())?, ..stream.clone() });
            ends.tree.push((stream.name.clone(), tree));
            ends.far.push(far);
            config.streams.push(far::FarStream { id: stream.id, kind: stream.kind, fd });
        }
        std::fs::write(far::config_file(&place.dir.0), serde_json::to_vec(&config)?)?;
        Ok(ends)
    }

    /// What pid 1 inherits.
    pub(crate) fn inherited(&self) -> Vec<(BorrowedFd<'_>, i32)> {
        let ends = self.far.iter().map(AsFd::as_fd).zip(FIRST_END..);
        std::iter::once((self.control.as_fd(), CONTROL)).chain(ends).collect()
    }

    /// Pid 1 has its ends: nobody else holds them, so that their ends of file are seen.
    pub(crate) fn given_to_init(&mut self) {
        self.far.clear();
    }

    /// What the restored tree gets in place of what its images name.
    pub(crate) fn given_to_tree(&self) -> Vec<(String, BorrowedFd<'_>)> {
        self.tree.iter().map(|(name, end)| (name.clone(), end.as_fd())).collect()
    }
}

/// The tree's end, and pid 1's.
fn pair(kind: StreamKind) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reads, writes) = pipe2(OFlag::O_CLOEXEC)?;
    match kind {
        StreamKind::PipeIn => Ok((reads, writes)),
        StreamKind::PipeOut => Ok((writes, reads)),
        StreamKind::Tty | StreamKind::Listener { .. } => Err(io::Error::other("a stream of a kind that is not made yet")),
    }
}

fn name_of(end: BorrowedFd<'_>) -> io::Result<String> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", end.as_raw_fd()))?;
    Ok(link.to_string_lossy().into_owned())
}

/// The far end delivers nothing more and says where everything stands, as text for the next one.
pub(crate) fn pause(control: &Path) -> Result<String, String> {
    let ask = || -> io::Result<Option<String>> {
        let control = Control::connect(control)?;
        control.set_patience(PAUSE_WITHIN)?;
        control.send(&ToFar::Pause)?;
        while let Some(word) = control.receive::<FromFar>()? {
            if let FromFar::Snapshot { snapshot } = word {
                return Ok(Some(serde_json::to_string(&snapshot)?));
            }
        }
        Ok(None)
    };
    match ask() {
        Ok(Some(snapshot)) => Ok(snapshot),
        Ok(None) => Err("the far end of its streams went away".to_owned()),
        Err(e) => Err(format!("the far end of its streams: {e}")),
    }
}

/// Says one word to the far end of a tree; one that is gone needs none.
pub(crate) fn tell(control: &Path, word: &ToFar) {
    if let Ok(control) = Control::connect(control) {
        let _ = control.send(word);
    }
}

/// Keeps the far end of a tree joined with its shadow until it is gone: dials for it, and again whenever it says so.
struct Joiner {
    attempt: AttemptId,
    terms: ShadowTerms,
    control: PathBuf,
    dial: Option<Dial>,
    node: grid_types::NodeName,
    inputs: tokio::sync::mpsc::UnboundedSender<Input>,
}

impl Joiner {
    fn run(&self) -> io::Result<()> {
        let control = Control::connect(&self.control)?;
        control.send(&ToFar::Activate)?;
        let mut pause = Duration::from_millis(20);
        while let Some(word) = control.receive::<FromFar>()? {
            if !matches!(word, FromFar::Down { .. }) {
                pause = Duration::from_millis(20);
                continue;
            }
            loop {
                match self.join() {
                    Ok(end) => break control.send_link(self.terms.generation, &end)?,
                    Err(_) => std::thread::sleep(pause),
                }
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            std::thread::sleep(pause.saturating_sub(Duration::from_millis(20)));
        }
        Ok(())
    }

    /// A connection whose other end the shadow gets.
    fn join(&self) -> io::Result<OwnedFd> {
        match &self.dial {
            Some(dial) => dial.streams(&self.attempt, &self.terms).map(OwnedFd::from),
            None => {
                let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
                let (attempt, from, shadow) = (self.attempt.clone(), self.node.clone(), self.terms.shadow.clone());
                let link = StreamLink { attempt, from, shadow, generation: self.terms.generation, end: theirs.into() };
                self.inputs.send(Input::StreamLink(link)).map_err(|_| io::Error::other("the agent ends"))?;
                Ok(ours.into())
            }
        }
    }
}

impl Agent {
    /// The tree of this attempt runs here: its streams are joined with its shadow, for as long as its pid 1 lives.
    pub(crate) fn join_streams(&mut self, attempt: &AttemptId) {
        let dial = Dial::of(&self.cfg);
        let (node, inputs) = (self.cfg.node.clone(), self.inputs.clone());
        let Some(incoming) = self.incoming.get_mut(attempt) else { return };
        let Some(terms) = incoming.record.stage.shadow.clone() else { return };
        if std::mem::replace(&mut incoming.joined, true) {
            return;
        }
        let control = control_path(incoming.tree().0);
        let joiner = Joiner { attempt: attempt.clone(), terms, control, dial, node, inputs };
        std::thread::spawn(move || {
            if let Err(e) = joiner.run() {
                tracing_line(&format!("the streams of {}: {e}", joiner.attempt));
            }
        });
    }
}
