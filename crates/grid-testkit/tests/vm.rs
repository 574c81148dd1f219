//! Machines with a kernel and a disk of their own: pure cgroup v2, systemd, a worker that is reached by ssh and loses its power.
//! Emulated, so minutes long: `make test-vm` runs them.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::vm::{Cable, Vm};
use std::path::PathBuf;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Counts into its output, which is the journal's, and into a file. Program and file are on the machine that starts it only.
const SERVICE: &str = r#"
cat >/home/alice/count.py <<'E'
import itertools, sys, time
with open(f"{sys.argv[1]}.log", "a", buffering=1) as log:
    for n in itertools.count():
        print(n, flush=True)
        log.write(f"{n}\n")
        time.sleep(0.02)
E
"#;

/// That so many lines and more are in the journal of a unit, each once and in its order; how many.
fn counted(unit: &str, least: u32) -> String {
    format!(
        "journalctl -u {unit} -o cat | grep -E '^[0-9]+$' | \
         awk '$1 != NR - 1 {{ print \"line\", NR, \"is\", $1; bad = 1; exit }} END {{ print NR; exit bad || NR < {least} }}'"
    )
}

fn ready(vm: &mut Vm) {
    vm.wait_up().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(vm.run("stat -fc %T /sys/fs/cgroup").unwrap().trim(), "cgroup2fs");
}

/// The package, as people install it.
fn install(vm: &Vm) {
    let package = PathBuf::from(std::env::var_os("GRID_DEB").expect("GRID_DEB: make test-vm sets it"));
    vm.put(&[&package], "/opt").unwrap();
    vm.run("dpkg -i /opt/grid.deb && grid --version && grid doctor").unwrap();
}

fn is_ready(vm: &Vm, what: &str) {
    let ready = "grid status && [ $(grid status | grep -c ' ready ') -ge 1 ] || { journalctl -u grid -o cat; false; }";
    vm.wait(what, SOON * 3, ready).unwrap();
}

fn pid(vm: &Vm, unit: &str) -> String {
    vm.run(&format!("systemctl show -p MainPID --value {unit}")).unwrap().trim().to_owned()
}

fn start(vm: &Vm, unit: &str) {
    let folder = "-p WorkingDirectory=/home/alice";
    vm.run(&format!("systemd-run -q --unit {unit} --uid alice {folder} /usr/bin/python3 count.py {unit}")).unwrap();
    vm.wait("some lines", SOON, &counted(unit, 20)).unwrap();
}

fn move_out(vm: &Vm, unit: &str) {
    vm.run(&format!("grid offload execute {}", pid(vm, unit))).unwrap();
}

#[test]
#[ignore = "a virtual machine: make test-vm"]
fn a_service_moves_under_pure_cgroup_v2_and_its_journal_has_every_line() {
    if let Err(why) = Vm::disk() {
        return println!("SKIPPED: {why}");
    }
    let mut vm = Vm::start(1, &Cable::new().unwrap()).unwrap();
    ready(&mut vm);
    install(&vm);
    vm.run("systemd-run -q --unit grid-up /usr/bin/grid up --local 2").unwrap();
    is_ready(&vm, "its workers");
    vm.run(SERVICE).unwrap();
    start(&vm, "job");
    let job = pid(&vm, "job");

    vm.run("grid boost request head --cpu 1 --memory 256M --duration 20m").unwrap();
    vm.run(&format!("grid offload execute {job}")).unwrap();
    let limits =
        vm.run("cd /sys/fs/cgroup/grid-*/gpu*/b-*/ && cat memory.max cpu.max && cat */cgroup.procs | wc -l").unwrap();
    assert_eq!(limits.split_whitespace().take(3).collect::<Vec<_>>(), ["268435456", "100000", "100000"], "{limits}");
    vm.wait("lines from there", SOON, &counted("job", 100)).unwrap();
    assert!(vm.run(&format!("ps -o args= -p {job}")).unwrap().starts_with("grid-shadow: python3 count.py @gpu"));

    vm.run(&format!("grid offload recall {job}")).unwrap();
    vm.wait("lines at home", SOON, &counted("job", 150)).unwrap();
    vm.run("systemctl is-active job && systemctl stop job && ! systemctl is-failed job").unwrap();
    vm.run("awk '$1 != NR - 1 { exit 1 }' /home/alice/job.log").unwrap();
    vm.run("grid down").unwrap();
    vm.wait("nothing to be left", SOON, "! ls -d /sys/fs/cgroup/grid-* && ! pgrep -x 'grid|criu'").unwrap();
}

