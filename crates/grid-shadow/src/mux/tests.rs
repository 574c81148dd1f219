//! The protocol, rule by rule.

use super::*;

const SMALL: Bounds = Bounds { window: 1000, retain: 200 };

/// A shadow and a far with one channel each way.
fn ends() -> (Mux, Mux) {
    let (mut home, mut far) = (Mux::new(0), Mux::new(1));
    home.add_sender(1, SMALL);
    far.add_receiver(1, SMALL.window);
    far.add_sender(2, SMALL);
    home.add_receiver(2, SMALL.window);
    home.connect(1);
    far.connect(1);
    (home, far)
}

/// Moves at most `most` bytes across, as far as there is something.
fn carry(from: &mut Mux, to: &mut Mux, most: usize) -> Result<usize, ProtocolError> {
    let bytes = from.output().concat();
    let n = bytes.len().min(most);
    from.sent(n);
    let mut rest = &bytes[..n];
    while !rest.is_empty() {
        let space = to.space();
        let n = space.len().min(rest.len());
        space[..n].copy_from_slice(&rest[..n]);
        to.filled(n)?;
        rest = &rest[n..];
    }
    Ok(n)
}

fn settle(a: &mut Mux, b: &mut Mux) {
    while carry(a, b, usize::MAX).unwrap() + carry(b, a, usize::MAX).unwrap() > 0 {}
}

fn write(mux: &mut Mux, channel: u32, bytes: &[u8]) -> usize {
    let mut done = 0;
    while done < bytes.len() {
        let space = mux.write_space(channel, bytes.len() - done, 0);
        let n = space.len();
        space.copy_from_slice(&bytes[done..done + n]);
        mux.wrote(channel, n);
        done += n;
        if n == 0 {
            break;
        }
    }
    done
}

fn read(mux: &mut Mux, channel: u32) -> Vec<u8> {
    let (a, b) = mux.pending(channel);
    let all = [a, b].concat();
    mux.delivered(channel, all.len());
    all
}

#[test]
fn bytes_ends_and_records_cross() {
    let (mut home, mut far) = ends();
    assert_eq!(write(&mut home, 1, b"hello"), 5);
    assert!(home.say(&Order::Signal { signo: 2, group: true }));
    home.end(1);
    settle(&mut home, &mut far);
    assert_eq!(read(&mut far, 1), b"hello");
    assert!(far.end_is_due(1));
    far.delivered_end(1);
    let (order, len) = far.next_record::<Order>().unwrap().unwrap();
    assert_eq!(order, Order::Signal { signo: 2, group: true });
    far.heard(len);
    settle(&mut home, &mut far);
    assert!(home.is_settled(1) && home.all_acknowledged(CONTROL));
    assert!(far.next_record::<Order>().unwrap().is_none());
}

#[test]
fn a_full_window_stops_the_sender_until_the_reader_reads() {
    let (mut home, mut far) = ends();
    assert_eq!(write(&mut home, 1, &[7; 5000]), 1000);
    settle(&mut home, &mut far);
    assert_eq!(home.room(1, 0), 0);
    assert_eq!(read(&mut far, 1).len(), 1000);
    settle(&mut home, &mut far);
    assert_eq!(home.room(1, 0), 1000);
}

#[test]
fn a_cut_in_the_middle_of_a_frame_loses_and_repeats_nothing() {
    let (mut home, mut far) = ends();
    settle(&mut home, &mut far);
    let sent: Vec<u8> = (0..900u32).map(|i| i as u8).collect();
    write(&mut home, 1, &sent);
    carry(&mut home, &mut far, 400).unwrap();
    let mut got = read(&mut far, 1);
    assert_eq!(got.len(), 400 - wire::HEADER);
    for end in [&mut home, &mut far] {
        end.connect(1);
    }
    settle(&mut home, &mut far);
    got.extend(read(&mut far, 1));
    assert_eq!(got, sent);
}

#[test]
fn a_reader_that_is_gone_is_told_once_also_over_a_cut() {
    let (mut home, mut far) = ends();
    settle(&mut home, &mut far);
    write(&mut home, 1, &[1; 300]);
    carry(&mut home, &mut far, 100).unwrap();
    far.break_off(1);
    for end in [&mut home, &mut far] {
        end.connect(1);
    }
    settle(&mut home, &mut far);
    assert_eq!((home.newly_broken(), home.newly_broken()), (Some(1), None));
    assert_eq!((home.room(1, 0), home.is_broken(1)), (0, true));
}

