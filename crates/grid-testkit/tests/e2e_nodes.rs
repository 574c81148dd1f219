//! Workers that come to a running cluster and leave it, by a real ssh: `grid node add` and `grid node remove`.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest, LIMIT};
use grid_testkit::lab::Lab;
use grid_testkit::procs;
use grid_types::api::{NodeView, OffloadView};
use grid_types::event::{Actor, Event, OffloadPhase};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Two machines, both known to one configuration of ssh, of which the cluster's file lists the first.
fn two() -> ([Lab; 2], String) {
    let labs = [Lab::named("gpu1").unwrap(), Lab::named("gpu2").unwrap()];
    let both = labs.each_ref().map(|lab| std::fs::read_to_string(lab.path("ssh_config")).unwrap());
    std::fs::write(labs[0].path("ssh_config"), both.concat()).unwrap();
    let config = labs[0].config("same");
    (labs, config)
}

const ADD: [&str; 7] = ["node", "add", "gpu2", "--lend-cpu", "8", "--lend-memory", "2GiB"];

fn add(cluster: &Cluster) -> String {
    let said = cluster.grid(&ADD);
    assert_eq!(said.code, 0, "{said:?}\n{}", cluster.logs());
    assert!(said.out.contains("it lends "), "{said:?}");
    said.err
}

fn nodes(cluster: &Cluster) -> Vec<String> {
    cluster.ask::<Vec<NodeView>>(&["node", "list"]).into_iter().map(|n| n.node.to_string()).collect()
}

/// What grid has of this worker, on its disk.
fn folder(cluster: &Cluster, lab: &Lab, name: &str) -> PathBuf {
    lab.workers().join(format!("{}-{name}", cluster.group()))
}

/// Programs that work in that folder, by their command lines.
fn programs(folder: &Path) -> Vec<String> {
    let folder = folder.to_string_lossy();
    let words = |pid: i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = procs::all().into_iter().map(|pid| String::from_utf8_lossy(&words(pid)).into_owned());
    words.filter(|words| words.contains(&*folder)).collect()
}

