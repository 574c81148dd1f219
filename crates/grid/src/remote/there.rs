//! One command on a worker: how long it may take, and how much is kept of what it says. A login shell there that never ends,
//! or prints without end, is waited for no longer than that and takes no memory here.

use openssh::{Child, Error, Session, Stdio};
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// So much of each stream is kept: the last of it, where the answer and the error are.
const KEPT: usize = 64 << 10;
const PIECE: usize = 16 << 10;

/// What was said, or the end of it.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    /// Of all that was said.
    len: u64,
}

impl Tail {
    /// Reads to the end, and keeps the last of it.
    async fn read(&mut self, from: Option<impl AsyncRead + Unpin>) -> std::io::Result<()> {
        let Some(mut from) = from else { return Ok(()) };
        let mut piece = vec![0; PIECE];
        loop {
            let some = from.read(&mut piece).await?;
            if some == 0 {
                return Ok(());
            }
            self.bytes.extend_from_slice(&piece[..some]);
            self.len += some as u64;
            let more = self.bytes.len().saturating_sub(KEPT);
            self.bytes.drain(..more);
        }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The last line that says something.
    pub(super) fn last(&self) -> Option<String> {
        let text = self.text();
        let last = text.lines().rev().find(|line| !line.trim().is_empty())?;
        Some(last.chars().take(200).collect())
    }

    /// What is to be said of it where not all was kept.
    pub(super) fn cut(&self) -> Option<String> {
        let cut = self.len > self.bytes.len() as u64;
        cut.then(|| format!("of {} KiB that it printed the last {} were read", self.len >> 10, KEPT >> 10))
    }
}

/// How it ended; nothing where it did not in time.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) status: Option<ExitStatus>,
    pub(super) out: Tail,
    pub(super) err: Tail,
}

/// Runs it there by the user's shell's `sh`. One that takes too long is let go: what hangs there may go on there.
pub(super) async fn run(session: &Session, script: &str, input: Option<&[u8]>, within: Duration) -> Result<Ran, Error> {
    let mut command = session.shell(script);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().await?;
    let mut ran = Ran::default();
    let ended = timeout(within, talk(child, input, &mut ran)).await;
    ran.status = ended.ok().transpose()?;
    Ok(ran)
}

async fn talk(mut child: Child<&Session>, input: Option<&[u8]>, ran: &mut Ran) -> Result<ExitStatus, Error> {
    let (stdin, stdout, stderr) = (child.stdin().take(), child.stdout().take(), child.stderr().take());
    let feed = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // Where it ends early, what it says is the better error.
            let _ = stdin.write_all(input).await;
            let _ = stdin.shutdown().await;
        }
    };
    // At the same time: one that prints before it reads would wait for its reader.
    let ((), out, err) = tokio::join!(feed, ran.out.read(stdout), ran.err.read(stderr));
    out.and(err).map_err(Error::ChildIo)?;
    child.wait().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_much_the_last_is_kept() {
        let mut tail = Tail::default();
        let text = (0..200_000).map(|n| format!("line {n}\n")).collect::<String>() + "\n";
        tail.read(Some(text.as_bytes())).await.unwrap();
        assert!(
            tail.bytes.len() == KEPT && tail.bytes.capacity() <= 2 * (KEPT + PIECE) && text.ends_with(&tail.text())
        );
        assert_eq!(tail.last().unwrap(), "line 199999");
        assert_eq!(tail.cut().unwrap(), format!("of {} KiB that it printed the last 64 were read", text.len() >> 10));
        let mut tail = Tail::default();
        tail.read(Some(&b"all of it"[..])).await.unwrap();
        assert!(tail.text() == "all of it" && tail.cut().is_none());
    }
}
