//! Properties over all arguments.

use controlplane_world::fuzz;
use proptest::prelude::*;

/// Regressions become tests of their own; nothing is written next to the sources.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
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

    #[test]
    fn what_one_machine_says_the_other_hears(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
        fuzz::roundtrip(&data);
    }
}