fn conf(cluster: &Cluster, name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(cluster.state().join("conf").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn knows_token(cluster: &Cluster, name: &str) -> bool {
    !conf(cluster, "hub.json")["role"]["Hub"]["tokens"][name].is_null()
}

/// Comings and goings of this node, and who wanted them.
fn history(cluster: &Cluster, name: &str) -> Vec<(&'static str, Actor)> {
    let word = |event: &Event| match event {
        Event::NodeAdded { node, .. } if node.as_str() == name => Some("added"),
        Event::NodeRemoved { node, left: None } if node.as_str() == name => Some("removed"),
        Event::NodeRemoved { node, .. } if node.as_str() == name => Some("removed unheard"),
        _ => None,
    };
    cluster.events().into_iter().filter_map(|e| Some((word(&e.event)?, e.actor))).collect()
}

/// Until the worker counts as silent.
fn wait_silent(cluster: &Cluster) {
    cluster.wait("it to be silent", || {
        let view = cluster.ask::<Vec<NodeView>>(&["node", "list"]).remove(1);
        if view.state == "silent" { Ok(()) } else { Err(view.state) }
    });
}

#[test]
fn a_worker_comes_to_a_running_cluster_is_used_drained_and_let_go_and_cannot_come_back() {
    let (labs, config) = two();
    let Some(mut cluster) = Cluster::configured(&config) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m --from gpu1");
    let first = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 1000000");
    cluster.move_out(first.pid());

    let dry = cluster.grid(&[&ADD[..], &["--dry-run"]].concat());
    assert!(dry.code == 0 && dry.out.contains("Nothing was changed"), "{dry:?}");
    assert_eq!((nodes(&cluster).len(), knows_token(&cluster, "gpu2")), (2, false));
    assert!(add(&cluster).contains("copying grid to gpu2"));
    assert_eq!(nodes(&cluster), ["head", "gpu1", "gpu2"]);
    // At once.
    let boost = cluster.boost("--cpu 1 --memory 1GiB --duration 5m --from gpu2").boost.id;
    let guest = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 1000000");
    let out = cluster.grid(&["offload", "execute", &guest.pid().to_string(), "--to", "gpu2"]);
    assert_eq!(out.code, 0, "{out:?}");
    guest.goes_on();
    first.goes_on();

    let (code, error) = cluster.refused(&["node", "remove", "gpu2"]);
    assert_eq!(code, 12, "{error:?}");
    assert!(error.details[0].contains("is away") && error.hint.unwrap().contains("grid node drain gpu2"));
    let there = folder(&cluster, &labs[0], "gpu2");
    assert!(!programs(&there).is_empty());
    // Who knows the token and the key of a worker that was let go:
    let own = std::fs::read_to_string(there.join("node.json")).unwrap();

    // What is parked there is no drain's to move: none is begun, and it still takes guests.
    let id = cluster.offloads()[1].record.id.to_string();
    cluster.ask::<OffloadView>(&["offload", "park", &id, "--on", "gpu2"]);
    let (code, error) = cluster.refused(&["node", "remove", "gpu2", "--drain"]);
    assert!(code == 12 && error.details[0].contains("is parked on its disk"), "{error:?}");
    assert!(error.hint.unwrap().contains("grid offload unpark"));
    cluster.ask::<OffloadView>(&["offload", "unpark", &id, "--to", "gpu2"]);
    guest.goes_on();

    let said = cluster.grid(&["node", "remove", "gpu2", "--drain"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", cluster.logs());
    println!("{}", said.out);
    assert!(said.out.contains(boost.as_str()) && said.out.contains("its daemons ended"), "{said:?}");
    guest.goes_on();
    first.goes_on();
    cluster.wait_phase(cluster.offloads()[1].record.id.as_str(), OffloadPhase::Home);
    assert_eq!((nodes(&cluster).len(), knows_token(&cluster, "gpu2")), (2, false));
    assert!(!cluster.state().join("workers/gpu2").exists() && !cluster.state().join("conf/reach-gpu2.json").exists());
    assert_eq!(programs(&there), Vec::<String>::new());
    comes_back(&cluster, &own, &there);

    // It may be asked for again, and lasts.
    add(&cluster);
    let down = cluster.grid(&["down", "--yes"]);
    assert_eq!(down.code, 0, "{down:?}");
    let file = cluster.dir().join("cluster.yaml").to_string_lossy().into_owned();
    cluster.up_again(&["--config", &file]);
    assert_eq!(nodes(&cluster), ["head", "gpu1", "gpu2"]);
    let said = cluster.grid(&["node", "remove", "gpu2", "--purge"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!there.exists() && folder(&cluster, &labs[0], "gpu1").exists());

    let told = history(&cluster, "gpu2");
    assert_eq!(told.iter().map(|(word, _)| *word).collect::<Vec<_>>(), ["added", "removed", "added", "removed"]);
    assert!(told.iter().all(|(_, by)| matches!(by, Actor::User { uid: 0, .. })), "{told:?}");
    let said = cluster.grid(&["explain", "gpu2"]).out;
    assert!(said.contains("no node of this cluster any more") && said.contains("gpu2 is added"), "{said}");
}

/// The worker that was let go starts again with what it knew, at the head's very door; then its agent comes without the
/// channel. Neither is let in.
fn comes_back(cluster: &Cluster, own: &str, folder: &Path) {
    let start = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut node: serde_json::Value = serde_json::from_str(own).unwrap();
        change(&mut node);
        let file = cluster.dir().join("again.json");
        std::fs::write(&file, node.to_string()).unwrap();
        let out = Command::new(cluster.program()).arg("node-start").stdin(std::fs::File::open(&file).unwrap()).output();
        assert!(out.as_ref().is_ok_and(|out| out.status.success()), "{out:?}");
    };
    let address = |name: &str| serde_json::json!(format!("unix:{}", cluster.state().join(name).display()));
    let refused = || cluster.log("channel").matches("was refused").count();
    let before = refused();
    start(&|node| node["channel"]["side"]["Worker"]["head"] = address("channel/door.sock"));
    // TLS fails already at its certificate.
    cluster.wait("it to be sent away at the door", || if refused() > before + 1 { Ok(()) } else { Err(refused()) });
    let unknown = || cluster.log("agent").matches("its token is not this cluster's").count();
    let before = unknown();
    start(&|node| node["agent"]["role"]["Spoke"]["hub"] = address("workers.sock"));
    cluster.wait("the head's agent to send it away", || if unknown() > before + 1 { Ok(()) } else { Err(unknown()) });
    assert_eq!(nodes(cluster).len(), 2);
    let stop = Command::new(cluster.program()).arg("node-stop").arg(folder).status().unwrap();
    assert!(stop.success());
}

#[test]
fn what_cannot_be_a_node_is_refused_and_changes_nothing() {
    let (labs, config) = two();
    let Some(cluster) = Cluster::configured(&config) else { return };
    let before = conf(&cluster, "plan.json");
    let refuses = |code: i32, part: &str, words: &[&str]| {
        for dry in [&[][..], &["--dry-run"]] {
            let (got, error) = cluster.refused(&[words, dry].concat());
            assert!(got == code && error.message.contains(part), "{words:?} {dry:?}: {got} {error:?}");
        }
    };
    refuses(2, "already", &["node", "add", "gpu1"]);
    refuses(2, "means the head", &["node", "add", "master", "--host", "gpu2"]);
    refuses(2, "no name", &["node", "add", "../x", "--host", "gpu2"]);
    refuses(2, "no host", &["node", "add", "gpu2", "--host=-oProxyCommand=id"]);
    refuses(2, "is gpu1 already", &["node", "add", "other", "--host", "GPU1"]);
    refuses(3, "no node", &["node", "remove", "gpu9"]);
    refuses(2, "is the head", &["node", "remove", "head"]);
    let (code, error) = cluster.refused_to_user(&["node", "add", "gpu2"]);
    assert!(code == 6 && error.message.contains("only root"), "{error:?}");
    assert_eq!(cluster.refused_to_user(&["node", "remove", "gpu1"]).0, 6);

    // Another key than the one that ssh knows; then none at all.
    labs[1].know(&std::fs::read_to_string(labs[1].path("user.pub")).unwrap()).unwrap();
    for known in [None, Some("")] {
        known.iter().for_each(|text| std::fs::write(labs[1].path("known"), text).unwrap());
        let (code, error) = cluster.refused(&ADD);
        assert!(code == 7 && error.message.contains("gpu2 was not added"), "{error:?}");
        assert!(error.hint.unwrap().contains("compare the fingerprint"));
    }
    assert!(!folder(&cluster, &labs[0], "gpu2").exists(), "something was brought there");
    assert!(!cluster.state().join("conf/reach-gpu2.json").exists());
    assert_eq!((conf(&cluster, "plan.json"), nodes(&cluster).len()), (before, 2));
    assert_eq!(history(&cluster, "gpu2"), []);
}

#[test]
fn a_cluster_without_workers_takes_one_in_while_its_daemons_are_killed_and_one_that_is_silent_is_let_go() {
    let lab = Lab::start();
    let alone = lab.config("same");
    let alone: Vec<&str> = alone.lines().filter(|line| !line.contains("role: worker")).collect();
    let Some(mut cluster) = Cluster::configured(&alone.join("\n")) else { return };
    assert_eq!(nodes(&cluster), ["head"]);

    // The daemon is killed when the worker was just reached, and the head's agent behind it.
    let mut adding = cluster.begin(&["node", "add", "gpu1", "--lend-cpu", "8", "--lend-memory", "2GiB"]);
    cluster.wait("the worker to be reached", || {
        if cluster.state().join("workers/gpu1").exists() { Ok(()) } else { Err("no pin yet") }
    });
    cluster.kill9(cluster.daemon_pid());
    cluster.kill9(cluster.agent_pid("head"));
    assert!(adding.wait().unwrap().success(), "{}", cluster.logs());
    cluster.wait_ready();
    assert_eq!(history(&cluster, "gpu1").len(), 1);

    // The supervisor too: the next one takes over what was added.
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let guest = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 1000000");
    let out = cluster.move_out(guest.pid());
    cluster.behead();
    let file = cluster.dir().join("cluster.yaml").to_string_lossy().into_owned();
    cluster.up_again(&["--config", &file]);
    assert_eq!(nodes(&cluster), ["head", "gpu1"]);
    guest.goes_on();
    cluster.wait_heard();
    cluster.bring_home(out.record.id.as_str());
    let out = cluster.move_out(guest.pid());
    guest.goes_on();

    // Its network breaks while it lends: it is let go only by the words that say so.
    lab.set_link(false).unwrap();
    lab.drop_connections();
    wait_silent(&cluster);
    let (code, error) = cluster.refused(&["node", "remove", "gpu1"]);
    assert!(code == 12 && error.message.contains("it holds processes"), "{error:?}");
    assert_eq!(cluster.refused(&["node", "remove", "gpu1", "--unreachable"]).0, 12);
    let remove = ["node", "remove", "gpu1", "--unreachable", "--give-up"];
    let dry = cluster.grid(&[&remove[..], &["--dry-run"]].concat());
    assert!(dry.code == 0 && dry.out.contains("could not come back") && dry.out.contains("as lost"), "{dry:?}");
    let said = cluster.grid(&remove);
    println!("{}", said.out);
    assert!(said.out.contains("as LOST"), "{said:?}");
    cluster.wait_phase(out.record.id.as_str(), OffloadPhase::Lost);
    guest.process.wait_gone(LIMIT).unwrap();
    let there = folder(&cluster, &lab, "gpu1");
    assert!(said.code == 0 && said.out.contains(&*there.to_string_lossy()), "{said:?}");
    assert_eq!((nodes(&cluster), knows_token(&cluster, "gpu1")), (vec!["head".to_owned()], false));
    assert_eq!(history(&cluster, "gpu1").last().unwrap().0, "removed unheard");
    assert!(!programs(&there).is_empty(), "nobody could tell it");
    assert!(cluster.status().unwrap().boosts.is_empty());

    // The next cluster of this state ends what is there, as soon as it reaches it.
    lab.set_link(true).unwrap();
    assert_eq!(cluster.grid(&["down"]).code, 0);
    cluster.up_again(&["--config", &file]);
    cluster.wait("its daemons to end", || match programs(&there) {
        none if none.is_empty() => Ok(()),
        some => Err(some),
    });
    assert_eq!(nodes(&cluster), ["head"]);
}

/// What lives on a node that was given up counts as lost; nobody may find it running, or its memory on a disk, later.
#[test]
fn what_was_given_up_with_its_node_ends_there_when_that_is_taken_in_again() {
    let lab = Lab::start();
    let Some(cluster) = Cluster::configured(&lab.config("same")) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let parked = Guest::reporting(&cluster, "prover", "--memory 16MiB --steps 1000000");
    let moved = cluster.move_out(parked.pid());
    cluster.ask::<OffloadView>(&["offload", "park", moved.record.id.as_str(), "--on", "gpu1"]);
    let copies = || std::fs::read_dir(folder(&cluster, &lab, "gpu1").join("state/parked")).unwrap().count();
    assert_eq!(copies(), 1);

    lab.set_link(false).unwrap();
    lab.drop_connections();
    wait_silent(&cluster);
    let said = cluster.grid(&["node", "remove", "gpu1", "--unreachable", "--give-up"]);
    assert_eq!(said.code, 0, "{said:?}");
    parked.process.wait_gone(LIMIT).unwrap();
    assert_eq!((cluster.offloads()[0].record.phase, copies()), (OffloadPhase::Lost, 1));

    // An agent at home that was killed meanwhile knows it as well.
    cluster.kill9(cluster.agent_pid("head"));
    lab.set_link(true).unwrap();
    let said = cluster.grid(&["node", "add", "gpu1"]);
    assert_eq!(said.code, 0, "{said:?}\n{}", cluster.logs());
    cluster.wait("the copy to be deleted", || match copies() {
        0 => Ok(()),
        n => Err(n),
    });
    let there = folder(&cluster, &lab, "gpu1");
    let said = cluster.grid(&["node", "remove", "gpu1", "--purge"]);
    assert!(said.code == 0 && !there.exists(), "{said:?}");
}

#[test]
fn the_workers_of_an_embedded_cluster_are_made_with_it() {
    let Some(cluster) = Cluster::start(1) else { return };
    let (code, error) = cluster.refused(&["node", "add", "gpu9", "--host", "x"]);
    assert!(code == 2 && error.message.contains("made of this machine"), "{error:?}");
    assert!(error.hint.unwrap().contains("engine: ssh"));
    let (code, error) = cluster.refused(&["node", "remove", "gpu1"]);
    assert!(code == 2 && error.message.contains("made of this machine"), "{error:?}");
}
