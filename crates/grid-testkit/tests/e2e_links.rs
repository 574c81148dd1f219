//! Who knows no secret, or another's, or speaks in another's name, gets nothing from the head's agent; and a head that
//! asks a lender for what is the lender's own gets nothing either. The attacker here has a worker's own place on the
//! network and its token, and speaks the protocol by hand.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest};
use grid_testkit::procs;
use grid_types::api::NodeView;
use grid_types::event::{Event, OffloadPhase};
use grid_types::fault::{Effect, FaultPoint};
use grid_types::handover::ToSource;
use grid_types::policy::{AtEnd, Detector};
use grid_types::reason::{Reason, ReasonCode};
use grid_types::wire::{
    Answer, Body, FilesWord, Frame, Hello, LeaseTerms, MoveOrder, MoveReport, Notice, OLDEST, PROTOCOL, Party, Refusal,
    Request, Welcome,
};
use grid_types::{AttemptId, Bytes, LeaseId, MilliCpu, Millis, ProcId, Resources};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A connection to the head's agent.
struct Wire<S>(S);

impl Wire<UnixStream> {
    /// In the place of the head's daemon.
    fn as_daemon(cluster: &Cluster) -> Self {
        let stream = UnixStream::connect(cluster.state().join("agent.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut wire = Self(stream);
        wire.say(&Hello::Daemon { protocol: PROTOCOL });
        assert!(matches!(wire.hear().unwrap(), Welcome::Ok { .. }));
        wire
    }

    /// What gpu1 answers.
    fn ask(&mut self, request: Request) -> Result<Box<Answer>, Refusal> {
        let body = Body::Request { id: 77, request: Box::new(request) };
        self.say(&Frame { from: Party::Daemon, to: Party::Agent("gpu1".into()), body });
        self.answer()
    }

    fn answer(&mut self) -> Result<Box<Answer>, Refusal> {
        loop {
            let heard: Frame = self.hear().unwrap();
            if let Body::Response { id: 77, result } = heard.body {
                return result;
            }
        }
    }
}

impl Wire<TcpStream> {
    fn dial(cluster: &Cluster) -> Self {
        let hub: serde_json::Value = conf(cluster, "hub");
        let address = hub["role"]["Hub"]["listen"][0].as_str().unwrap().to_owned();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(stream)
    }
}

impl<S: Read + Write> Wire<S> {
    fn say(&mut self, what: &impl Serialize) {
        let json = serde_json::to_vec(what).unwrap();
        let _ = self.0.write_all(&(json.len() as u32).to_le_bytes());
        let _ = self.0.write_all(&json);
    }

    fn hear<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let mut len = [0u8; 4];
        self.0.read_exact(&mut len)?;
        let mut json = vec![0u8; u32::from_le_bytes(len) as usize];
        self.0.read_exact(&mut json)?;
        Ok(serde_json::from_slice(&json)?)
    }

    fn greet(&mut self, node: &str, token: &str) -> Welcome {
        self.greet_in(PROTOCOL, node, token)
    }

    fn greet_in(&mut self, protocol: u32, node: &str, token: &str) -> Welcome {
        self.say(&Hello::Agent { protocol, token: token.to_owned(), node: node.into(), boot_id: "b".into() });
        self.hear().unwrap()
    }

    /// The other end closed it, after whatever it still said.
    fn is_closed(&mut self) -> bool {
        loop {
            match self.hear::<serde_json::Value>() {
                Ok(_) => {}
                Err(e) => return matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset),
            }
        }
    }
}

