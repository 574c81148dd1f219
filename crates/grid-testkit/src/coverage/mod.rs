//! What people run on a workstation, and what grid answers: the list, a run of it on a real cluster, and the tables.
//!
//! Owns `tests/coverage.toml`'s form ([`list`]), its run ([`run`]) and what is written about it ([`table`]). The rule that
//! a run enforces: the answer is the expected one, and nothing that was found fit to move fails to. Programs are real
//! ones that nobody here wrote; each entry checks that its program's work went on and came out right.

mod asked;
pub mod kit;
pub mod list;
pub mod run;
pub mod suite;
pub mod table;
