//! How a connection that broke is made again: at once where it had lasted, else less and less often.

use std::io;
use std::time::{Duration, Instant};

/// Between two tries.
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(1);

/// The pace of one connection's tries.
pub(crate) struct Redial {
    pause: Duration,
    joined_at: Option<Instant>,
}

impl Redial {
    pub(crate) fn new() -> Self {
        Self { pause: SHORTEST, joined_at: None }
    }

    /// Tries until it succeeds, or fails while nobody wants it any more.
    pub(crate) fn join<T>(&mut self, dial: impl Fn() -> io::Result<T>, wanted: impl Fn() -> bool) -> io::Result<T> {
        // One that lasted is replaced at once; who breaks off each time is tried less and less often.
        let lasted = self.joined_at.is_none_or(|at| at.elapsed() > LONGEST);
        self.pause = if lasted { SHORTEST } else { self.longer() };
        loop {
            std::thread::sleep(self.pause);
            match dial() {
                Ok(connection) => {
                    self.joined_at = Some(Instant::now());
                    return Ok(connection);
                }
                Err(e) if !wanted() => return Err(e),
                Err(_) => self.pause = self.longer(),
            }
        }
    }

    fn longer(&self) -> Duration {
        (self.pause * 2).min(LONGEST)
    }
}