fn conf(cluster: &Cluster, name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(cluster.state().join(format!("conf/{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn token(cluster: &Cluster, node: &str) -> String {
    conf(cluster, node)["role"]["Spoke"]["token"].as_str().unwrap().to_owned()
}

fn frame(from: Party, body: Body) -> Frame {
    Frame { from, to: Party::Agent("head".into()), body }
}

#[test]
fn who_knows_no_token_or_anothers_is_refused() {
    let Some(cluster) = Cluster::start(2) else { return };
    for (node, token) in [("gpu1", String::new()), ("gpu1", "0".repeat(64)), ("gpu1", token(&cluster, "gpu2"))] {
        let mut wire = Wire::dial(&cluster);
        let welcome = wire.greet(node, &token);
        assert!(matches!(welcome, Welcome::Refused { .. }), "{welcome:?}");
        assert!(wire.is_closed());
    }
    let mut wire = Wire::dial(&cluster);
    wire.say(&Hello::Daemon { protocol: PROTOCOL });
    assert!(matches!(wire.hear().unwrap(), Welcome::Refused { .. }), "the daemon does not come through the network");
    let mut old = Wire::dial(&cluster);
    let (of_gpu1, attempt) = (token(&cluster, "gpu1"), AttemptId::from("o-1.1"));
    old.say(&Hello::Data { protocol: OLDEST - 1, token: of_gpu1, attempt, ticket: String::new() });
    assert!(matches!(old.hear().unwrap(), Welcome::Refused { .. }));
    // What is no frame at all, and who says nothing, is not waited for.
    let mut noise = Wire::dial(&cluster);
    noise.0.write_all(&[0xff; 64]).unwrap();
    assert!(noise.is_closed());
    assert!(Wire::dial(&cluster).is_closed(), "silence");
}

#[test]
fn a_worker_speaks_for_itself_and_asks_for_nothing() {
    let Some(cluster) = Cluster::start(2) else { return };
    let own = || Party::Agent("gpu1".into());
    let ask = |request| Body::Request { id: 1, request: Box::new(request) };
    let ended = Notice::LeaseEnded { lease: LeaseId::from("b-1") };
    let bad = [
        frame(Party::Daemon, ask(Request::Processes)),
        frame(Party::Agent("gpu2".into()), Body::Notice { notice: Box::new(ended) }),
        frame(own(), ask(Request::Processes)),
        frame(own(), ask(Request::Holdings)),
    ];
    for frame in bad {
        // It takes the place of the real gpu1, which comes back when this link is closed.
        let mut wire = Wire::dial(&cluster);
        assert!(matches!(wire.greet("gpu1", &token(&cluster, "gpu1")), Welcome::Ok { .. }));
        wire.say(&frame);
        assert!(wire.is_closed(), "{frame:?}");
    }
}

/// Neither its requests, which can be guessed, nor what the journal says of others' work are a worker's to answer.
#[test]
fn a_worker_does_not_speak_of_others() {
    let Some(cluster) = Cluster::start(2) else { return };
    let boost = cluster.boost("--cpu 1 --memory 512MiB --duration 5m --from gpu1").boost;
    let guest = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 1000000");
    let away = cluster.move_out(guest.pid()).record;
    // The real one would come back, and its link takes the place of this one.
    cluster.set_asleep("gpu2", true);
    let mut wire = Wire::dial(&cluster);
    assert!(matches!(wire.greet("gpu2", &token(&cluster, "gpu2")), Welcome::Ok { .. }));
    let mut say = |to: Party, body: Body| wire.say(&Frame { from: Party::Agent("gpu2".into()), to, body });
    let (offload, attempt) = (away.id.clone(), away.attempt.clone());
    let reason = Reason::new(ReasonCode::Link, "forged");
    let told = [
        Notice::LeaseEnded { lease: boost.lease.clone() },
        Notice::Ended { attempt: attempt.clone(), offload: offload.clone(), status: None },
        Notice::Report { attempt, offload, report: MoveReport::DiedFrozen { signal: None } },
        Notice::Link { node: "gpu1".into(), up: false, protocol: None },
    ];
    for notice in told {
        say(Party::Daemon, Body::Notice { notice: Box::new(notice) });
    }
    cluster.wait("the head to see through it", || {
        let log = cluster.log("daemon");
        if log.matches("gpu2 tells of what is not its own").count() == 4 { Ok(()) } else { Err(log) }
    });
    assert_eq!(cluster.offloads()[0].record.phase, OffloadPhase::Away);
    assert!(cluster.status().unwrap().nodes.iter().all(|n| n.node.as_str() != "gpu1" || n.state == "ready"));
    // gpu1 is slow to answer, and somebody else does in its place.
    cluster.set_asleep("gpu1", true);
    let mut asked = cluster.begin(&["doctor", "--between", "head", "gpu1"]);
    for id in (0..2_000).chain(0..2_000) {
        let result = Err(Refusal { reason: reason.clone() });
        say(Party::Daemon, Body::Response { id, result });
    }
    say(Party::Daemon, Body::Notice { notice: Box::new(Notice::LeaseEnded { lease: boost.lease.clone() }) });
    cluster.wait("all of it to be heard", || {
        let log = cluster.log("daemon");
        if log.matches("gpu2 tells of what is not its own").count() == 5 { Ok(()) } else { Err(log) }
    });
    assert!(asked.try_wait().unwrap().is_none(), "it took that for an answer");
    cluster.set_asleep("gpu1", false);
    assert!(asked.wait().unwrap().success());
    guest.goes_on();
    cluster.set_asleep("gpu2", false);
}

/// A worker that was away while its head was upgraded comes back as it was.
#[test]
fn a_worker_one_version_back_is_heard_and_gets_nothing_new() {
    let Some(cluster) = Cluster::start(2) else { return };
    let token = token(&cluster, "gpu1");
    cluster.set_asleep("gpu1", true);
    for protocol in [OLDEST - 1, PROTOCOL + 1] {
        let welcome = Wire::dial(&cluster).greet_in(protocol, "gpu1", &token);
        assert!(matches!(&welcome, Welcome::Refused { detail } if detail.contains("same grid")), "{welcome:?}");
    }
    let mut wire = Wire::dial(&cluster);
    assert!(matches!(wire.greet_in(OLDEST, "gpu1", &token), Welcome::Ok { .. }));
    // What this version has forgotten is skipped, and what comes behind it is heard.
    wire.say(&json!({"from": {"agent": "gpu1"}, "to": {"agent": "head"}, "body": {"body": "sing", "song": 1}}));
    wire.say(&frame(Party::Agent("gpu1".into()), Body::Files { attempt: "o-1.1".into(), word: FilesWord::Ask }));
    let gone: Frame = loop {
        match wire.hear::<Frame>().unwrap() {
            frame if matches!(frame.body, Body::Files { .. }) => break frame,
            _ => {}
        }
    };
    assert!(matches!(gone.body, Body::Files { word: FilesWord::Gone, .. }), "{gone:?}");
    assert!(cluster.log("agent").contains("does not know (sing): skipped"), "{}", cluster.log("agent"));
    let why = || cluster.status().unwrap().nodes.into_iter().find(|n| n.node.as_str() == "gpu1").and_then(|n| n.why);
    cluster.wait("the head to know it", || match why() {
        Some(why) if why.contains("an older one") => Ok(()),
        other => Err(other),
    });
    let (code, error) =
        cluster.refused(&["boost", "request", "head", "--cpu", "1", "--from", "gpu1", "--duration", "1m"]);
    assert!(code == 5 && error.details.concat().contains("an older one"), "{code}: {error:?}");
    let guest = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 1000000");
    let (_, error) = cluster.refused(&["offload", "park", &guest.pid().to_string(), "--on", "gpu1"]);
    assert_eq!(error.code, Some(ReasonCode::Version), "{error:?}");
    guest.goes_on();
    // The real one, which is this version, is back.
    cluster.set_asleep("gpu1", false);
    drop(wire);
    cluster.boost("--cpu 1 --memory 512MiB --duration 5m --from gpu1");
    cluster.move_out(guest.pid());
    guest.goes_on();
}

#[test]
fn a_request_that_an_agent_does_not_know_is_refused_and_the_link_stands() {
    let Some(cluster) = Cluster::start(1) else { return };
    let mut wire = Wire::as_daemon(&cluster);
    for node in ["head", "gpu1"] {
        let request = json!({"body": "request", "id": 77, "request": {"request": "dance"}});
        wire.say(&json!({"from": "daemon", "to": {"agent": node}, "body": request}));
        let refusal = wire.answer().unwrap_err();
        assert_eq!(refusal.reason.code, ReasonCode::Version);
    }
    assert!(wire.ask(Request::Holdings).is_ok());
}

/// gpu2 swears that a copy runs which was sent to gpu1, and that it is gone: nobody listens, and gpu1's copy is the one.
#[test]
fn a_worker_has_no_word_in_anothers_attempt() {
    let Some(cluster) = Cluster::faulty(CONFIG) else { return };
    cluster.boost("--cpu 1 --memory 512MiB --duration 5m --from gpu1");
    let guest = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 3000");
    let mut armed = cluster.arm("gpu1", FaultPoint::StartRestore, Effect::Hang);
    let mut command = cluster.begin(&["offload", "execute", &guest.pid().to_string()]);
    cluster.wait("the step", || armed.is_hit());
    let attempt = cluster.offloads()[0].record.attempt.clone();
    let mut wire = Wire::dial(&cluster);
    assert!(matches!(wire.greet("gpu2", &token(&cluster, "gpu2")), Welcome::Ok { .. }));
    let say = |message| frame(Party::Agent("gpu2".into()), Body::Up { message });
    let of = |attempt: &AttemptId| attempt.clone();
    wire.say(&say(ToSource::Ready { attempt: of(&attempt) }));
    wire.say(&say(ToSource::Started { attempt: of(&attempt) }));
    wire.say(&say(ToSource::Gone { attempt: of(&attempt) }));
    // Nor has its own worker once more what it had: the ticket is spent, and none is good for another.
    for (node, ticket) in [("gpu2", String::new()), ("gpu1", String::new()), ("gpu1", "0".repeat(64))] {
        let mut data = Wire::dial(&cluster);
        let (token, attempt) = (token(&cluster, node), of(&attempt));
        data.say(&Hello::Data { protocol: PROTOCOL, token, attempt, ticket });
        let welcome = data.hear().unwrap();
        assert!(matches!(&welcome, Welcome::Refused { detail } if detail.contains("memory")), "{node}: {welcome:?}");
        assert!(data.is_closed(), "a page stream for {node}");
    }
    assert_eq!(cluster.log("agent").matches("was refused: ").count(), 3, "{}", cluster.log("agent"));
    // Home's files are shown to nobody who has not a tree that is to see them.
    for node in ["gpu1", "gpu2"] {
        let mut files = Wire::dial(&cluster);
        files.say(&Hello::Files { protocol: PROTOCOL, token: token(&cluster, node), attempt: of(&attempt) });
        assert!(matches!(files.hear().unwrap(), Welcome::Ok { .. }));
        assert!(files.is_closed(), "files for {node}");
    }
    let run = format!("/run/{}/head/files", cluster.group());
    assert!(!std::path::Path::new(&run).exists(), "a server was begun");
    assert!(guest.process.runs_here(), "the copy at home is still held");
    cluster.wait("it to be noticed", || {
        if cluster.log("agent").contains("which is not its own; ignored") { Ok(()) } else { Err("not yet") }
    });
    armed.lift();
    command.wait().unwrap();
    cluster.wait_phase(cluster.offloads()[0].record.id.as_str(), grid_types::event::OffloadPhase::Away);
    guest.wait_done();
}

/// Where a tree listens is its own lender's to say, and what no ordinary user at home could have done is not done.
#[test]
fn a_worker_has_home_listen_for_its_own_trees_alone() {
    let Some(cluster) = Cluster::faulty(CONFIG) else { return };
    cluster.boost("--cpu 1 --memory 512MiB --duration 5m --from gpu1");
    let guest = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 100000");
    let out = cluster.move_out(guest.pid());
    let at = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let all = [at, ([127, 0, 0, 1], 1).into(), ([10, 9, 9, 9], at.port()).into()];
    let say = |node: &str| {
        let mut wire = Wire::dial(&cluster);
        assert!(matches!(wire.greet(node, &token(&cluster, node)), Welcome::Ok { .. }));
        let attempt = out.record.attempt.clone();
        wire.say(&frame(Party::Agent(node.into()), Body::Listens { attempt, at: all.to_vec() }));
        std::thread::sleep(Duration::from_millis(300));
        TcpStream::connect(at).map(drop)
    };
    assert!(say("gpu2").is_err(), "another's tree");
    // The real gpu1 comes back, and says that it listens nowhere.
    cluster.wait("home to listen", || say("gpu1"));
    let told = |e: &Event| match e {
        Event::OffloadListens { all, .. } => Some(all.iter().map(|l| (l.at, l.refused.clone())).collect::<Vec<_>>()),
        _ => None,
    };
    let told: Vec<_> = cluster.events().into_iter().filter_map(|e| told(&e.event)).collect();
    let why = Some("port 1 is not an ordinary user's".to_owned());
    assert_eq!(told.first(), Some(&vec![(all[0], None), (all[1], why)]), "{told:?}");
    cluster.wait("home to listen no more", || if TcpStream::connect(at).is_err() { Ok(()) } else { Err(()) });
}

/// A head that somebody else has taken over asks a lender for what is the lender's own.
#[test]
fn a_head_gets_nothing_of_a_lender_but_what_it_lends() {
    let Some(cluster) = Cluster::faulty(CONFIG) else { return };
    let boost = cluster.boost("--cpu 1 --memory 512MiB --duration 5m --from gpu1").boost;
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned();
    let mut head = Wire::as_daemon(&cluster);
    let refused = |answer: Result<Box<Answer>, Refusal>| answer.map(|a| format!("{a:?}")).unwrap_err().reason.code;
    assert_eq!(refused(head.ask(Request::Processes)), ReasonCode::Owner);
    assert_eq!(refused(head.ask(Request::Trees { roots: vec![1] })), ReasonCode::Owner);
    // More than it lends: at once, and bit by bit.
    let lease = |id: &str, gib: u64| LeaseTerms {
        lease: id.into(),
        amount: Resources { cpu: MilliCpu(1000), memory: Bytes(gib << 30), gpu: 0 },
        remaining: Millis(60_000),
        epoch: 1,
        at_end: AtEnd::Recall,
    };
    assert_eq!(refused(head.ask(Request::OpenLease { lease: lease("b-evil", 64) })), ReasonCode::NoFit);
    assert_eq!(refused(head.ask(Request::OpenLease { lease: lease("b-evil", 2) })), ReasonCode::NoFit, "beside b");
    // What is lent already, for longer: only an extension does that, which the owner may refuse. Asked again it is as it is.
    let again = |epoch, remaining| {
        let terms = LeaseTerms { lease: boost.lease.clone(), amount: boost.amount, ..lease("", 0) };
        Request::OpenLease { lease: LeaseTerms { epoch, remaining: Millis(remaining), ..terms } }
    };
    assert_eq!(refused(head.ask(again(boost.epoch + 1, u64::MAX))), ReasonCode::Expired);
    assert!(head.ask(Request::ReclaimLease { lease: boost.lease.clone(), freeze: true }).is_ok());
    assert!(matches!(*head.ask(again(boost.epoch, u64::MAX)).unwrap(), Answer::LeaseOpen { .. }));
    let remaining = Millis(60_000);
    let longer = Request::ExtendLease { lease: boost.lease.clone(), remaining, epoch: boost.epoch + 1 };
    assert_eq!(refused(head.ask(longer)), ReasonCode::Owner, "it was taken back");
    // A process of the lender's own: its pid 1, as its agent sees it.
    let start_ticks = procs::start_ticks(cluster.node_pid("gpu1")).unwrap();
    let order = MoveOrder {
        offload: "o-99".into(),
        attempt: "o-99.1".into(),
        process: ProcId { pid: 1, start_ticks, boot_id },
        destination: "head".into(),
        lease: None,
        admitted: Bytes(1 << 30),
        max_frozen: Millis(5000),
        link_limit: None,
        detector: Detector::default(),
        private_paths: Vec::new(),
        apart: false,
        home_files: false,
        files_patience: None,
        park: false,
        parked: None,
        private_tmp: false,
        own_paths: Default::default(),
    };
    assert_eq!(refused(head.ask(Request::StartMove { order: Box::new(order), ticket: None })), ReasonCode::Owner);
    let held = head.ask(Request::Holdings).unwrap();
    assert!(
        matches!(*held, Answer::Holdings { ref leases, .. } if leases.len() == 1 && leases[0].lease == boost.lease
            && leases[0].remaining.0 <= 300_000),
        "{held:?}"
    );
}

const CONFIG: &str = "
name: links
nodes:
  - {name: head, role: head, resource_sharing: {can_share: false}}
  - {name: gpu1, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 2}}
  - {name: gpu2, role: worker, resource_sharing: {can_share: true, max_share_cpu: 8, max_share_memory_gb: 2}}
";

/// As often as the user says, and at once where the owner of a lender says something else.
#[test]
fn facts_come_as_often_as_they_are_asked_for() {
    let Some(cluster) = Cluster::configured(&format!("{CONFIG}limits: {{facts_every: 20s, stale_after: 40s}}\n"))
    else {
        return;
    };
    let node = || cluster.ask::<Vec<NodeView>>(&["node", "list"]).swap_remove(1);
    // More than agents that speak each second let pass.
    let view = cluster.wait("older facts", || match node() {
        view if view.seen.is_some_and(|seen| seen > Millis(4_000)) => Ok(view),
        view => Err(view.seen),
    });
    assert_eq!(view.state, "ready");
    let begun = std::time::Instant::now();
    assert_eq!(cluster.grid(&["lend", "off", "--node", "gpu1"]).code, 0);
    cluster.wait("the head to know it", || {
        let out = cluster.grid(&["status"]).out;
        if out.contains("its owner switched lending off") { Ok(()) } else { Err(out) }
    });
    assert!(begun.elapsed() < Duration::from_secs(10), "it was not told at once");
}
