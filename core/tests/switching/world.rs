//! A small world around one component's routers.

use std::collections::BTreeMap;
use tamer_core::desired::{Failure, FailureKind, Purpose};
use tamer_core::generation::Generation;
use tamer_core::id::{HostName, PoolName};
use tamer_core::moment::{Moment, Span};
use tamer_core::rollout::switching::{
    RouteSeen, Router, RouterKey, Settings, SwitchEvent, SwitchStage, SwitchWaiting, Unfit,
};
use tamer_core::rollout::{Outcome, RolloutId};

const DEADLINE: u64 = 60;

/// A host that routes, with its agent.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    /// Where requests really go.
    pub(crate) sends_to: PoolName,
    /// What it was told last: where to send, and which checks to try.
    told: Option<(PoolName, Generation)>,
    asked: Option<Generation>,
    /// The newest order that it has ended.
    answered: Generation,
    failed: bool,
    tried: Option<(Generation, bool)>,
    connected: bool,
    /// Whether somebody changed it since it last did what it was told.
    by_hand: bool,
    pub(crate) broken: bool,
    pub(crate) mute: bool,
    pub(crate) refuses: bool,
}

pub(crate) struct World {
    pub(crate) router: Router,
    pub(crate) now: Moment,
    epoch: u64,
    pub(crate) agents: BTreeMap<HostName, Agent>,
    mail: Vec<(HostName, RouteSeen)>,
    /// Which pools can serve.
    fit: BTreeMap<PoolName, bool>,
    kept: Option<Router>,
    /// Under which number nobody had tried acceptance yet when a person let the switch happen.
    promoted_at: Option<Generation>,
    switches: u64,
    hosts: usize,
}

pub(crate) fn pool(n: usize) -> PoolName {
    ["blue", "green"][n % 2].parse().unwrap()
}

pub(crate) fn failure(why: &str) -> Failure {
    Failure::seen(FailureKind::Host, why)
}

impl World {
    pub(crate) fn new(routers: usize, bake: u64, accepts: bool) -> Self {
        let key = RouterKey {
            environment: "production".parse().unwrap(),
            application: "shop".parse().unwrap(),
            component: "web".parse().unwrap(),
        };
        let settings = Settings {
            pools: [pool(0), pool(1)].into(),
            deadline: Span::secs(DEADLINE),
            acceptance_deadline: Span::secs(300),
            bake: Span::secs(bake),
            accepts,
            approval: false,
        };
        let mut world = Self {
            router: Router::new(key, settings),
            now: Moment(1_000_000),
            epoch: 1,
            agents: BTreeMap::new(),
            mail: Vec::new(),
            fit: [(pool(0), true), (pool(1), true)].into(),
            kept: None,
            promoted_at: None,
            switches: 0,
            hosts: 0,
        };
        for n in 0..routers {
            world.add();
            world.connect(n);
            world.round(n);
        }
        world
    }

    pub(crate) fn name(&self, n: usize) -> Option<HostName> {
        self.agents
            .keys()
            .nth(n % self.agents.len().max(1))
            .cloned()
    }

    pub(crate) fn with(&mut self, n: usize, change: impl FnOnce(&mut Agent)) {
        if let Some(name) = self.name(n) {
            change(self.agents.get_mut(&name).unwrap());
        }
    }

    // === the controller ===

