//! The API: HTTP and JSON over a Unix socket whose kernel names the peer.

use crate::head::{Head, HeadConfig, HeadError, fault, unknown};
use crate::hub::keep_link;
use crate::privacy::{Asker, Reader, not_allowed, others};
use crate::scan::{Only, count_stays};
use bytes::Bytes;
use grid_os::peer::Peer;
use grid_types::api::{
    API_VERSION, ApiError, AutoAsk, BoostAsk, DryRun, ExplainReply, ExtendAsk, KeepAsk, OffloadAsk, ParkAsk, RecallAsk,
    ReclaimReply, ReleaseAsk, Reply, ResolveAsk, ScanReply, UnparkAsk,
};
use grid_types::event::{Actor, Event};
use grid_types::exit::FaultClass;
use grid_types::plan::Trigger;
use grid_types::{Millis, Resources};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener as StdListener;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

/// No request is longer.
const MAX_BODY: usize = 1 << 20;

/// Runs the daemon until its process is ended, on the socket that was handed over, or else on its own. Must run on a
/// `LocalSet`.
pub async fn run(cfg: HeadConfig, handed_over: Option<StdListener>) -> Result<(), HeadError> {
    let path = cfg.socket.clone();
    let head = Head::open(cfg)?;
    let io = |source| HeadError::Io { action: "listen on", path, source };
    match handed_over {
        Some(socket) => serve_on(head, UnixListener::from_std(socket).map_err(io)?).await,
        None => serve(head).await,
    }
}

