//! What people do.

use super::World;
use crate::controller::{Ask, Change, site};
use crate::scenario::VERSIONS;
use std::collections::BTreeMap;
use tamer_controller::fleet::deploy::{Control, Wanted};

impl World {
    pub(super) fn act(&mut self) {
        let what = self.chance.between(0, 99);
        let ask = match what {
            0..=64 => {
                let n = self.chance.between(0, u64::from(VERSIONS) - 1) as u8;
                self.say(|_| format!("somebody deploys 1.{n}.0"));
                Ask::Deploy(Box::new(self.wanted(n)))
            }
            65..=74 => Ask::GoBack,
            75..=79 => Ask::Control(Control::Pause),
            80..=91 => Ask::Control(Control::Resume),
            92..=95 => Ask::Control(Control::Abort),
            _ => Ask::Control(Control::Rollback { with_down: false }),
        };
        self.ask(ask);
    }

    pub(super) fn ask(&mut self, ask: Ask) {
        self.reach_controller(Change::Asked(ask));
    }

    pub(super) fn wanted(&self, n: u8) -> Wanted {
        let (environment, application) = site();
        let components = self.scenario.components.iter().enumerate();
        Wanted {
            environment,
            application,
            version: format!("1.{n}.0").parse().expect("a version"),
            component: None,
            releases: components
                .map(|(at, name)| {
                    let name = name.parse().expect("a name");
                    (name, self.scenario.release(at, n))
                })
                .collect(),
            evidence: BTreeMap::new(),
            declared: BTreeMap::new(),
            no_way_back: false,
            override_freeze: false,
            wait: false,
            confirmed: true,
        }
    }
}
