use super::*;

fn file(nodes: &str) -> Config {
    let text = format!("name: lab\nnodes:\n  - {{name: ws1, role: head}}\n{nodes}execution: {{engine: ssh}}\n");
    super::super::parse(&text).unwrap().config
}

fn ask(name: &str) -> NodeAsk {
    NodeAsk { name: name.to_owned(), ..NodeAsk::default() }
}

const GPU1: &str = "  - {name: gpu1, host: a.lab, resource_sharing: {max_share_cpu: 4}}\n";

#[test]
fn what_is_added_is_what_the_file_would_make_of_it() {
    let full = NodeAsk {
        host: Some("b.lab".into()),
        port: Some(2222),
        user: Some("alice".into()),
        ssh_key: Some("/k".into()),
        lend_cpu: Some(MilliCpu(2500)),
        lend_memory: Some(Bytes(3 << 30)),
        priority: Some(2.0),
        tags: vec!["fast".into()],
        ..ask("gpu2")
    };
    let text = "  - {name: gpu2, host: b.lab, port: 2222, user: alice, ssh_key_path: /k, tags: [fast], \
                resource_sharing: {max_share_cpu: 2.5, max_share_memory_gb: 3, priority: 2}}\n";
    assert_eq!(Members::default().admit(&file(GPU1), &full).unwrap(), file(text).nodes[1]);
    assert_eq!(Members::default().admit(&file(""), &ask("gpu2")).unwrap(), file("  - {name: gpu2}\n").nodes[1]);
}

#[test]
fn what_cannot_be_a_node_is_refused_with_its_reason() {
    let config = file(GPU1);
    let on = |alter: &dyn Fn(&mut NodeAsk)| {
        let mut ask = ask("gpu2");
        alter(&mut ask);
        Members::default().admit(&config, &ask).unwrap_err().message
    };
    let name = |name: &'static str| on(&move |a| a.name = name.to_owned());
    assert!(name("gpu1").contains("already"));
    assert!(name("ws1").contains("already"));
    assert!(name("HEAD").contains("means the head") && name("master").contains("means the head"));
    for odd in ["", "-x", ".x", "a/b", "a b", "ä\u{7}", &*"x".repeat(64)] {
        assert!(!name(odd.to_owned().leak()).is_empty(), "{odd:?}");
    }
    assert!(on(&|a| a.host = Some("-oProxyCommand=x".into())).contains("no host"));
    assert!(on(&|a| a.host = Some("A.LAB".into())).contains("is gpu1 already"));
    assert!(on(&|a| a.user = Some("-l".into())).contains("no user"));
    assert!(on(&|a| a.port = Some(0)).contains("port"));
    assert!(on(&|a| a.priority = Some(f64::NAN)).contains("priority"));
    // Another port of the same host is another machine, behind a router.
    let behind = NodeAsk { host: Some("a.lab".into()), port: Some(2222), ..ask("gpu2") };
    assert!(Members::default().admit(&config, &behind).is_ok());
    let local = Config { policy: grid_types::policy::Policy::default(), ..config };
    let error = Members::default().admit(&local, &ask("gpu2")).unwrap_err();
    assert!(error.message.contains("made of this machine") && error.hint.unwrap().contains("engine: ssh"));
}

#[test]
fn what_was_said_beside_the_file_lasts_and_the_file_counts_for_what_it_lists() {
    let mut members = Members::default();
    let gpu2 = members.admit(&file(GPU1), &ask("gpu2")).unwrap();
    members.add(gpu2.clone(), true);
    members.remove(&file(GPU1).nodes[1]);
    let (config, kept, notes) = members.clone().join(file(GPU1));
    assert_eq!(config.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["ws1", "gpu2"]);
    assert_eq!((&kept, notes.len()), (&members, 1));
    assert!(notes[0].contains("gpu1 of the file stays out"), "{notes:?}");

    // Back as the file says, and not otherwise.
    let other = NodeAsk { host: Some("c.lab".into()), ..ask("gpu1") };
    assert!(kept.admit(&config, &other).unwrap_err().message.contains("configuration file"));
    let again = kept.admit(&config, &NodeAsk { host: Some("a.lab".into()), ..ask("gpu1") }).unwrap();
    assert_eq!((&again, &again), (&file(GPU1).nodes[1], &kept.admit(&config, &ask("gpu1")).unwrap()));
    let mut back = kept.clone();
    back.add(again, false);
    assert_eq!(back.join(file(GPU1)).0.nodes.len(), 3);

    // The file lists what was added: it counts, and a removal of it later is one of the file's.
    let both = format!("{GPU1}  - {{name: gpu2, host: d.lab}}\n");
    let (config, kept, notes) = members.clone().join(file(&both));
    assert_eq!((config.nodes[1].host.as_str(), kept.added.len(), notes.len()), ("d.lab", 0, 2));
    // The file lists the same machine under another name.
    let (config, kept, _) = members.clone().join(file("  - {name: x, host: gpu2}\n"));
    assert_eq!((config.nodes.len(), kept.added.len()), (2, 0));
    // It no longer lists what was left out: that is forgotten.
    assert_eq!(kept.left_out, Vec::new());

    members.remove(&gpu2);
    assert_eq!((members.added.len(), members.left_out.len()), (0, 1));
}
