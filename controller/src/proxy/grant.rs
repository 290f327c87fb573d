//! What a request was permitted by. It may be withdrawn while the request goes on, which for a
//! watch can be hours.

use std::sync::Arc;

use controlplane_driver::rules::KubernetesUser;

use crate::{
    credentials::{AgentCredential, Credentials, TokenHash, UserCredential},
    server::App,
};

/// What is said where it was withdrawn.
pub(super) const WITHDRAWN: &str = "the user's right to reach the cluster was withdrawn";

/// A user's right to reach a cluster, as the credentials said when the request came.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    app: Arc<App>,
    /// The credentials that it was last found in.
    found: Arc<Credentials>,
    user: String,
    token: TokenHash,
    kubernetes: Option<KubernetesUser>,
    agent: String,
}

impl Grant {
    pub(super) fn new(
        app: Arc<App>,
        found: Arc<Credentials>,
        user: &UserCredential,
        agent: &AgentCredential,
    ) -> Self {
        Self {
            user: user.id.clone(),
            token: user.token_sha256,
            kubernetes: user.kubernetes(),
            agent: agent.id.clone(),
            app,
            found,
        }
    }

    /// Whether the credentials still say so.
    pub(super) fn holds(&mut self) -> bool {
        let now = self.app.credentials.latest();
        if Arc::ptr_eq(&now, &self.found) {
            return true;
        }
        let user = now.users.iter().find(|user| {
            user.id == self.user
                && user.token_sha256 == self.token
                && user.kubernetes() == self.kubernetes
        });
        let agent = now.agents.iter().find(|agent| agent.id == self.agent);
        let holds = matches!((user, agent), (Some(user), Some(agent)) if user.may_reach(agent));
        if holds {
            self.found = now;
        }
        holds
    }
}
