//! Pump and server for this crate's tests, as the `grid` binary runs them.

use grid_home::pump::Pump;
use grid_home::serve::Home;
use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|w| w.parse().ok()).unwrap_or(0);
    let word = |at: usize| words.get(at).cloned().unwrap_or_default();
    let (dir, attempt) = (PathBuf::from(word(1)), word(2));
    // What is mounted elsewhere meanwhile is neither's.
    let flags = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?;
    match word(0).as_str() {
        "pump" => {
            // What is another file on the worker than at home.
            nix::mount::mount(
                Some("hidden"),
                word(5).as_str(),
                Some("tmpfs"),
                nix::mount::MsFlags::empty(),
                None::<&str>,
            )?;
            Pump {
                dir,
                attempt,
                uid: number(3),
                gid: number(4),
                groups: Vec::new(),
                private_tmp: false,
                patience: None,
                own: Vec::new(),
            }
            .run()
        }
        _ => {
            let most_watched = number(5) as usize;
            Home { dir, attempt, uid: number(3), gid: number(4), groups: Vec::new(), most_watched }.run()
        }
    }
}
