//! The controller's half: the tester dials it as an agent, and asks it as a client.

mod clients;
mod dial;
mod exchange;
mod play;

use std::fmt;

use anyhow::{Context as _, Result, anyhow};
use controlplane_driver::{TlsOptions, Token};
use controlplane_world::vectors::{
    Role, Step, Vector,
    load::{self, Line},
    matching::Saved,
};
use serde_json::{Value, json};

pub use self::clients::Access;
use self::{dial::Place, play::dial};
use super::{
    Options,
    report::{Outcome, Report},
    vectors,
};

/// The controller that is tested.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What the report calls it.
    pub name: String,
    /// Where agents find it: `https://` or `wss://`; a path is taken as it is, without one it is
    /// that of P-001.
    pub url: String,
    /// Token of an agent. Its cluster has no other agent meanwhile.
    pub token: Token,
    /// Whom to trust.
    pub tls: TlsOptions,
    /// Its other side. Without it only that can be played which needs no client.
    pub client: Option<Access>,
}

/// Plays all vectors of controllers that are wanted, one after the other: there is one agent of a
/// cluster at a time.
///
/// # Errors
///
/// The controller cannot be reached or does not register the tester, or nothing is wanted.
pub async fn run(subject: &Subject, options: &Options) -> Result<Report> {
    let lines = vectors::selected(Role::Controller, options)?;
    let known = Known::ask(subject, options).await?;
    let one_by_one = Options {
        jobs: 1,
        ..options.clone()
    };
    let mut report = Report::new(&*subject.name);
    report.checks = vectors::play(&lines, &one_by_one, |line| check(line, &known, options)).await;
    vectors::something(&report.checks, options)?;
    Ok(report)
}

async fn check(line: &Line, known: &Known, options: &Options) -> Outcome {
    if let Some(why) = known.excuses(&line.vector, options) {
        return Outcome::NotApplicable(why);
    }
    match play::play(line, known, options).await {
        Ok(()) => Outcome::Pass,
        Err(error) => Outcome::Fail(error),
    }
}

/// The controller, as far as the tester has to know it.
struct Known {
    agent: Place,
    client: Option<Place>,
    /// What it says to an agent that registers, in JSON: id and name of the cluster, the workspace.
    id: String,
    name: String,
    workspace: String,
    /// It greets agents that offer the fast mode.
    greets: bool,
}

impl Known {
    /// Registers once, as an agent that offers the fast mode.
    async fn ask(subject: &Subject, options: &Options) -> Result<Self> {
        let place = |url: &str, token| {
            let place = Place::new(url, token, &subject.tls);
            place.with_context(|| format!("the URL {url:?} cannot be used"))
        };
        let agent = place(&subject.url, &subject.token)?;
        let access = subject.client.as_ref();
        let client = access.map(|access| place(&access.url, &access.token));
        let mut link = dial(&agent, options).await.map_err(|e| anyhow!(e))?;
        let asked = async {
            let register = json!({"type": "register", "request_id": "reg", "payload":
                {"agent_id": "agent-1f2e", "name": "prod", "features": {"supports_yamux": true}}});
            link.send_text(register.to_string())?;
            let success = json!({"type": "register_success", "request_id": "reg",
                "payload": {"cluster_id": "$string", "$more": true}});
            let registered = link.expect(&success, &mut Saved::new()).await?;
            // What it says of itself comes before its answer to this.
            let greets = match link.quiet(&mut Saved::new()).await {
                Ok(()) => false,
                Err(said) if said.contains("gateway_hello") => true,
                Err(error) => return Err(error),
            };
            link.close(1000).await?;
            Ok::<_, String>((registered["payload"].clone(), greets))
        };
        let asked = asked.await.map_err(|e| anyhow!(e));
        let (said, greets) = asked.context("the tester cannot register as an agent")?;
        Ok(Self {
            agent,
            client: client.transpose()?,
            id: said["cluster_id"].to_string(),
            name: said["name"].to_string(),
            workspace: match &said["workspace_id"] {
                Value::Null => json!("$absent").to_string(),
                id => id.to_string(),
            },
            greets,
        })
    }

    /// The vector, with what this controller calls its cluster.
    fn mapped(&self, line: &Line) -> Result<Vector, String> {
        let text = line.text.replace(r#""6f1c""#, &self.id);
        let text = text.replace(r#""name":"prod""#, &format!(r#""name":{}"#, self.name));
        let workspace = format!(r#""workspace_id":{}"#, self.workspace);
        load::vector(&text.replace(r#""workspace_id":123"#, &workspace))
    }

    /// Why the vector cannot be played.
    fn excuses(&self, vector: &Vector, options: &Options) -> Option<String> {
        let any = |wanted: fn(&Step) -> bool| vector.steps.iter().any(wanted);
        if any(|step| matches!(step, Step::ClientConnects(_))) {
            return Some("no message and no request makes a controller open a tunnel".into());
        }
        let client =
            |step: &Step| matches!(step, Step::ClientRequests(_) | Step::ClientUpgrades(_));
        if self.client.is_none() && any(client) {
            return Some("nothing is known of a client's access to its cluster".into());
        }
        let longest = options.longest.as_millis();
        let long = |step: &Step| matches!(step, Step::Pass(ms) if u128::from(*ms) > longest);
        if vector.steps.iter().any(long) {
            return Some("it lets more time pass than was granted".into());
        }
        let greeting =
            |step: &Step| matches!(step, Step::Expect(of) if of["type"] == "gateway_hello");
        (!self.greets && any(greeting)).then(|| "it offers no fast mode".into())
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}
