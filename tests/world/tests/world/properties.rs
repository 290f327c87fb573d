//! Properties over all arguments.

use std::time::Duration;

use controlplane_core::Backoff;
use controlplane_world::fuzz;
use proptest::prelude::*;

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

/// Regressions become tests of their own; nothing is written next to the sources.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
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

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn p164_no_order_of_calls_harms_the_agent(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
        fuzz::agent_calls(&data);
    }

    #[test]
    fn p164_no_order_of_calls_harms_the_controller(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
        fuzz::controller_calls(&data);
    }

    #[test]
    fn p159_no_message_harms_either(data in proptest::collection::vec(any::<u8>(), 0..500)) {
        fuzz::decode(&data);
    }
}
