//! How the agent comes back: properties of the delays alone, of the whole machine under anything that
//! a network may do, and of ten thousand agents after an outage.

mod bench;
mod delays;
mod fleet;
mod model;
mod network;

use std::time::Duration;

use controlplane_core::{Backoff, Down};
use proptest::{collection, option, prelude::*};

use self::{
    bench::{Bench, refused},
    network::{Answer, Dial, End, Noise, Script, Session},
};
use crate::properties::config;

// ---------------------------------------------------------------- delays

/// Any span, with those that matter.
fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0..1u64 << 40).prop_map(Duration::from_nanos),
        (0..1u64 << 30).prop_map(Duration::from_millis),
        Just(Duration::ZERO),
        Just(Duration::MAX),
        (any::<u64>(), 0..1_000_000_000u32).prop_map(|(s, n)| Duration::new(s, n)),
    ]
}

fn any_backoff() -> impl Strategy<Value = Backoff> {
    (span(), span(), span(), span()).prop_map(|(base, max, stable, retry_after_max)| Backoff {
        base,
        max,
        stable,
        retry_after_max,
    })
}

/// Such as a configuration may hold: up to ten years.
fn sane_backoff() -> impl Strategy<Value = Backoff> {
    let ten_years = 10 * 365 * 86_400_000u64;
    (1..ten_years, 0..ten_years, 0..ten_years).prop_map(|(base, more, cap)| Backoff {
        base: Duration::from_millis(base),
        max: Duration::from_millis(base + more),
        stable: Duration::from_secs(60),
        retry_after_max: Duration::from_millis(cap),
    })
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn p087_a_delay_is_between_half_the_ceiling_and_the_ceiling(
        backoff in sane_backoff(), failures: u32, entropy: u64,
    ) {
        let ceiling = backoff.ceiling(failures);
        let delay = backoff.delay(failures, None, entropy);
        prop_assert!(delay >= ceiling / 2 && delay <= ceiling);
        prop_assert!(ceiling >= backoff.base && ceiling <= backoff.max);
    }

    #[test]
    fn p087_ceilings_never_fall_and_double_until_the_last(
        backoff in sane_backoff(), failures in 1..u32::MAX - 1,
    ) {
        let ceiling = backoff.ceiling(failures);
        let next = backoff.ceiling(failures + 1);
        prop_assert!(next >= ceiling);
        prop_assert!(next <= ceiling * 2);
        if next < backoff.max && failures < 31 {
            prop_assert_eq!(next, ceiling * 2);
        }
    }

    #[test]
    fn p087_retry_after_is_a_capped_lower_bound_with_jitter(
        backoff in sane_backoff(), failures: u32, asked in span(), entropy: u64,
    ) {
        let granted = asked.min(backoff.retry_after_max);
        let own = backoff.delay(failures, None, entropy);
        let delay = backoff.delay(failures, Some(asked), entropy);
        prop_assert!(delay >= granted && delay >= own);
        let jitter = granted.max(backoff.ceiling(failures)) / 2;
        prop_assert!(delay <= own.max(granted + jitter));
        let latest = backoff.delay(failures, Some(asked), u64::MAX);
        prop_assert!(jitter < Duration::from_millis(2) || latest > granted, "no jitter");
    }

    #[test]
    fn no_backoff_panics(
        backoff in any_backoff(), failures: u32, asked in proptest::option::of(span()),
        entropy: u64,
    ) {
        let delay = backoff.delay(failures, asked, entropy);
        let granted = asked.map_or(Duration::ZERO, |asked| asked.min(backoff.retry_after_max));
        prop_assert!(delay >= granted.max(backoff.ceiling(failures) / 2));
    }
}

// ---------------------------------------------------------------- the machine

fn millis(most: u64) -> impl Strategy<Value = Duration> {
    (1..most).prop_map(Duration::from_millis)
}

fn down() -> impl Strategy<Value = Down> {
    let retry_after = || option::of((0..1000u64).prop_map(Duration::from_secs));
    let status = prop_oneof![Just(429u16), Just(503), Just(409), any::<u16>()];
    prop_oneof![
        2 => Just(Down::Lost("refused".into())),
        2 => (status, retry_after()).prop_map(|(status, retry_after)| Down::Refused {
            status,
            retry_after,
        }),
        1 => prop_oneof![Just(401u16), Just(403)].prop_map(refused),
        1 => any::<u16>().prop_map(closed),
        1 => Just(closed(4001)),
    ]
}

fn closed(code: u16) -> Down {
    let reason = "so it is".to_string();
    Down::Closed { code, reason }
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        2 => Just(End::Lost),
        1 => any::<u16>().prop_map(End::Closed),
        1 => prop_oneof![Just(4001u16), Just(1000), Just(1012)].prop_map(End::Closed),
        1 => Just(End::Silent),
        1 => Just(End::Stuck),
        1 => Just(End::TooBig),
    ]
}

/// Shorter than a stable link, about as long, longer.
fn up() -> impl Strategy<Value = Duration> {
    prop_oneof![
        millis(5_000),
        (59_000..61_000u64).prop_map(Duration::from_millis),
        Just(Duration::from_secs(60)),
        millis(600_000),
    ]
}

fn session() -> impl Strategy<Value = Session> {
    let answer = prop_oneof![
        1 => Just(Answer::Nothing),
        1 => Just(Answer::Refusal),
        1 => Just(Answer::NoCluster),
        6 => any::<u8>().prop_map(Answer::Cluster),
    ];
    (0..8u32, answer, up(), option::weighted(0.3, up()), end()).prop_map(
        |(in_progress, answer, up, forgotten, end)| Session {
            in_progress: in_progress.saturating_sub(3),
            answer,
            up,
            forgotten,
            end,
        },
    )
}

fn dial() -> impl Strategy<Value = Dial> {
    prop_oneof![
        3 => (millis(40_000), down()).prop_map(|(after, down)| Dial::Fails(after, down)),
        1 => Just(Dial::Silent),
        4 => (millis(35_000), session()).prop_map(|(after, session)| Dial::Connects(after, session)),
    ]
}

fn noise() -> impl Strategy<Value = Noise> {
    prop_oneof![
        any::<u32>().prop_map(|seconds| Noise::Clock(seconds.into())),
        Just(Noise::Backwards),
        (any::<bool>(), any::<u8>()).prop_map(|(future, what)| Noise::Late(future, what)),
        Just(Noise::Tick),
    ]
}

fn script(names_gateway: bool) -> impl Strategy<Value = Script> {
    let gateway = if names_gateway { 0..12 } else { 0..1 };
    let controller = collection::vec_deque(dial(), 0..16);
    let gateway = collection::vec_deque(dial(), gateway);
    let noise = collection::vec(noise(), 0..60);
    (controller, gateway, noise).prop_map(move |(controller, gateway, noise)| Script {
        controller,
        gateway,
        names_gateway,
        noise,
    })
}

proptest! {
    #![proptest_config(config(200))]

    /// P-176, P-181, P-183, P-169, P-175: see the model for all that is looked at.
    #[test]
    fn p176_whatever_the_network_does_the_agent_comes_back(
        script in script(false), nonce: [u8; 16],
    ) {
        Bench::new(script, nonce).run().map_err(TestCaseError::fail)?;
    }

    /// P-180: the controller's link serves until the gateway's stands; P-182, P-184.
    #[test]
    fn p180_a_gateway_that_fails_costs_no_link(script in script(true), nonce: [u8; 16]) {
        Bench::new(script, nonce).run().map_err(TestCaseError::fail)?;
    }
}
