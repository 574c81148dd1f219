use super::*;
use proptest::prelude::*;

const LOAD: LendRule =
    LendRule { when: When::Load(MilliCpu(1000)), then: Then::Reclaim, hold: Millis(5_000), quiet: Millis(20_000) };
const MEMORY: LendRule =
    LendRule { when: When::Memory(Bytes(1000)), then: Then::Reclaim, hold: Millis(2_000), quiet: Millis(10_000) };
const INPUT: LendRule = LendRule { when: When::Input, then: Then::Off, hold: Millis(0), quiet: Millis(60_000) };
/// Wall clock at boot.
const BOOT: u64 = 1_800_000_000_000;

fn at(ms: u64) -> Sample {
    Sample { at: BootMs(ms), wall: UnixMs(BOOT + ms), ..Sample::default() }
}

fn load(ms: u64, cpu: u32) -> Sample {
    Sample { load: Some(MilliCpu(cpu)), ..at(ms) }
}

fn free(ms: u64, bytes: u64) -> Sample {
    Sample { available: Some(Bytes(bytes)), ..at(ms) }
}

fn used(ms: u64, terminals: &[(&str, u64)]) -> Sample {
    let all = terminals.iter().map(|(name, used)| ((*name).to_owned(), UnixMs(BOOT + used))).collect();
    Sample { terminals: Some(all), ..at(ms) }
}

/// `-` calm, `r` rising, `F` in force, `o` in force and over: one letter a sample.
fn course(rule: LendRule, samples: impl IntoIterator<Item = Sample>) -> String {
    let mut watch = Watch::default();
    samples.into_iter().map(|sample| letter(&watch.step(&[rule], &sample)[0])).collect()
}

fn letter(state: &RuleState) -> char {
    match state.phase {
        RulePhase::Calm => '-',
        RulePhase::Rising { .. } => 'r',
        RulePhase::InForce { over: None, .. } => 'F',
        RulePhase::InForce { over: Some(_), .. } => 'o',
    }
}

fn each_second(loads: &[u32]) -> Vec<Sample> {
    loads.iter().zip(0..).map(|(cpu, s)| load(s * 1000, *cpu)).collect()
}

#[test]
fn a_peak_is_nothing_and_what_lasts_is_in_force_until_it_has_been_over_for_long() {
    assert_eq!(course(LOAD, each_second(&[0, 9000, 9000, 9000, 9000, 9000, 700, 9000])), "-rrrrr-r");
    // A dip that is not below the release ends nothing, before and in force.
    assert_eq!(course(LOAD, each_second(&[1000, 800, 900, 1000, 800, 800, 800])), "rrrrrFF");
    let mut samples = each_second(&[1000; 6]);
    samples.extend((6..26).map(|s| load(s * 1000, 799)));
    assert_eq!(course(LOAD, samples.clone()), format!("rrrrrF{}", "o".repeat(20)));
    samples.push(load(26_000, 0));
    assert!(course(LOAD, samples.clone()).ends_with("o-"), "20 s after it was over");
    samples[20] = load(20_000, 800);
    assert!(course(LOAD, samples).ends_with('o'), "once more in between");
}

#[test]
fn memory_counts_downwards() {
    let samples = [(0, 1000), (1, 999), (2, 1100), (3, 999), (4, 1199), (5, 1200), (14, 1200), (15, 1200)];
    assert_eq!(course(MEMORY, samples.map(|(s, bytes)| free(s * 1000, bytes))), "-rrFFoo-");
}

#[test]
fn what_is_unknown_or_was_not_looked_at_puts_nothing_in_force_and_ends_nothing() {
    let unknown = |s: u64| at(s * 1000);
    let one = |s: u64, cpu| load(s * 1000, cpu);
    assert_eq!(course(LOAD, [one(0, 1000), unknown(4), unknown(8), one(11, 1000), one(15, 1000)]), "rrrrr");
    assert_eq!(course(LOAD, [one(0, 1000), one(60, 1000), one(65, 1000)]), "rrF", "asleep in between");
    let in_force = [one(0, 1000), one(5, 1000), one(6, 0)];
    let then = |more: [Sample; 2]| course(LOAD, in_force.clone().into_iter().chain(more));
    assert_eq!(then([unknown(600), unknown(1200)]), "rFooo");
    assert_eq!(then([one(600, 0), one(610, 0)]), "rFooo", "asleep: quiet is counted from now");
}

