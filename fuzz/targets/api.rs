//! The API's socket: any bytes, on a head that knows three nodes and has no agent. Whoever asks gets an answer or is
//! hung up on; the head goes on.
#![no_main]

use grid_fuzz::scratch;
use grid_head::{Head, HeadConfig, serve};
use grid_types::{Bytes, MilliCpu, Resources};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::LocalSet;

/// A head lives for so many requests, so that its journal stays short.
const REQUESTS: u32 = 500;

struct Daemon {
    runtime: tokio::runtime::Runtime,
    local: LocalSet,
    socket: PathBuf,
    served: u32,
    _dir: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let dir = scratch();
        let size = Resources { cpu: MilliCpu(4000), memory: Bytes(8 << 30), gpu: 0 };
        let config = grid_core::config::local(2, "head", size, size);
        let (state_dir, socket) = (dir.path().join("state"), dir.path().join("api.sock"));
        let agent = dir.path().join("agent.sock");
        let head =
            HeadConfig { config, state_dir, socket: socket.clone(), agent, embedded: true, stop: Default::default() };
        let local = LocalSet::new();
        let head = Head::open(head).expect("a new head");
        local.spawn_local(async move {
            if let Err(e) = serve(head).await {
                panic!("the head ended: {e}");
            }
        });
        Self { runtime, local, socket, served: 0, _dir: dir }
    }

    fn answer(&mut self, data: &[u8]) {
        let socket = self.socket.clone();
        self.local.block_on(&self.runtime, async move {
            while !socket.exists() {
                tokio::task::yield_now().await;
            }
            let mut stream = UnixStream::connect(&socket).await.expect("the head listens");
            let talk = async {
                let _ = stream.write_all(data).await;
                let _ = stream.shutdown().await;
                let mut said = Vec::new();
                let _ = stream.take(1 << 20).read_to_end(&mut said).await;
            };
            // Whoever follows the journal, or waits for an agent that never comes, hangs up after a while.
            let _ = tokio::time::timeout(Duration::from_millis(50), talk).await;
        });
        self.served += 1;
    }
}

thread_local! {
    // Never dropped with the thread: by then the runtime's own thread locals are gone.
    static DAEMON: RefCell<Option<ManuallyDrop<Daemon>>> = const { RefCell::new(None) };
}

fuzz_target!(init: {
    // As in a program with a `main` of Rust's: a reader who hung up is an error of the write, and no end.
    // SAFETY: before any thread is started.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}, |data: &[u8]| {
    DAEMON.with_borrow_mut(|daemon| {
        if daemon.as_ref().is_some_and(|d| d.served >= REQUESTS) {
            drop(daemon.take().map(ManuallyDrop::into_inner));
        }
        daemon.get_or_insert_with(|| ManuallyDrop::new(Daemon::start())).answer(data);
    });
});