    pub(crate) fn happen(&mut self, event: &SwitchEvent) -> bool {
        let legal = self.apply(event);
        self.settle();
        legal
    }

    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 50, "it never comes to rest");
            let decision = self.router.decide(self.now, self.epoch);
            if decision.events.is_empty() {
                // Only people are waited for without an end.
                let waits = match &decision.waiting_on {
                    Some(SwitchWaiting::Promotion(_)) => decision.wake_at.is_none(),
                    Some(_) => decision.wake_at.is_some(),
                    None => false,
                };
                assert!(
                    waits || self.router.running().is_none(),
                    "it neither goes on nor waits"
                );
                break;
            }
            for event in &decision.events {
                assert!(self.apply(event), "decided, and not allowed: {event:?}");
            }
        }
        // A mixed set of routers ends within its deadline.
        if let Some(switch) = self.router.running()
            && let SwitchStage::Turning { since } | SwitchStage::TurningBack { since, .. } =
                switch.stage
        {
            assert!(
                self.now < since + Span::secs(DEADLINE),
                "mixed for too long"
            );
        }
    }

    fn apply(&mut self, event: &SwitchEvent) -> bool {
        let before = self.router.clone();
        let Ok(touched) = self.router.apply(event, self.now) else {
            assert_eq!(self.router, before, "a refused event changed the state");
            return false;
        };
        for (name, host) in &self.router.hosts {
            let changed = before.hosts.get(name) != Some(host);
            assert!(
                !changed || touched.hosts.contains(name),
                "{name} at {event:?}"
            );
        }
        let head = |it: &Router| Router {
            hosts: BTreeMap::new(),
            ..it.clone()
        };
        assert!(
            touched.head || head(&before) == head(&self.router),
            "{event:?}"
        );
        self.judge(&before, event);
        true
    }

    /// The promises, from what the world knows.
    fn judge(&self, before: &Router, event: &SwitchEvent) {
        let purpose = before.running().map(|it| it.purpose);
        match event {
            SwitchEvent::Turned(_) if purpose == Some(Purpose::Forward) => {
                let (to, _) = self.router.told.clone().unwrap();
                assert!(self.fit[&to], "routers are told a pool that cannot serve");
                let switch = self.router.running().unwrap();
                let asks = switch.settings.approval;
                assert!(!asks || self.promoted_at.is_some(), "nobody let it happen");
                let since = self.promoted_at.unwrap_or_default();
                let accepted = |name: &HostName| {
                    let tried = self.router.hosts[name].acceptance.clone();
                    let well = tried.is_some_and(|(number, it)| it.is_none() && number > since);
                    !switch.settings.accepts || well
                };
                assert!(
                    switch.taking_part.iter().all(accepted),
                    "turned before it was accepted"
                );
            }
            SwitchEvent::Ended(Outcome::RolledBack(_)) => {
                assert_eq!(self.router.active, before.active, "taken back, and active");
                // Of those that have a vote nobody is left behind, but whom somebody changed by hand.
                let switch = before.running().unwrap();
                let turned = !switch.is_untouched();
                for name in switch.taking_part.iter().filter(|_| turned) {
                    let agent = &self.agents[name];
                    assert!(
                        agent.by_hand || agent.sends_to == switch.from,
                        "{name} is not back"
                    );
                }
            }
            SwitchEvent::Settled(pool) => {
                let said = |it: &HostName| before.hosts[it].sends_to.as_ref() == Some(pool);
                assert!(
                    before.unsettled && self.agents.keys().all(said),
                    "they do not agree"
                );
            }
            _ => {}
        }
        if self.router.active != before.active {
            let active = self.router.active.as_ref().unwrap();
            let settled = matches!(event, SwitchEvent::Settled(_));
            let forward = purpose == Some(Purpose::Forward);
            assert!(
                settled || !forward || self.fit[active],
                "active, and cannot serve"
            );
            assert!(
                settled || *event == SwitchEvent::Ended(Outcome::Succeeded),
                "another active pool at {event:?}"
            );
        }
        if self.router.running().is_none() && !self.router.unsettled {
            let told = self.router.told.as_ref().map(|(pool, _)| pool);
            assert!(
                told.is_none() || told == self.router.active.as_ref(),
                "told another one"
            );
        }
        self.judge_idle();
    }

    /// What is said to be idle is idle: a rollout may take all of it down at once.
    fn judge_idle(&self) {
        for pool in [pool(0), pool(1)] {
            if self.router.may_send_to(&pool).is_some() {
                continue;
            }
            for (name, agent) in &self.agents {
                let sends = agent.sends_to == pool && !agent.by_hand;
                assert!(!sends, "{name} sends to {pool}, which is said to be idle");
            }
        }
    }

    // === people ===

    pub(crate) fn deploy(&mut self) {
        if let Ok(idle) = self.router.idle() {
            self.start(&idle, Purpose::Forward);
        }
    }

    pub(crate) fn back(&mut self, to: usize) {
        self.start(&pool(to), Purpose::Back);
    }

    fn start(&mut self, to: &PoolName, purpose: Purpose) {
        self.switches += 1;
        let id = RolloutId(self.switches);
        if let Ok(switch) = self.router.plan(id, to, purpose, (self.now, self.epoch)) {
            if self.router.running().is_none() {
                self.promoted_at = None;
            }
            self.happen(&SwitchEvent::Started(Box::new(switch)));
        }
    }

    pub(crate) fn ask_back(&mut self) {
        let (by, reason) = ("anna".to_owned(), String::new());
        self.happen(&SwitchEvent::RollbackAsked { by, reason });
    }

    pub(crate) fn abort(&mut self) {
        let (by, reason) = ("anna".to_owned(), String::new());
        self.happen(&SwitchEvent::Aborted { by, reason });
    }

    /// From now on a person has to let switches happen, or nobody has to.
    pub(crate) fn ask(&mut self, approval: bool) {
        let settings = Settings {
            approval,
            ..self.router.settings.clone()
        };
        self.happen(&SwitchEvent::Configured(settings));
    }

    pub(crate) fn promote(&mut self) {
        let before = self.router.newest;
        let (by, reason) = ("ben".to_owned(), String::new());
        let waits = self
            .router
            .running()
            .is_some_and(|it| matches!(it.stage, SwitchStage::Accepted { .. }));
        if waits {
            self.promoted_at = Some(before);
        }
        let legal = self.happen(&SwitchEvent::Promoted { by, reason });
        assert_eq!(legal, waits, "promoted out of turn");
    }

    pub(crate) fn weigh(&mut self, n: usize, fit: bool) {
        let pool = pool(n);
        self.fit.insert(pool.clone(), fit);
        let unfit = (!fit).then(|| Unfit {
            serving: 1,
            total: 2,
            why: "web-1 is away".to_owned(),
        });
        self.happen(&SwitchEvent::Weighed(pool, unfit));
    }

    // === time, crashes, copies ===

    pub(crate) fn tick(&mut self, seconds: u64) {
        let until = self.now + Span::secs(seconds);
        loop {
            let wake = self.router.decide(self.now, self.epoch).wake_at;
            let next = wake.filter(|at| *at > self.now).unwrap_or(until).min(until);
            self.now = next;
            self.settle();
            if next == until {
                return;
            }
        }
    }

    pub(crate) fn restart(&mut self) {
        let text = serde_json::to_string(&self.router).unwrap();
        self.router = serde_json::from_str(&text).unwrap();
        self.all_lost();
    }

    fn all_lost(&mut self) {
        self.mail.clear();
        let names: Vec<HostName> = self.router.hosts.keys().cloned().collect();
        for name in names {
            self.happen(&SwitchEvent::Lost(name.clone()));
        }
        for agent in self.agents.values_mut() {
            agent.connected = false;
        }
    }

    pub(crate) fn keep(&mut self) {
        self.kept = Some(self.router.clone());
    }

    pub(crate) fn restore(&mut self) {
        let Some(kept) = self.kept.clone() else {
            return;
        };
        self.epoch += 1;
        self.router = kept;
        let unfit: Vec<_> = self.fit.clone().into_iter().collect();
        self.apply_restored();
        for (n, (_, fit)) in unfit.into_iter().enumerate() {
            self.weigh(n, fit);
        }
        // Hosts that came and went since are known again once they are placed.
        let mut gone: Vec<HostName> = self.router.hosts.keys().cloned().collect();
        gone.retain(|it| !self.agents.contains_key(it));
        for name in gone {
            self.happen(&SwitchEvent::HostRemoved(name));
        }
        let agents: Vec<HostName> = self.agents.keys().cloned().collect();
        for name in agents {
            self.happen(&SwitchEvent::HostAdded(name));
        }
        self.all_lost();
    }

    fn apply_restored(&mut self) {
        assert!(self.apply(&SwitchEvent::Restored));
    }

    // === routers ===

    pub(crate) fn add(&mut self) {
        if self.agents.len() >= 5 {
            return;
        }
        let name: HostName = format!("lb-{}", self.hosts).parse().unwrap();
        self.hosts += 1;
        let sends_to = match &self.router.active {
            // Who sets up a new one has it send to what is used.
            Some(active) => active.clone(),
            None => pool(0),
        };
        let agent = Agent {
            sends_to,
            told: None,
            asked: None,
            answered: Generation::default(),
            failed: false,
            tried: None,
            connected: false,
            by_hand: false,
            broken: false,
            mute: false,
            refuses: false,
        };
        self.agents.insert(name.clone(), agent);
        self.happen(&SwitchEvent::HostAdded(name));
    }

    pub(crate) fn remove(&mut self, n: usize) {
        if let Some(name) = self.name(n) {
            self.agents.remove(&name);
            self.mail.retain(|(from, _)| *from != name);
            self.happen(&SwitchEvent::HostRemoved(name));
        }
    }

    pub(crate) fn rebuild(&mut self, n: usize) {
        let Some(name) = self.name(n) else { return };
        self.mail.retain(|(from, _)| *from != name);
        let agent = self.agents.get_mut(&name).unwrap();
        (agent.answered, agent.failed) = (Generation::default(), false);
        (agent.told, agent.asked, agent.tried) = (None, None, None);
        agent.connected = false;
        self.happen(&SwitchEvent::HostReset(name));
    }

    pub(crate) fn connect(&mut self, n: usize) {
        let Some(name) = self.name(n) else { return };
        if !std::mem::replace(&mut self.agents.get_mut(&name).unwrap().connected, true) {
            self.happen(&SwitchEvent::Connected(name.clone()));
            let seen = self.look(&name);
            self.happen(&SwitchEvent::Reported(name, Box::new(seen)));
        }
    }

    pub(crate) fn disconnect(&mut self, n: usize) {
        let Some(name) = self.name(n) else { return };
        if std::mem::take(&mut self.agents.get_mut(&name).unwrap().connected) {
            self.mail.retain(|(from, _)| *from != name);
            self.happen(&SwitchEvent::Lost(name));
        }
    }

    pub(crate) fn by_hand(&mut self, n: usize, to: usize) {
        self.with(n, |agent| {
            agent.by_hand = true;
            agent.sends_to = pool(to);
        });
    }

    pub(crate) fn tell(&mut self, n: usize) {
        let (told, asked) = (self.router.told.clone(), self.router.acceptance());
        let asked = asked.map(|(number, _)| number);
        self.with(n, |agent| {
            if agent.connected {
                (agent.told, agent.asked) = (told, asked);
            }
        });
    }

    pub(crate) fn obey(&mut self, n: usize) {
        self.with(n, |agent| {
            if let Some((pool, order)) = agent.told.clone().filter(|(_, it)| *it > agent.answered) {
                agent.failed = agent.broken;
                agent.answered = order;
                if !agent.broken {
                    agent.sends_to = pool;
                    agent.by_hand = false;
                }
            }
            if let Some(number) = agent.asked {
                agent.tried = Some((number, agent.refuses));
            }
        });
    }

    fn look(&self, name: &HostName) -> RouteSeen {
        let agent = &self.agents[name];
        let failed = (agent.failed || agent.mute).then(|| failure("the command failed"));
        RouteSeen {
            answered: agent.answered,
            sends_to: (!agent.mute).then(|| agent.sends_to.clone()),
            failure: failed,
            acceptance: agent
                .tried
                .map(|(number, refuses)| (number, refuses.then(|| failure("check `home` fails")))),
        }
    }

    pub(crate) fn report(&mut self, n: usize) {
        if let Some(name) = self.name(n).filter(|it| self.agents[it].connected) {
            let seen = self.look(&name);
            self.mail.push((name, seen));
        }
    }

    pub(crate) fn arrive(&mut self, n: usize) {
        if !self.mail.is_empty() {
            let (name, seen) = self.mail.remove(n % self.mail.len());
            self.happen(&SwitchEvent::Reported(name, Box::new(seen)));
        }
    }

    /// What it is told it does, and says so.
    pub(crate) fn round(&mut self, n: usize) {
        self.tell(n);
        self.obey(n);
        if let Some(name) = self.name(n).filter(|it| self.agents[it].connected) {
            let seen = self.look(&name);
            self.happen(&SwitchEvent::Reported(name, Box::new(seen)));
        }
    }

    /// Nobody fails any more, everybody is there: whatever runs ends, and whoever came late does what all do.
    pub(crate) fn end_well(&mut self) {
        self.mail.clear();
        for agent in self.agents.values_mut() {
            (agent.broken, agent.mute, agent.refuses) = (false, false, false);
        }
        self.weigh(0, true);
        self.weigh(1, true);
        for n in 0..self.agents.len() {
            self.connect(n);
        }
        self.calm_down();
        if self.router.unsettled && !self.agents.is_empty() {
            // Only a person can tell where they should send.
            self.back(1);
            self.calm_down();
        }
        assert!(
            self.router.running().is_none(),
            "it never ends: {:?}",
            self.router.switch
        );
        let Some((told, order)) = self.router.told.clone() else {
            return;
        };
        assert_eq!(Some(&told), self.router.active.as_ref());
        for (name, agent) in &self.agents {
            assert!(agent.answered >= order, "{name} was never told");
            let astray = agent.by_hand || agent.failed;
            assert!(
                astray || agent.sends_to == told,
                "{name} does not do what all do"
            );
        }
    }

    fn calm_down(&mut self) {
        for _ in 0..30 {
            for n in 0..self.agents.len() {
                self.round(n);
            }
            self.promote();
            self.tick(20);
        }
    }
}