/// The listening Unix socket that whoever started this program handed over as its standard input, where it is one.
pub fn handed_over(stdin: impl AsFd) -> std::io::Result<Option<StdListener>> {
    use nix::sys::socket::{getsockopt, sockopt::AcceptConn};
    if !getsockopt(&stdin.as_fd(), AcceptConn).unwrap_or(false) {
        return Ok(None);
    }
    let socket = StdListener::from(stdin.as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    Ok(Some(socket))
}

/// Runs a head that was opened before, with the hooks that were added to it, on its own socket. Must run on a
/// `LocalSet`.
pub async fn serve(head: Head) -> Result<(), HeadError> {
    let socket = head.inner.borrow().cfg.socket.clone();
    let listener = bind(&socket)?;
    serve_on(head, listener).await
}

async fn serve_on(head: Head, listener: UnixListener) -> Result<(), HeadError> {
    let (agent, group) = {
        let inner = head.inner.borrow();
        (inner.cfg.agent.clone(), inner.cfg.config.policy.users.boost_group.clone())
    };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    head.note(Event::DaemonStarted { version });
    tokio::task::spawn_local(keep_link(head.clone(), agent));
    tokio::task::spawn_local(head.clone().keep_deadlines());
    tokio::task::spawn_local(head.clone().keep_watch());
    tokio::task::spawn_local(head.clone().keep_stops());
    tokio::task::spawn_local(head.clone().keep_asking());
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let Ok(peer) = Peer::of(&stream) else { continue };
        let (head, asker, tty) = (head.clone(), Asker::of(&peer, &group), peer.terminal());
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let (head, tty) = (head.clone(), tty.clone());
                async move { Ok::<_, Infallible>(answer(head, asker, tty, request).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Anybody may connect: what each may see and do is decided by what the kernel says of the peer.
fn bind(socket: &std::path::Path) -> Result<UnixListener, HeadError> {
    let io = |action| move |source| HeadError::Io { action, path: socket.to_owned(), source };
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).map_err(io("listen on"))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(socket, mode).map_err(io("open to users"))?;
    Ok(listener)
}

/// A body that is one text, or lines as they come.
enum Body {
    Whole(Full<Bytes>),
    Lines(mpsc::Receiver<Bytes>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Body::Whole(full) => Pin::new(full).poll_frame(cx),
            Body::Lines(rx) => rx.poll_recv(cx).map(|line| line.map(|l| Ok(Frame::data(l)))),
        }
    }
}

async fn answer(head: Head, asker: Asker, tty: Option<String>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    if path == "/v1/events" {
        return events(&head, &query, asker.reader());
    }
    let call = Call { head, uid: asker.uid, asker, method: request.method().clone(), query, tty, body: Bytes::new() };
    let body = match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return respond(&Err::<(), _>(fault(FaultClass::Usage, "the request is too long"))),
    };
    let call = Call { body, ..call };
    let parts: Vec<&str> = path.trim_matches('/').split('/').skip(1).collect();
    call.dispatch(&parts).await
}

struct Call {
    head: Head,
    uid: u32,
    asker: Asker,
    method: Method,
    query: String,
    tty: Option<String>,
    body: Bytes,
}

impl Call {
    async fn dispatch(&self, parts: &[&str]) -> Response<Body> {
        let get = self.method == Method::GET;
        let h = &self.head;
        match parts {
            ["status"] if get => respond(&Ok(h.status(self.asker.reader()))),
            ["metrics"] if get => text(h.inner.borrow().state.metrics.prometheus()),
            ["nodes"] if get => respond(&Ok(h.node_views())),
            ["nodes"] => {
                respond(&self.may_administer("add a node").and_then(|()| self.parsed()).and_then(|ask| h.add_node(ask)))
            }
            ["between", nodes @ ..] if get => respond(&match crate::machines::pair(nodes) {
                Ok((here, there)) => h.between(here, there, self.uid).await,
                Err(e) => Err(e),
            }),
            ["nodes", node, verb] if !get => self.node(node, verb).await,
            ["boosts", ..] => self.boosts(&parts[1..], get).await,
            ["offloads", ..] => self.offloads(&parts[1..], get).await,
            ["parks"] if !get => respond(&match self.parsed::<ParkAsk>() {
                Ok(ask) => h.park(ask, self.uid, self.actor()).await,
                Err(e) => Err(e),
            }),
            ["plans", ..] => self.plans(&parts[1..], get).await,
            ["scan"] if get => respond(&self.scan().await),
            ["explain", pid] if get => respond(&self.explain(pid).await),
            ["auto"] => respond(&self.auto()),
            ["keeps"] => self.keeps(get).await,
            ["stop"] if !get => respond(&self.stop()),
            _ => respond(&Err::<(), _>(fault(FaultClass::NotFound, "no such call"))),
        }
    }

    fn actor(&self) -> Actor {
        Actor::User { uid: self.uid, name: grid_os::users::name_of(self.uid), tty: self.tty.clone() }
    }

    fn parsed<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        let text = if self.body.is_empty() { b"{}".as_slice() } else { &self.body };
        serde_json::from_slice(text)
            .map_err(|e| fault(FaultClass::Usage, format!("the request is not understood: {e}")))
    }

    /// Policy is for root.
    fn may_administer(&self, what: &str) -> Result<(), ApiError> {
        if self.uid == 0 { Ok(()) } else { Err(not_allowed("root", what, "run it with sudo")) }
    }

    /// Capacity is for root and for members of a group.
    fn may_boost(&self, what: &str) -> Result<(), ApiError> {
        if self.asker.may_boost {
            return Ok(());
        }
        let group = self.head.inner.borrow().cfg.config.policy.users.boost_group.clone();
        let who = format!("root and the group {group}");
        Err(not_allowed(&who, what, &format!("run it with sudo, or ask root to add you to the group {group}")))
    }

    async fn node(&self, node: &str, verb: &str) -> Response<Body> {
        let (h, root) = (&self.head, self.may_administer("take a node out of use"));
        match verb {
            "cordon" | "uncordon" => respond(
                &root.and_then(|()| h.cordon(node, verb == "cordon", self.parsed::<DryRun>()?.dry_run, &self.actor())),
            ),
            "drain" => respond(&match root.and_then(|()| self.parsed()) {
                Ok(ask) => h.drain(node, ask, self.actor()).await,
                Err(e) => Err(e),
            }),
            "leave" => respond(&match root.and_then(|()| self.parsed()) {
                Ok(ask) => h.leave_node(node, &ask).await,
                Err(e) => Err(e),
            }),
            "gone" => respond(&root.and_then(|()| self.parsed()).and_then(|ask| h.drop_node(node, ask))),
            _ => respond(&Err::<(), _>(fault(FaultClass::NotFound, "no such call"))),
        }
    }

    async fn plans(&self, parts: &[&str], get: bool) -> Response<Body> {
        let (h, reader) = (&self.head, self.asker.reader());
        let made = |id: &str| {
            let id = h.plan_id(id, reader)?;
            let plan = h.inner.borrow().state.plan(&id).cloned();
            plan.ok_or_else(|| unknown(format!("no plan {id}"), "grid plan list"))
        };
        match parts {
            [] if get => {
                let plans = h.inner.borrow().state.plans.clone();
                let own = plans.into_iter().filter(|p| reader.sees_plan(p)).map(|p| reader.plan(p));
                respond(&Ok(own.collect::<Vec<_>>()))
            }
            [id] if get => respond(&made(id).and_then(|p| match reader.sees_plan(&p) || p.steps.is_empty() {
                true => Ok(Some(reader.plan(p))),
                false => Err(others(&format!("plan {}", p.id))),
            })),
            [id, "apply"] => respond(&self.apply(id).await),
            _ => respond(&Err::<(), _>(fault(FaultClass::NotFound, "no such call"))),
        }
    }

    async fn apply(&self, id: &str) -> Result<Vec<grid_types::api::OffloadView>, ApiError> {
        let id = self.head.plan_id(id, self.asker.reader())?;
        let dry_run = self.parsed::<DryRun>()?.dry_run;
        self.head.apply_plan(&id, self.uid, self.actor(), dry_run).await
    }

    async fn keeps(&self, get: bool) -> Response<Body> {
        if get {
            return respond(&self.head.keeps(self.asker.reader()).await);
        }
        respond(&match self.parsed::<KeepAsk>() {
            Ok(ask) => self.head.keep(ask, self.uid, &self.actor()).await,
            Err(e) => Err(e),
        })
    }

    /// The file is the order, and its folder said who may give it; here it is noted who it was.
    fn stop(&self) -> Result<grid_types::api::StopNoted, ApiError> {
        self.may_boost("stop grid")?;
        self.head.note_stop(Some(&self.actor()))?;
        Ok(grid_types::api::StopNoted { stopped: self.head.stop_view() })
    }

    async fn boosts(&self, parts: &[&str], get: bool) -> Response<Body> {
        let (h, reader) = (&self.head, self.asker.reader());
        match parts {
            [] if get => respond(&Ok(h.boost_views().into_iter().map(|b| reader.boost(b)).collect::<Vec<_>>())),
            [] => respond(&self.request_boost().await),
            [id] if get => respond(&h.boost_id(id).and_then(|id| h.boost(&id)).map(|b| reader.boost(h.view_of(&b)))),
            [id, "reclaim"] => respond(&self.reclaim(id).await),
            [id, verb] => {
                let done = async {
                    self.may_boost("change boosts")?;
                    let id = h.boost_id(id)?;
                    match *verb {
                        "extend" => h.boost_extend(&id, self.parsed::<ExtendAsk>()?, self.actor()).await,
                        "release" => h.boost_release(&id, self.parsed::<ReleaseAsk>()?, self.actor()).await,
                        _ => Err(fault(FaultClass::NotFound, "no such call")),
                    }
                };
                respond(&done.await.map(|view| reader.boost(view)))
            }
            _ => respond(&Err::<(), _>(fault(FaultClass::NotFound, "no such call"))),
        }
    }

    async fn reclaim(&self, id: &str) -> Result<ReclaimReply, ApiError> {
        self.may_boost("take boosts back")?;
        let id = self.head.boost_id(id)?;
        let reply = self.head.boost_reclaim(&id, self.parsed()?, self.actor()).await?;
        Ok(ReclaimReply { boost: self.asker.reader().boost(reply.boost), ..reply })
    }

    async fn request_boost(&self) -> Result<grid_types::api::BoostReply, ApiError> {
        self.may_boost("request boosts")?;
        self.head.boost_request(self.parsed::<BoostAsk>()?, self.actor()).await
    }

    async fn offloads(&self, parts: &[&str], get: bool) -> Response<Body> {
        let h = &self.head;
        match parts {
            [] if get => respond(&Ok(self.asker.reader().offloads(h.offload_views()))),
            [] => respond(&match self.parsed::<OffloadAsk>() {
                Ok(ask) => h.offload(ask, self.uid, self.actor()).await,
                Err(e) => Err(e),
            }),
            [id] if get => {
                let id = match h.offload_id(id, self.asker.reader()) {
                    Ok(id) => id,
                    Err(e) => return respond(&Err::<(), _>(e)),
                };
                let owner = h.offload_record(&id).map_or(0, |o| o.uid);
                if !self.asker.reader().sees(owner) {
                    return respond(&Err::<(), _>(others(id.as_str())));
                }
                if self.query.contains("settled") {
                    let _ = h.settled(&id).await;
                }
                respond(&h.offload_view(&id))
            }
            [id, verb] => respond(&self.change_offload(id, verb).await),
            _ => respond(&Err::<(), _>(fault(FaultClass::NotFound, "no such call"))),
        }
    }

    async fn change_offload(&self, id: &str, verb: &str) -> Result<grid_types::api::OffloadView, ApiError> {
        let h = &self.head;
        let id = h.offload_id(id, self.asker.reader())?;
        if !self.asker.reader().sees(h.offload_record(&id)?.uid) {
            return Err(others(id.as_str()));
        }
        match verb {
            "cancel" => h.cancel(&id, self.actor(), self.parsed::<DryRun>()?.dry_run).await?,
            "recall" => {
                let RecallAsk { to, close_tcp, dry_run } = self.parsed()?;
                let to = h.recall_to(&id, to.as_deref())?;
                if dry_run {
                    let (record, _) = h.way(&id, &to).await?;
                    return Ok(h.would_go(record, &to));
                }
                h.recall(&id, &to, self.actor(), close_tcp).await?;
            }
            "unpark" => {
                let UnparkAsk { to, private_tmp, dry_run } = self.parsed()?;
                let to = h.unpark_to(&id, to.as_deref())?;
                if dry_run {
                    let (record, _) = h.way_from_disk(&id, &to)?;
                    return Ok(h.would_go(record, &to));
                }
                h.unpark(&id, &to, self.actor(), private_tmp).await?;
            }
            "resolve" => h.resolve(&id, self.parsed::<ResolveAsk>()?, self.actor()).await?,
            _ => return Err(fault(FaultClass::NotFound, "no such call")),
        }
        h.offload_view(&id)
    }

    async fn scan(&self) -> Result<ScanReply, ApiError> {
        let h = &self.head;
        let seen = h.look(Some(self.uid), self.query.contains("closer")).await?;
        let plan = h.plan_for(Trigger::Scan, &seen.verdicts, &Only::default(), Some(self.uid), None);
        h.record(&self.actor(), Event::PlanMade { plan: plan.clone() })?;
        let stays = count_stays(&seen);
        let mut verdicts = [seen.verdicts, seen.closer].concat();
        verdicts.sort_by_key(|v| (!v.is_candidate(), std::cmp::Reverse(v.used.memory)));
        Ok(ScanReply { scanned: seen.scanned, plan, verdicts, stays })
    }

    async fn explain(&self, pid: &str) -> Result<ExplainReply, ApiError> {
        let h = &self.head;
        let pid: i32 = pid.parse().map_err(|_| fault(FaultClass::Usage, format!("{pid:?} is not a process number")))?;
        let reader = self.asker.reader();
        let offload = h.offload_id(&pid.to_string(), reader).ok().and_then(|id| h.offload_view(&id).ok());
        let offload = offload.filter(|o| reader.sees(o.record.uid));
        let start = std::time::Instant::now();
        let verdict = h.look_at(pid, Some(self.uid), false).await?;
        if !reader.sees(verdict.uid) {
            return Err(others(&format!("process {pid}")));
        }
        let plan =
            h.plan_for(Trigger::Named { pid }, std::slice::from_ref(&verdict), &Only::default(), Some(self.uid), None);
        let age = Millis(start.elapsed().as_millis() as u64);
        let fits = h.node_views().iter().filter(|n| !n.head).map(|n| fits_line(n, &verdict.used)).collect();
        Ok(ExplainReply { verdict, fits, plan, age, offload })
    }

    fn auto(&self) -> Result<grid_types::api::AutoView, ApiError> {
        if self.method == Method::POST {
            self.may_administer("switch auto-offload")?;
            let AutoAsk { mode, dry_run } = self.parsed()?;
            if dry_run {
                return Ok(grid_types::api::AutoView { mode, ..self.head.auto_view() });
            }
            self.head.record(&self.actor(), Event::AutoModeSet { mode })?;
        }
        Ok(self.head.auto_view())
    }
}

