//! An agent that is dialled in and registered.

use controlplane_core::Input;
use controlplane_world::vectors::{Beginning, Config, Era, Role, load, matching, step};
use serde_json::json;

use super::{
    player::{Player, Subject},
    setup,
};

impl Player {
    pub(super) fn agent(config: &Config, era: Era, start: Beginning) -> Result<Self, String> {
        let (agent, status) = setup::agent(config)?;
        let mut player = Self::new(Subject::Agent(Box::new(agent)));
        player.input(Input::Status(status))?;
        player.dial(&step::Dial {
            to: "controller".into(),
            after_ms: None,
            refused: None,
            retry_after: None,
        })?;
        if start == Beginning::Registered {
            let register = json!({"type": "register", "request_id": "$save:register",
                "payload": {"$more": true}});
            player.expect(&register)?;
            let success = load::greeting(Role::Agent, era)?;
            let success = matching::filled(&success, &player.saved)?;
            player.text(&success)?;
        }
        Ok(player)
    }
}
