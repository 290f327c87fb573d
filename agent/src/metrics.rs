//! The agent's metrics: where the link stands, what its machine counted, and until when the
//! certificates of the link are valid.

use std::{fs, path::Path};

use controlplane_driver::{State, Stats, TlsOptions};
use controlplane_health::{Labels, Page, Role, machines, not_after, not_after_pem};

use crate::VERSION;

/// Where the link can stand.
const STATES: [&str; 7] = [
    "starting",
    "connecting",
    "registering",
    "registered",
    "waiting",
    "draining",
    "stopped",
];

/// The certificates of the link to the control plane.
pub(crate) struct Certificates<'a> {
    /// Settings with the client's, and with the authorities.
    pub(crate) tls: &'a TlsOptions,
    /// What the control plane showed last.
    pub(crate) controller: Option<Vec<u8>>,
}

/// The page; `state` is unknown as long as the agent starts.
pub(crate) fn page(
    runtime: &str,
    state: Option<&State>,
    stats: Stats,
    certificates: &Certificates<'_>,
) -> String {
    let mut page = Page::new("controlplane_agent");
    let facts = vec![("version", VERSION.into()), ("runtime", runtime.into())];
    page.info("build", "Version and async runtime.", facts);
    let now = name(state);
    let states = STATES.map(|each| (vec![("state", each.into())], i64::from(each == now)));
    let help = "Where the link to the control plane stands: 1 for that state.";
    page.gauges("connection_state", help, states.into());
    let help = "Whether requests are served, as /readyz tells it.";
    let registered = i64::from(now == "registered");
    page.gauges("registered", help, vec![(vec![], registered)]);
    page.gauges(
        "certificate_not_after_timestamp_seconds",
        "When a certificate of the link ends: the control plane's as it was last seen, the client's, \
         and of the CA file the one that ends first.",
        certificates.ends(),
    );
    machines(&mut page, Role::Agent, &[(vec![], stats)]);
    page.text()
}

fn name(state: Option<&State>) -> &'static str {
    match state {
        None => "starting",
        Some(State::Registering) => "registering",
        Some(State::Registered(_)) => "registered",
        Some(State::Waiting { .. }) => "waiting",
        Some(State::Draining) => "draining",
        Some(State::Stopped) => "stopped",
        Some(_) => "connecting",
    }
}

impl Certificates<'_> {
    /// A file that cannot be read has none here; the next dial tells why.
    fn ends(&self) -> Vec<(Labels, i64)> {
        let given = |file: Option<&Path>, text: &[u8]| match file {
            Some(path) => not_after_pem(&fs::read(path).unwrap_or_default()),
            None => not_after_pem(text),
        };
        let TlsOptions {
            ca_file, cert_file, ..
        } = self.tls;
        let seen = self.controller.as_deref().and_then(not_after);
        // The client's own is the first of its chain.
        let client = given(cert_file.as_deref(), &self.tls.cert_pem);
        let authorities = given(ca_file.as_deref(), &self.tls.ca_pem);
        let all = [
            ("controller", seen),
            ("client", client.first().copied()),
            ("ca", authorities.into_iter().min()),
        ];
        let ends = all.into_iter().filter_map(|(name, end)| {
            let labels = vec![("certificate", name.into())];
            end.map(|end| (labels, end))
        });
        ends.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_the_link_is_one_of_all() {
        let tls = TlsOptions::default();
        let page = |state: Option<&State>| {
            let certificates = Certificates {
                tls: &tls,
                controller: None,
            };
            page("tokio", state, Stats::default(), &certificates)
        };
        let registered = State::Registered(controlplane_driver::Registration::default());
        for (state, name) in [
            (None, "starting"),
            (Some(&State::Connecting), "connecting"),
            (Some(&State::Registering), "registering"),
            (Some(&registered), "registered"),
            (Some(&State::Draining), "draining"),
            (Some(&State::Stopped), "stopped"),
        ] {
            let text = page(state);
            let is_on = |line: &&str| line.contains("_state{") && line.ends_with("} 1");
            let on: Vec<&str> = text.lines().filter(is_on).collect();
            let expected = format!("controlplane_agent_connection_state{{state=\"{name}\"}} 1");
            assert_eq!(on, [expected]);
            let ready = format!(
                "controlplane_agent_registered {}",
                u8::from(name == "registered")
            );
            assert!(text.lines().any(|line| line == ready), "{text}");
        }
    }

    #[test]
    fn certificates_that_are_not_there_have_no_sample() {
        let tls = TlsOptions {
            ca_file: Some("/nonexistent".into()),
            ..TlsOptions::default()
        };
        let certificates = Certificates {
            tls: &tls,
            controller: Some(b"no certificate".to_vec()),
        };
        assert_eq!(certificates.ends(), []);
    }
}
