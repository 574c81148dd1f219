//! Every step of a handover is made to fail, and hangs while something around it dies, is cut off or sleeps. Afterwards
//! exactly one copy runs; or, where nobody can know how far it ran, one is held and reported as in doubt.
//!
//! A scenario is a way to reach the step, the step, and a damage. The lists of steps are exhaustive matches over
//! [`FaultPoint`]: a new step without its scenarios does not compile.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

mod faults;

use faults::{Damage, Reach, Stage, Way, reach};
use grid_types::fault::FaultPoint;

const BOOST: &str = "--cpu 1 --memory 1GiB --duration 30m";

/// Every step that is reached in this way, with this damage, one after the other on one cluster.
fn try_all(damage: Damage, ways: &[Reach]) {
    try_on(Way::Out, damage, ways);
}

fn try_on(way: Way, damage: Damage, ways: &[Reach]) {
    let Some(stage) = Stage::set(BOOST, way) else { return };
    let mut tried = 0;
    for point in FaultPoint::ALL.iter().filter(|p| way.passes(**p, ways)) {
        stage.play(*point, reach(*point), damage);
        tried += 1;
    }
    println!("faults: {tried} tried and survived: {damage:?} {way:?}");
}

const MOVE: &[Reach] = &[Reach::Move];
/// Where the attempt does not go straight.
const ASIDE: &[Reach] = &[
    Reach::Leave,
    Reach::Refused,
    Reach::Broken,
    Reach::Signals,
    Reach::Fence,
    Reach::Asked,
    Reach::Doubt,
    Reach::End,
];

#[test]
fn each_step_of_a_move_fails() {
    try_all(Damage::Fail, MOVE);
}

#[test]
fn the_source_s_agent_is_killed_at_each_step_of_a_move() {
    try_all(Damage::KillSource, MOVE);
}

#[test]
fn the_destination_s_agent_is_killed_at_each_step_of_a_move() {
    try_all(Damage::KillDestination, MOVE);
}

#[test]
fn the_daemon_is_killed_at_each_step_of_a_move() {
    try_all(Damage::KillDaemon, MOVE);
}

#[test]
fn the_worker_is_killed_at_each_step_of_a_move() {
    try_all(Damage::KillWorker, MOVE);
}

#[test]
fn the_link_is_cut_at_each_step_of_a_move() {
    try_all(Damage::CutLink, MOVE);
}

#[test]
fn the_worker_sleeps_past_every_deadline_at_each_step_of_a_move() {
    try_all(Damage::Sleep, MOVE);
}

#[test]
fn each_step_aside_fails() {
    try_all(Damage::Fail, ASIDE);
}

#[test]
fn the_source_s_agent_is_killed_at_each_step_aside() {
    try_all(Damage::KillSource, ASIDE);
}

#[test]
fn the_destination_s_agent_is_killed_at_each_step_aside() {
    try_all(Damage::KillDestination, ASIDE);
}

#[test]
fn both_agents_and_the_daemon_are_killed_at_each_step() {
    try_all(Damage::KillAll, &[MOVE, ASIDE].concat());
}

#[test]
fn each_step_of_the_way_home_fails() {
    try_on(Way::Home, Damage::Fail, MOVE);
}

#[test]
fn the_lender_s_agent_is_killed_at_each_step_of_the_way_home() {
    try_on(Way::Home, Damage::KillSource, MOVE);
}

#[test]
fn the_agent_at_home_is_killed_at_each_step_of_the_way_home() {
    try_on(Way::Home, Damage::KillDestination, MOVE);
}

#[test]
#[ignore = "minutes: make test-long"]
fn the_worker_is_killed_at_each_step_of_the_way_home() {
    try_on(Way::Home, Damage::KillWorker, MOVE);
}

#[test]
#[ignore = "minutes: make test-long"]
fn the_link_is_cut_at_each_step_of_the_way_home() {
    try_on(Way::Home, Damage::CutLink, MOVE);
}

#[test]
#[ignore = "minutes: make test-long"]
fn the_worker_sleeps_past_every_deadline_at_each_step_of_the_way_home() {
    try_on(Way::Home, Damage::Sleep, MOVE);
}

#[test]
fn each_step_of_parking_fails() {
    try_on(Way::Park, Damage::Fail, MOVE);
}

#[test]
#[ignore = "minutes: make test-long"]
fn the_agent_at_home_is_killed_at_each_step_of_parking() {
    try_on(Way::Park, Damage::KillSource, MOVE);
}

#[test]
fn the_agent_of_the_disk_is_killed_at_each_step_of_parking() {
    try_on(Way::Park, Damage::KillDestination, MOVE);
}

#[test]
#[ignore = "minutes: make test-long"]
fn the_machine_of_the_disk_is_killed_at_each_step_of_parking() {
    try_on(Way::Park, Damage::KillWorker, MOVE);
}

#[test]
#[ignore = "minutes: make test-long"]
fn both_agents_and_the_daemon_are_killed_at_each_step_of_parking() {
    try_on(Way::Park, Damage::KillAll, MOVE);
}

#[test]
fn each_step_of_unparking_fails() {
    try_on(Way::Unpark, Damage::Fail, MOVE);
}

#[test]
#[ignore = "minutes: make test-long"]
fn the_agent_of_the_disk_is_killed_at_each_step_of_unparking() {
    try_on(Way::Unpark, Damage::KillSource, MOVE);
}

#[test]
#[ignore = "minutes: make test-long"]
fn the_agent_at_home_is_killed_at_each_step_of_unparking() {
    try_on(Way::Unpark, Damage::KillDestination, MOVE);
}

#[test]
fn the_machine_of_the_disk_is_killed_at_each_step_of_unparking() {
    try_on(Way::Unpark, Damage::KillWorker, MOVE);
}

#[test]
fn both_agents_and_the_daemon_are_killed_at_each_step_of_unparking() {
    try_on(Way::Unpark, Damage::KillAll, MOVE);
}
