//! The daemon's link to the head's agent, through which every node's agent is reached.

use crate::head::Head;
use grid_engine::Agents;
use grid_os::frames::{Heard, LinkError, read_frame, read_heard, write_frame};
use grid_types::NodeName;
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{Answer, Body, Frame, Hello, MAX_FRAME, PROTOCOL, Party, Refusal, Request, Welcome};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

/// An agent that does not answer a request within this counts as silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// By the request's number: who was asked, and who waits.
type Waiting = HashMap<u64, (NodeName, oneshot::Sender<Result<Answer, Refusal>>)>;

/// Requests to agents, and their answers.
#[derive(Clone, Default)]
pub(crate) struct Hub(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    link: Option<mpsc::UnboundedSender<Frame>>,
    waiting: Waiting,
    next: u64,
}

/// An agent that was just restarted is waited for this long before it counts as silent.
const BACK_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Agents for Hub {
    async fn ask(&self, node: &NodeName, request: Request) -> Result<Answer, Reason> {
        let deadline = tokio::time::Instant::now() + BACK_WITHIN;
        loop {
            match self.ask_once(node, request.clone()).await {
                // It was not delivered, so it can be sent again; an agent comes back within a second.
                Err(Undone::Undelivered(_)) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(Undone::Undelivered(reason) | Undone::Refused(reason)) => return Err(reason),
                Ok(answer) => return Ok(answer),
            }
        }
    }
}

/// Why a request has no answer.
enum Undone {
    /// It reached nobody.
    Undelivered(Reason),
    /// It was refused, or its answer never came.
    Refused(Reason),
}

impl Hub {
    async fn ask_once(&self, node: &NodeName, request: Request) -> Result<Answer, Undone> {
        let silent = |why: &str| Reason::new(ReasonCode::Silent, format!("{node}: {why}"));
        // It may have been heeded: whoever asked must not take it for a refusal.
        let unknown = |why: &str| Undone::Refused(Reason::new(ReasonCode::Link, format!("{node}: {why}")));
        let (tx, rx) = oneshot::channel();
        let id = {
            let mut inner = self.0.borrow_mut();
            inner.next += 1;
            let id = inner.next;
            let body = Body::Request { id, request: Box::new(request) };
            let frame = Frame { from: Party::Daemon, to: Party::Agent(node.clone()), body };
            let sent = inner.link.as_ref().is_some_and(|link| link.send(frame).is_ok());
            if !sent {
                return Err(Undone::Undelivered(silent("the head's agent does not answer")));
            }
            inner.waiting.insert(id, (node.clone(), tx));
            id
        };
        match tokio::time::timeout(ANSWER_WITHIN, rx).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            // The hub's own word that there is no link.
            Ok(Ok(Err(refusal))) if refusal.reason.code == ReasonCode::Silent => {
                Err(Undone::Undelivered(refusal.reason))
            }
            Ok(Ok(Err(refusal))) => Err(Undone::Refused(refusal.reason)),
            Ok(Err(_)) => Err(unknown("the link broke before the answer")),
            Err(_) => {
                self.0.borrow_mut().waiting.remove(&id);
                Err(unknown("no answer within 15 s"))
            }
        }
    }
}

impl Hub {
    fn up(&self, link: mpsc::UnboundedSender<Frame>) {
        self.0.borrow_mut().link = Some(link);
    }

    fn down(&self) {
        let mut inner = self.0.borrow_mut();
        inner.link = None;
        // Dropping the senders tells everyone who waits.
        inner.waiting.clear();
    }

    /// Who was asked answers; the head's own agent also says of others that it does not reach them. Anybody else's answer is
    /// none: the numbers of requests can be guessed.
    fn answered(&self, from: &NodeName, own: &NodeName, id: u64, result: Result<Answer, Refusal>) {
        let mut inner = self.0.borrow_mut();
        let asked = |(node, _): &(NodeName, _)| node == from || own == from;
        if !inner.waiting.get(&id).is_some_and(asked) {
            return;
        }
        if let Some((_, waiting)) = inner.waiting.remove(&id) {
            let _ = waiting.send(result);
        }
    }
}

/// Keeps the link for ever: connects, greets, hands notices to the head in their order, and connects again.
pub(crate) async fn keep_link(head: Head, socket: std::path::PathBuf) {
    loop {
        if let Ok(stream) = greet(&socket).await {
            run_link(&head, stream).await;
            head.hub().down();
            head.hub_lost();
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn greet(socket: &Path) -> Result<UnixStream, String> {
    let mut stream = UnixStream::connect(socket).await.map_err(|e| e.to_string())?;
    let text = |e: LinkError| e.to_string();
    write_frame(&mut stream, &Hello::Daemon { protocol: PROTOCOL }, "agent").await.map_err(text)?;
    match read_frame::<Welcome>(&mut stream, "agent").await.map_err(text)? {
        Welcome::Ok { .. } => Ok(stream),
        Welcome::Refused { detail } => Err(detail),
    }
}

async fn run_link(head: &Head, stream: UnixStream) {
    let (mut rx, mut tx) = stream.into_split();
    let (outbox, mut outgoing) = mpsc::unbounded_channel::<Frame>();
    head.hub().up(outbox);
    let writer = async {
        while let Some(frame) = outgoing.recv().await {
            if write_frame(&mut tx, &frame, "agent").await.is_err() {
                break;
            }
        }
    };
    let reader = async {
        head.hub_found();
        while let Ok(heard) = read_heard(&mut rx, MAX_FRAME, "agent").await {
            // What an agent of another version says besides what this one knows is nothing that somebody waits for.
            let Heard::Frame(frame) = heard else { continue };
            let Party::Agent(from) = frame.from else { continue };
            match frame.body {
                Body::Response { id, result } => {
                    head.hub().answered(&from, &head.head_name(), id, result.map(|a| *a));
                }
                Body::Notice { notice } => head.heed(&from, *notice),
                _ => {}
            }
        }
    };
    tokio::select! { () = writer => {}, () = reader => {} }
}
