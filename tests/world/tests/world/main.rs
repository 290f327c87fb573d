//! The simulation, what proves that its oracle sees, the properties, and the replay of the
//! fuzzers' corpus.

mod corpus;
mod oracle;
mod properties;
mod simulation;
