//! Seeds of `yamux_decode`: frames; and of `yamux_calls`: schedules.

use controlplane_world::{mux::encode, rng::mix};

use super::Seed;

const DATA: u8 = 0;
const UPDATE: u8 = 1;
const PING: u8 = 2;
const AWAY: u8 = 3;

const SYN: u16 = 1;
const ACK: u16 = 2;
const FIN: u16 = 4;
const RST: u16 = 8;

pub(super) fn yamux_decode() -> Vec<Seed> {
    let header = |kind, flags, id, length| encode(kind, flags, id, length, b"");
    let hello = |flags, id| encode(DATA, flags, id, 5, b"hello");
    vec![
        (
            "opened_by_either_role",
            [header(UPDATE, SYN, 1, 0), header(UPDATE, SYN, 2, 0)].concat(),
        ),
        ("accepted", header(UPDATE, ACK, 2, 0)),
        ("data_that_opens", hello(SYN, 1)),
        ("data_that_accepts", hello(ACK, 2)),
        ("data_that_ends", [hello(SYN, 1), hello(FIN, 1)].concat()),
        (
            "data_after_the_end",
            [hello(SYN | FIN, 1), hello(0, 1)].concat(),
        ),
        ("reset", [hello(SYN, 1), header(UPDATE, RST, 1, 0)].concat()),
        (
            "reset_in_data",
            [hello(SYN, 1), hello(RST, 1), hello(0, 1)].concat(),
        ),
        ("opened_twice", [hello(SYN, 1), hello(SYN, 1)].concat()),
        (
            "opened_out_of_order",
            [hello(SYN, 9), hello(SYN, 3), hello(SYN, 7)].concat(),
        ),
        ("used_before", [hello(SYN | RST, 9), hello(SYN, 9)].concat()),
        (
            "refused_twice",
            [hello(SYN | RST, 9), hello(SYN, 9), hello(SYN, 9)].concat(),
        ),
        ("granted_too_much", header(UPDATE, 0, 2, u32::MAX)),
        (
            "more_than_the_window",
            [header(UPDATE, SYN, 1, 0), header(DATA, 0, 1, 262_145)].concat(),
        ),
        ("for_nobody", hello(0, 77)),
        (
            "last_id",
            [hello(SYN, u32::MAX), hello(SYN, u32::MAX - 1)].concat(),
        ),
        (
            "ping",
            [header(PING, SYN, 0, 7), header(PING, ACK, 0, 0)].concat(),
        ),
        ("pings", header(PING, SYN, 0, 1).repeat(2000)),
        ("gone_away", [header(AWAY, 0, 0, 0), hello(SYN, 1)].concat()),
        ("gone_away_in_anger", header(AWAY, 0, 0, 1)),
        ("version_1", vec![1; 12]),
        ("type_4", header(4, 0, 0, 0)),
        ("half_a_header", vec![0; 7]),
        ("half_a_payload", encode(DATA, SYN, 1, 500, b"half")),
    ]
}

/// Schedules as they come.
pub(super) fn yamux_calls() -> Vec<Seed> {
    let bytes = |first: u8, seed: u64| {
        let rest = (0..40).flat_map(|n| mix(seed << 8 | n).to_le_bytes());
        [first].into_iter().chain(rest).collect()
    };
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let of = |prefix: &str, first: u8| -> Vec<Seed> {
        let seeds = names.iter().zip(0..);
        seeds
            .map(|(name, n)| {
                let name: &'static str = format!("{prefix}_{name}").leak();
                (name, bytes(first, n))
            })
            .collect()
    };
    [of("two_ends", 0), of("hostile", 1)].concat()
}