#[test]
fn each_use_of_a_terminal_counts_and_how_long_ago_it_was() {
    let quiet = used(100_000, &[("pts/1", 30_000), ("tty1", 10_000)]);
    let again = used(101_000, &[("pts/1", 100_500), ("tty1", 10_000)]);
    let left = |s: u64| used(s * 1000, &[("tty1", 10_000)]);
    let samples = [quiet.clone(), again.clone(), left(102), left(160), left(161)];
    assert_eq!(course(INPUT, samples), "-ooo-");
    let mut watch = Watch::default();
    watch.step(&[INPUT], &quiet);
    let state = watch.step(&[INPUT], &again).remove(0);
    assert_eq!(state.seen, Some(Seen::Input { terminal: "pts/1".into(), at: UnixMs(BOOT + 101_000) }));
    assert_eq!(state.again(), Some(UnixMs(BOOT + 161_000)));
    // Somebody who logs in was there at that moment.
    assert_eq!(course(INPUT, [quiet, used(102_000, &[("pts/1", 30_000), ("tty1", 10_000), ("pts/2", 101_900)])]), "-o");
}

#[test]
fn a_clock_that_is_set_back_neither_hides_input_nor_makes_any() {
    let back = |sample: Sample| Sample { wall: UnixMs(sample.wall.0 - 3_600_000), ..sample };
    let idle = [("pts/1", 30_000)];
    let before = used(200_000, &idle);
    assert_eq!(course(INPUT, [before.clone(), back(used(201_000, &idle))]), "--");
    let typed = [
        before,
        back(used(201_000, &idle)),
        Sample { terminals: Some(vec![("pts/1".into(), UnixMs(BOOT + 202_000 - 3_600_000))]), ..back(at(202_000)) },
    ];
    assert_eq!(course(INPUT, typed), "--o");
}

#[test]
fn who_goes_on_for_another_begins_with_what_was_in_force() {
    let mut watch = Watch::default();
    for s in 0..6 {
        watch.step(&[LOAD], &load(s * 1000, 1000));
    }
    let said = watch
        .step(&[LOAD, INPUT], &Sample { terminals: Some(vec![("pts/1".into(), UnixMs(BOOT))]), ..load(6_000, 1000) });
    let mut next = Watch::resume(&said, BootMs(30_000), UnixMs(BOOT + 30_000));
    let now = next.step(&[LOAD, INPUT], &Sample { terminals: Some(Vec::new()), ..load(30_000, 0) });
    assert_eq!(now.iter().map(letter).collect::<String>(), "oo");
    assert!(matches!(now[0].phase, RulePhase::InForce { since, .. } if since == UnixMs(BOOT + 5_000)), "{now:?}");
    assert_eq!(Watch::resume(&[], BootMs(1), UnixMs(1)), Watch::default());
}

#[test]
fn who_takes_back_counts_before_who_lends_nothing_new() {
    let state =
        |rule, since| RuleState { rule, phase: RulePhase::InForce { since: UnixMs(since), over: None }, seen: None };
    let calm = RuleState { rule: MEMORY, phase: RulePhase::Calm, seen: None };
    let all = [state(INPUT, 1), state(LOAD, 3), state(MEMORY, 2), calm.clone()];
    assert_eq!(in_force(&all), Some(&all[2]));
    assert_eq!(in_force(&[calm]), None);
}

