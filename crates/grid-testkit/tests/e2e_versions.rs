//! A cluster of the grid of one version back is taken over by this one, with processes away: what was started by the older
//! program lives on beside the newer one. `make test-upgrade` builds the older one and runs this.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest};
use grid_testkit::lab::Lab;

fn take_over(cluster: &mut Cluster) {
    cluster.behead();
    cluster.by_the_tested();
    let file = cluster.dir().join("cluster.yaml").to_string_lossy().into_owned();
    cluster.up_again(&["--config", &file]);
    cluster.wait_heard();
}

#[test]
#[ignore = "needs the grid of one version back: make test-upgrade"]
fn what_an_older_grid_moved_comes_home_to_this_one() {
    let lab = Lab::start();
    let Some(mut cluster) = Cluster::one_version_back(&lab.config("home")) else { return };
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    let (guest, pid) = Guest::counting(&cluster);
    let out = cluster.move_out(pid);
    guest.writes_on();
    let prover = Guest::reporting(&cluster, "prover", "--memory 64MiB --steps 1000000");
    let proven = cluster.move_out(prover.pid());
    take_over(&mut cluster);
    println!("{}", cluster.grid(&["status"]).out);
    guest.writes_on();
    prover.goes_on();
    cluster.bring_home(out.record.id.as_str());
    guest.writes_on();
    cluster.bring_home(proven.record.id.as_str());
    prover.goes_on();
    let again = cluster.move_out(pid);
    guest.writes_on();
    cluster.bring_home(again.record.id.as_str());
    prover.never_went_back();
}
