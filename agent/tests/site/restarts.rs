//! A systemd that restarts the agent's own unit, and no other.

use async_trait::async_trait;
use std::time::Duration;
use tamer_agent::allowed::AGENT_UNIT;
use tamer_agent::host::services::Services;
use tamer_agent::host::unit::Observation;
use tamer_core::desired::Failure;
use tokio::sync::watch;

/// Notes that the unit is to be restarted. Everything else is systemd's own, and not looked at here.
pub(crate) struct Restarts(pub(crate) watch::Sender<bool>);

#[async_trait]
impl Services for Restarts {
    async fn restart(&self, unit: &str, _: Duration) -> Result<(), Failure> {
        panic!("{unit} must not be restarted by the agent that runs as it")
    }
    async fn reload(&self, unit: &str, _: Duration) -> Result<(), Failure> {
        panic!("{unit} must not be reloaded by the agent that runs as it")
    }
    async fn stop(&self, unit: &str) -> Result<(), Failure> {
        panic!("{unit} must not be stopped by the agent that runs as it")
    }
    async fn look(&self, _: &str) -> Result<Observation, Failure> {
        Ok(Observation::parse(
            "LoadState=loaded\nActiveState=active\nSubState=running\nInvocationID=1\n",
        ))
    }
    async fn hand_over(&self, unit: &str) -> Result<(), Failure> {
        assert_eq!(unit, AGENT_UNIT);
        self.0.send_replace(true);
        Ok(())
    }
    async fn log(&self, _: &str, _: &str) -> String {
        "its last words".to_owned()
    }
}