#[test]
fn each_rule_in_force_says_why() {
    let state = |rule, seen| RuleState { rule, phase: RulePhase::InForce { since: UnixMs(0), over: None }, seen };
    let text = [
        why(&state(LOAD, Some(Seen::Load(MilliCpu(3200))))),
        why(&state(MEMORY, Some(Seen::Memory(Bytes(600))))),
        why(&state(INPUT, Some(Seen::Input { terminal: "pts/3".into(), at: UnixMs(0) }))),
        why(&state(INPUT, None)),
    ];
    assert_eq!(
        text.join("\n"),
        "\
its own processes use 3.2 CPU (its owner's rule: 1.0): its owner takes it back until that has been over for 20 s
600 B of its memory are available (its owner's rule: 1000 B): its owner takes it back until that has been over for 10 s
somebody uses it (input on pts/3): it lends nothing new until that has been over for 1m00s
somebody used it: it lends nothing new until that has been over for 1m00s"
    );
}

/// A sample: time since the last one, and what is measured.
type Step = (u64, Option<u32>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = proptest::option::weighted(0.9, prop_oneof![Just(0u32), Just(700), Just(900), Just(1000), Just(5000)]);
    proptest::collection::vec((prop_oneof![8 => 1u64..3_000, 1 => 3_000u64..40_000], value), 1..120)
}

fn samples(steps: &[Step]) -> Vec<Sample> {
    let mut now = 0;
    let of = |(pause, cpu): &Step| {
        now += pause;
        Sample { load: cpu.map(MilliCpu), ..at(now) }
    };
    steps.iter().map(of).collect()
}

proptest! {
    /// It comes into force only after its time to hold, in which every look found it so; it ends only after its quiet time,
    /// in which none did. So two beginnings are never nearer than both together.
    #[test]
    fn nothing_goes_to_and_fro_faster_than_its_times(steps in steps(), hold in 0u64..20_000, quiet in 2_000u64..60_000) {
        let rule = LendRule { hold: Millis(hold), quiet: Millis(quiet), ..LOAD };
        let samples = samples(&steps);
        let mut watch = Watch::default();
        let in_force: Vec<bool> = samples.iter().map(|s| watch.step(&[rule], s)[0].in_force()).collect();
        let mut begun: Option<u64> = None;
        for n in 0..samples.len() {
            let (now, before) = (samples[n].at.0, n > 0 && in_force[n - 1]);
            // Looks since so long ago.
            let looks = |span: u64| samples[..=n].iter().rev().take_while(move |s| now - s.at.0 <= span);
            if in_force[n] && !before {
                prop_assert!(looks(hold).filter_map(|s| s.load).all(|cpu| cpu.0 >= 800));
                prop_assert!(begun.is_none_or(|begun| now - begun >= hold + quiet));
                begun = Some(now);
            }
            if before && !in_force[n] {
                prop_assert!(looks(quiet).filter_map(|s| s.load).all(|cpu| cpu.0 < 800));
                prop_assert!(samples[n].load.is_some(), "ended by nothing");
            }
        }
    }

    /// The wall clock is for people.
    #[test]
    fn a_clock_that_jumps_changes_nothing(steps in steps(), jumps in proptest::collection::vec(0u64..2 * BOOT, 120), typed in proptest::collection::vec(any::<bool>(), 120)) {
        let rules = [LOAD, INPUT];
        let (mut plain, mut jumping) = (Watch::default(), Watch::default());
        let mut used = 0;
        for (n, sample) in samples(&steps).into_iter().enumerate() {
            // Each use is another time; which one, only the clock knows.
            used += u64::from(typed[n] && n > 0);
            let with = |wall: u64, used: u64| Sample {
                wall: UnixMs(wall),
                terminals: Some(vec![("pts/0".into(), UnixMs(used))]),
                ..sample.clone()
            };
            let own = plain.step(&rules, &with(sample.wall.0, used));
            let other = jumping.step(&rules, &with(if n == 0 { sample.wall.0 } else { jumps[n] }, used));
            prop_assert_eq!(own.iter().map(RuleState::in_force).collect::<Vec<_>>(), other.iter().map(RuleState::in_force).collect::<Vec<_>>());
        }
    }
}