#[test]
fn a_reader_that_leaves_within_a_frame_is_no_error() {
    let (mut home, mut far) = ends();
    settle(&mut home, &mut far);
    write(&mut home, 1, &[1; 900]);
    carry(&mut home, &mut far, 100).unwrap();
    far.break_off(1);
    settle(&mut home, &mut far);
    assert_eq!(home.newly_broken(), Some(1));
}

#[test]
fn the_next_far_asks_for_what_was_left_in_the_pipe() {
    let (mut home, mut far) = ends();
    settle(&mut home, &mut far);
    let sent: Vec<u8> = (0..1000u32).map(|i| (i / 3) as u8).collect();
    write(&mut home, 1, &sent);
    home.end(1);
    write(&mut far, 2, b"output");
    settle(&mut home, &mut far);
    assert_eq!(read(&mut far, 1), sent);
    far.delivered_end(1);
    settle(&mut home, &mut far);
    assert!(home.is_settled(1));
    // 150 of them stayed in the pipe.
    let snapshot: Snapshot = serde_json::from_str(&serde_json::to_string(&far.snapshot(|_| 150)).unwrap()).unwrap();
    assert_eq!(snapshot.read[&1], ReadChannel { consumed: 850, broken: false });
    let mut next = Mux::new(2);
    next.add_receiver(1, SMALL.window);
    next.add_sender(2, SMALL);
    next.adopt(&snapshot, |_| SMALL).unwrap();
    home.connect(2);
    next.connect(2);
    settle(&mut home, &mut next);
    assert_eq!(home.generation(), 2);
    assert_eq!(read(&mut next, 1), sent[850..]);
    assert!(next.end_is_due(1));
    assert_eq!(read(&mut home, 2), b"output");
}

#[test]
fn older_generations_and_lower_offsets_are_refused() {
    let (mut home, mut far) = ends();
    settle(&mut home, &mut far);
    write(&mut home, 1, &[1; 500]);
    settle(&mut home, &mut far);
    read(&mut far, 1);
    settle(&mut home, &mut far);
    // The same generation again, that has forgotten what it acknowledged.
    let mut liar = Mux::new(1);
    liar.add_receiver(1, SMALL.window);
    liar.add_sender(2, SMALL);
    home.connect(1);
    liar.connect(1);
    assert_eq!(carry(&mut liar, &mut home, usize::MAX), Err(ProtocolError::Offset));
    // Another generation than the agent said.
    home.connect(3);
    far.connect(1);
    assert_eq!(carry(&mut far, &mut home, usize::MAX), Err(ProtocolError::Generation(1)));
}

#[test]
fn a_snapshot_of_another_tree_is_refused() {
    let mut far = Mux::new(2);
    far.add_sender(2, SMALL);
    let kept = |n| KeptChannel { bytes: vec![0; n], ..KeptChannel::default() };
    let read = BTreeMap::from([(CONTROL, ReadChannel::default())]);
    let of = |n, generation| Snapshot {
        generation,
        sent: BTreeMap::from([(CONTROL, kept(0)), (2, kept(n))]),
        read: read.clone(),
        continues: 0,
    };
    assert_eq!(far.adopt(&Snapshot::default(), |_| SMALL), Err(SnapshotError::Channels));
    assert_eq!(far.adopt(&of(1, 2), |_| SMALL), Err(SnapshotError::Generation(2)));
    assert_eq!(far.adopt(&of(SMALL.window + DRAINED + 1, 1), |_| SMALL), Err(SnapshotError::Size(2)));
    assert_eq!(far.adopt(&of(SMALL.window + DRAINED, 1), |_| SMALL), Ok(()));
}

#[test]
fn frames_of_a_closed_connection_are_passed_over_and_of_an_unknown_one_refused() {
    let (mut home, mut far) = ends();
    settle(&mut home, &mut far);
    let channel = home.next_connection().unwrap();
    home.open(channel, SMALL, false).unwrap();
    far.open(channel, SMALL, false).unwrap();
    write(&mut far, channel, &[5; 800]);
    carry(&mut far, &mut home, 300).unwrap();
    home.close(channel);
    settle(&mut home, &mut far);
    assert!(home.connections().is_empty());
    assert!(home.open(channel, SMALL, false).is_err());
    far.open(channel + 1, SMALL, false).unwrap();
    write(&mut far, channel + 1, b"x");
    assert_eq!(carry(&mut far, &mut home, usize::MAX), Err(ProtocolError::Channel(channel + 1)));
}
