//! Health checks and metrics, on a listener of their own: the public one must not show to everybody
//! which clusters there are and what happens in them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use controlplane_driver::CodeClass;
use controlplane_health::{Health, Labels, Page, Role, machines};
use http::StatusCode;
use tokio::{sync::watch, time::Instant};

use crate::server::App;

/// What the server has answered, by class: the Kubernetes API's answers and its own.
#[derive(Debug, Default)]
pub(crate) struct Responses([AtomicU64; CodeClass::COUNT]);

impl Responses {
    pub(crate) fn count(&self, status: StatusCode) {
        let class = CodeClass::of_status(status.as_u16());
        if let Some(count) = self.0.get(class as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn samples(&self) -> Vec<(Labels, u64)> {
        let all = CodeClass::ALL.into_iter().zip(&self.0);
        // None is without a status.
        let all = all.filter(|(class, _)| *class != CodeClass::None);
        all.map(|(class, count)| {
            let labels = vec![("code", class.as_str().into())];
            (labels, count.load(Ordering::Relaxed))
        })
        .collect()
    }
}

/// What health checks see of a server.
pub(crate) struct View {
    pub(crate) app: Arc<App>,
    /// Some while it stops.
    pub(crate) stop: watch::Receiver<Option<Instant>>,
}

impl Health for View {
    fn ready(&self) -> Result<(), String> {
        match *self.stop.borrow() {
            None => Ok(()),
            Some(_) => Err("stopping".into()),
        }
    }

    fn metrics(&self) -> String {
        page(&self.app)
    }
}

fn page(app: &App) -> String {
    let mut page = Page::new("controlplane_controller");
    let facts = vec![("version", env!("CARGO_PKG_VERSION").into())];
    page.info("build", "Version.", facts);
    let not_after = app.tls.current().not_after.map(|end| {
        let labels = vec![("certificate", "server".into())];
        (labels, end)
    });
    page.gauges(
        "certificate_not_after_timestamp_seconds",
        "When the certificate ends that the next client is shown.",
        not_after.into_iter().collect(),
    );
    let open = i64::try_from(app.admission.open()).unwrap_or(i64::MAX);
    page.gauges(
        "client_connections",
        "Connections of clients open now; an agent's is none any more once it is a WebSocket.",
        vec![(vec![], open)],
    );
    page.counters(
        "responses",
        "Answers to clients and agents by class, the controller's own among them.",
        app.responses.samples(),
    );
    clusters(&mut page, app);
    page.text()
}

/// The label is the cluster's name in the credentials, of which each has another.
fn clusters(page: &mut Page, app: &App) {
    let credentials = app.credentials.current();
    let (mut connected, mut idle, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for agent in &credentials.agents {
        let labels: Labels = vec![("cluster", agent.name.clone())];
        let joined = app.agents.joined(agent).is_some();
        connected.push((labels.clone(), i64::from(joined)));
        let kept = i64::try_from(app.agents.idle(agent)).unwrap_or(i64::MAX);
        idle.push((labels.clone(), kept));
        all.push((labels, app.agents.stats(agent)));
    }
    let help = "Whether the cluster's agent is registered, so that requests reach it.";
    page.gauges("agent_connected", help, connected);
    let help = "Those of streams_open that are kept for the next request.";
    page.gauges("streams_idle", help, idle);
    machines(page, Role::Controller, &all);
}
