//! Streams between a shadow at home and a moved tree: the protocol, the shadow's program, and the relay beside the tree.

pub mod mux;

pub mod config;
pub mod control;
