//! The termination against an application in memory, on virtual time, with and without offload.

mod datagrams;
mod fuzz;
mod limits;
mod tcp;
mod world;