fn fits_line(node: &grid_types::api::NodeView, need: &Resources) -> String {
    match (&node.lendable, &node.why) {
        (Some(free), _) if need.fits_in(free) => format!("whole on {}: {free} lendable", node.node),
        (Some(free), _) => format!("not on {}: needs {need}, {free} lendable", node.node),
        (None, Some(why)) => format!("not on {}: {why}", node.node),
        (None, None) => format!("not on {}: nothing is known of it", node.node),
    }
}

/// The journal from a place on, as lines of JSON; with `follow` for as long as the reader listens.
fn events(head: &Head, query: &str, reader: Reader) -> Response<Body> {
    let value = |name: &str| query.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('=').map(str::to_owned));
    let mut after: u64 = value("after").and_then(|v| v.parse().ok()).unwrap_or(0);
    let follow = query.split('&').any(|p| p.starts_with("follow"));
    let (tx, rx) = mpsc::channel(64);
    let (head, mut live) = (head.clone(), head.events.subscribe());
    tokio::task::spawn_local(async move {
        loop {
            let batch = head.inner.borrow().journal.after(after, 200).unwrap_or_default();
            let read_all = batch.is_empty();
            for record in batch {
                after = record.seq;
                let Some(record) = reader.event(&head, record) else { continue };
                let mut line = serde_json::to_vec(&record).unwrap_or_default();
                line.push(b'\n');
                if tx.send(line.into()).await.is_err() {
                    return;
                }
            }
            if read_all
                && (!follow || live.recv().await.is_err_and(|e| e == tokio::sync::broadcast::error::RecvError::Closed))
            {
                return;
            }
        }
    });
    Response::new(Body::Lines(rx))
}

fn text(text: String) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Full::new(text.into())));
    let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert("content-type", kind);
    response
}

fn respond<T: Serialize>(result: &Result<T, ApiError>) -> Response<Body> {
    let reply = match result {
        Ok(ok) => Reply { version: API_VERSION, ok: Some(ok), error: None },
        Err(e) => Reply { version: API_VERSION, ok: None, error: Some(e.clone()) },
    };
    let status = match result {
        Ok(_) => 200,
        Err(e) => match e.class {
            FaultClass::NotFound => 404,
            FaultClass::Permission => 403,
            FaultClass::Usage => 400,
            FaultClass::Internal | FaultClass::State => 500,
            FaultClass::Unreachable => 503,
            _ => 409,
        },
    };
    let json = serde_json::to_vec(&reply).unwrap_or_default();
    let mut response = Response::new(Body::Whole(Full::new(json.into())));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    response
}