/// A head with a service of grid's, whose one worker it reaches by ssh.
fn two(further: &str) -> (Vm, Vm) {
    let cable = Cable::new().unwrap();
    let (mut head, mut worker) = (Vm::start(1, &cable).unwrap(), Vm::start(2, &cable).unwrap());
    [&mut head, &mut worker].into_iter().for_each(ready);
    install(&head);
    let there = Vm::address(2);
    let key = std::fs::read_to_string(Vm::disk().unwrap().with_file_name("key")).unwrap();
    head.run(&format!(
        "umask 077; cat >/root/.ssh/id_ed25519 <<'E'\n{key}E\nssh-keyscan -t ed25519 {there} >/root/.ssh/known_hosts 2>/dev/null
mkdir /etc/grid; cat >/etc/grid/cluster.yaml <<'E'
name: two
nodes:
  - {{name: head, role: head, resource_sharing: {{can_share: false}}}}
  - {{name: gpu1, host: {there}, role: worker, cpu_count: 2, memory_gb: 1}}
execution: {{engine: ssh, files: home}}
{further}
E"
    ))
    .unwrap();
    head.run("grid service install --dry-run && ! systemctl is-enabled grid && grid service install").unwrap();
    (head, worker)
}

/// A newer grid in the place of the package's: the service becomes it, and so does the worker.
fn upgrade(head: &Vm, worker: &Vm) {
    let main = || head.run("systemctl show -p MainPID --value grid").unwrap();
    let before = main();
    head.run(
        "cd /usr/bin && cp -p grid grid.new && echo newer >>grid.new && mv grid.new grid && systemctl reload grid",
    )
    .unwrap();
    assert_eq!(main(), before);
    head.run("grid status && cmp /proc/$(systemctl show -p MainPID --value grid)/exe /usr/bin/grid").unwrap();
    let sum = head.run("sha256sum </usr/bin/grid").unwrap();
    let is_it = format!("for pid in $(pgrep -x grid); do sha256sum </proc/$pid/exe; done | grep -q '{}'", sum.trim());
    worker.wait("its daemons to be the newer grid", SOON, &is_it).unwrap();
    is_ready(head, "the worker");
}

#[test]
#[ignore = "two virtual machines: make test-vm"]
fn between_two_machines_it_moves_and_a_power_cut_is_told_as_a_loss() {
    if let Err(why) = Vm::disk() {
        return println!("SKIPPED: {why}");
    }
    let (mut head, mut worker) = two("");
    is_ready(&head, "the worker");
    head.run(SERVICE).unwrap();
    start(&head, "job");
    head.run("grid boost request head --cpu 1 --memory 256M --duration 1h").unwrap();
    move_out(&head, "job");
    worker.run("pgrep -u alice -f count.py").unwrap();
    worker.run("grep -q node-run /proc/$(systemctl show -p MainPID --value 'grid-*-gpu1.service')/cmdline").unwrap();
    head.wait("lines from there", SOON, &counted("job", 100)).unwrap();
    upgrade(&head, &worker);
    head.wait("lines from there behind it", SOON, &counted("job", 150)).unwrap();
    head.run(&format!("grid offload recall {}", pid(&head, "job"))).unwrap();
    head.wait("lines at home", SOON, &counted("job", 200)).unwrap();
    head.run("awk '$1 != NR - 1 { exit 1 } END { exit NR < 200 }' /home/alice/job.log").unwrap();
    worker.run("[ -z \"$(ls /home/alice)\" ]").unwrap();

    // Nobody can know how far it ran: it is lost, said to be, and does not run again.
    move_out(&head, "job");
    worker.power_cut();
    head.wait("the worker to be missed", SOON, "grid status | grep -q 'gpu1 *silent'").unwrap();
    head.run("systemctl is-active job").unwrap();
    worker.boot_again().unwrap();
    head.wait("the loss to be told", SOON * 2, "systemctl show -p ExecMainStatus job | grep -qx ExecMainStatus=113")
        .unwrap();
    head.run(&counted("job", 150)).unwrap();
    head.run("journalctl -u job -o cat | grep -q 'it is lost, and with it how far it came'").unwrap();
    worker.run("! pgrep -u alice -f count.py").unwrap();

    start(&head, "next");
    move_out(&head, "next");
    worker.run("pgrep -u alice -f count.py").unwrap();
    head.wait("lines from there", SOON, &counted("next", 100)).unwrap();

    // It is there again after a boot of the head. Removed, it brings everything home first, and leaves nothing of its own.
    // What was written a moment ago would be lost with the power.
    head.run("sync").unwrap();
    head.power_cut();
    head.boot_again().unwrap();
    is_ready(&head, "the service after a boot");
    start(&head, "last");
    // The worker's daemons are started anew when ssh comes back: one that is asked just then answers later.
    head.wait("a boost", SOON, "grid boost request head --cpu 1 --memory 256M --duration 1h").unwrap();
    move_out(&head, "last");
    head.run("grid uninstall --list && dpkg --purge grid").unwrap();
    head.wait("lines at home", SOON, &counted("last", 100)).unwrap();
    head.run("systemctl is-active last && ! ls -d /var/lib/grid /usr/lib/grid /usr/bin/grid 2>/dev/null").unwrap();
    worker.wait("nothing to be left", SOON, "! ls -d /sys/fs/cgroup/grid-* && ! pgrep -x 'grid|criu'").unwrap();
    worker.run("! systemctl list-units --all 'grid-*' | grep -q grid-").unwrap();
}

