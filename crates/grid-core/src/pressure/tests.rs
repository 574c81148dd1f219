use super::*;
use crate::lease::fixtures::policy;
use crate::plan::Resource;
use grid_types::facts::{GpuFacts, Gpus, NodeFacts, Psi};
use grid_types::{BootMs, Bytes, MilliCpu, Millis};
use proptest::prelude::*;

fn facts(cpu: Option<u32>, memory_used: u64) -> NodeFacts {
    NodeFacts {
        node: "head".into(),
        boot_id: "b".into(),
        at: BootMs(0),
        cpu_total: MilliCpu(1_000),
        cpu_used: cpu.map(MilliCpu),
        load1: None,
        memory_total: Bytes(1_000),
        memory_available: Bytes(1_000 - memory_used),
        swap_total: Bytes(0),
        swap_used: Bytes(0),
        psi_cpu: None,
        psi_memory: None,
        psi_io: None,
        gpus: Gpus::None,
        lending: None,
        link: None,
    }
}

/// Feeds one sample each five seconds: memory in thousandths, `None` for a missing one.
fn feed(m: &mut Monitor, from: u64, samples: &[Option<u64>]) -> Vec<(u64, PressureKind, bool)> {
    let mut said = Vec::new();
    for (n, used) in samples.iter().enumerate() {
        let now = from + n as u64 * 5_000;
        let f = used.map(|u| facts(None, u));
        said.extend(m.step(f.as_ref(), Millis(0), &policy(), BootMs(now)).iter().map(|p| (now, p.kind, p.critical)));
    }
    said
}

#[test]
fn a_spike_is_not_an_event_and_what_holds_is() {
    let mut m = Monitor::new();
    assert_eq!(feed(&mut m, 0, &[Some(100), Some(900), Some(100)]), [(5_000, PressureKind::Rising, false)]);
    let said = feed(&mut m, 15_000, &[Some(880); 13]);
    assert_eq!(
        said,
        [
            (15_000, PressureKind::Rising, false),
            (45_000, PressureKind::Sustained, false),
            (75_000, PressureKind::Sustained, false),
        ]
    );
}

#[test]
fn it_clears_below_the_release_only_and_after_a_while() {
    let mut m = Monitor::new();
    feed(&mut m, 0, &[Some(880); 7]);
    assert_eq!(feed(&mut m, 35_000, &[Some(650); 4]), []); // below the trigger of 70 %, above the release of 60 %
    let said = feed(&mut m, 55_000, &[Some(500), Some(500), Some(500)]);
    assert_eq!(said, [(60_000, PressureKind::Cleared, false)]);
}

#[test]
fn critical_memory_is_said_sooner() {
    let mut m = Monitor::new();
    let said = feed(&mut m, 0, &[Some(960), Some(960)]);
    assert_eq!(said, [(0, PressureKind::Rising, true), (5_000, PressureKind::Sustained, true)]);
}

#[test]
fn unknown_neither_raises_nor_clears() {
    let mut m = Monitor::new();
    assert_eq!(feed(&mut m, 0, &[None; 20]), []);
    feed(&mut m, 100_000, &[Some(880); 7]);
    assert_eq!(feed(&mut m, 135_000, &[None; 50]), []);
    assert_eq!(feed(&mut m, 400_000, &[Some(500)]), [], "the gap is no time below the release");
    let stale = m.step(Some(&facts(None, 0)), Millis(6_000), &policy(), BootMs(500_000));
    assert_eq!(stale, []);
}

#[test]
fn gaps_do_not_count_as_held() {
    let mut m = Monitor::new();
    feed(&mut m, 0, &[Some(880)]);
    assert_eq!(feed(&mut m, 600_000, &[Some(880)]), []);
}

#[test]
fn details_are_for_people() {
    let mut m = Monitor::new();
    let said = m.step(Some(&facts(Some(850), 100)), Millis(0), &policy(), BootMs(0));
    assert_eq!((said[0].resource, said[0].detail.as_str()), (Resource::Cpu, "cpu 85 %, held 0 ms of 30 s"));
}

#[test]
fn no_gpu_is_no_pressure_and_a_silent_driver_is_unknown() {
    let mut f = facts(Some(10), 10);
    assert_eq!(levels(&f).gpu, Some(0.0));
    f.gpus = Gpus::Unknown("NVML".into());
    assert_eq!(levels(&f).gpu, None);
    let gpu = GpuFacts {
        index: 0,
        name: "x".into(),
        memory_total: Bytes(100),
        memory_used: Bytes(95),
        utilization_percent: 3,
    };
    f.gpus = Gpus::Present(vec![gpu]);
    assert_eq!(levels(&f).gpu, Some(0.95));
}

#[test]
fn the_mean_is_over_what_is_known() {
    assert_eq!(mean(&[]), None);
    let unknown = levels(&facts(None, 500));
    assert_eq!(mean(&[unknown]), Some(0.5));
    assert_eq!(mean(&[unknown, levels(&facts(Some(500), 500))]), Some(0.5));
}

proptest! {
    #[test]
    fn levels_are_monotonic(cpu in 0u32..1_500, mem in 0u64..1_000, some in 0.0..100.0f64, full in 0.0..100.0f64,
                            more in 0u32..500, up in 0.0..50.0f64) {
        let with = |cpu, mem, some, full| {
            let mut f = facts(Some(cpu), mem);
            f.psi_cpu = Some(Psi { some_avg10: some, full_avg10: 0.0 });
            f.psi_memory = Some(Psi { some_avg10: some, full_avg10: full });
            levels(&f)
        };
        let low = with(cpu, mem, some, full);
        for high in [with(cpu + more, mem, some, full), with(cpu, (mem + u64::from(more)).min(1_000), some, full),
                     with(cpu, mem, some + up, full), with(cpu, mem, some, full + up)] {
            prop_assert!(high.cpu >= low.cpu && high.memory >= low.memory);
            prop_assert!((0.0..=1.0).contains(&high.memory.unwrap()));
        }
    }
}