/// The cable's end in a machine.
const CABLE: &str = "dev $(ip -o -4 addr show | awk '$4 ~ /^10.9.0/ { print $2 }')";

#[test]
#[ignore = "two virtual machines: make test-vm"]
fn a_line_that_loses_packets_a_clock_that_is_set_and_a_sleep_cost_no_line_of_output() {
    if let Err(why) = Vm::disk() {
        return println!("SKIPPED: {why}");
    }
    let (head, worker) = two("limits: {max_frozen: 2m}");
    is_ready(&head, "the worker");
    head.run(SERVICE).unwrap();
    start(&head, "job");
    for vm in [&head, &worker] {
        vm.run(&format!("tc qdisc add {CABLE} root netem delay 2ms 1ms loss 1% reorder 5%")).unwrap();
    }
    head.run("grid boost request head --cpu 1 --memory 256M --duration 1h").unwrap();
    move_out(&head, "job");
    head.wait("lines over a bad line", SOON, &counted("job", 100)).unwrap();

    // A lease ends by a clock that nobody sets, and what is away comes home whatever the time is there.
    worker.run("date -s '+2 hours'").unwrap();
    let seen: u32 = head.run(&counted("job", 100)).unwrap().trim().parse().unwrap();
    head.wait("lines under a wrong clock", SOON, &counted("job", seen + 200)).unwrap();
    head.run("grid boost list | grep -qE '^b-.* gpu1 .* 5[0-9]m'").unwrap();
    head.run(&format!("grid offload recall {}", pid(&head, "job"))).unwrap();
    move_out(&head, "job");
    worker.run("date -s '-2 hours'").unwrap();

    // The kernel puts nobody to sleep who waits for home's files: systemd has its guests stand still first.
    worker.run("rtcwake -m no -s 40 && systemctl suspend").unwrap();
    let grid = "/var/lib/grid/workers/grid-*-gpu1/bin/grid --state /var/lib/grid/workers";
    head.wait("the worker to be missed", SOON, "grid status | grep -q 'gpu1 *silent'").unwrap();
    is_ready(&head, "the worker after its sleep");
    worker.wait("its guests to be let run", SOON, &format!("! {grid} lend status | grep asleep")).unwrap();
    worker.run("dmesg | grep -q 'PM: suspend exit' && journalctl -b -o cat | grep -q '1 guest stands still'").unwrap();
    let seen: u32 = head.run(&counted("job", 100)).unwrap().trim().parse().unwrap();
    head.wait("lines after a sleep", SOON, &counted("job", seen + 100)).unwrap();
    head.run(&format!("grid offload recall {}", pid(&head, "job"))).unwrap();
    head.run("awk '$1 != NR - 1 { exit 1 }' /home/alice/job.log").unwrap();
    worker.run("! pgrep -u alice -f count.py").unwrap();
}
