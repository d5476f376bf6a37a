//! Lines between hosts and the controller: what is said on them, late, twice or never, and how they end.

use super::{Happening, Wire, World};
use crate::chance::Chance;
use crate::controller::{Change, Line, site};
use tamer_core::desired::Desired;
use tamer_core::moment::Moment;

impl World {
    pub(super) fn connect(&mut self, at: usize, life: u64) {
        let up = self.controller.fleet.is_some() && !self.parted[at];
        let host = &mut self.hosts[at];
        if host.life != life || !host.up || host.agent.line.is_some() {
            return;
        }
        if !up {
            let wait = self.chance.between(200, 30_000);
            return self.after(wait, Happening::Connect(at, life));
        }
        self.numbers += 1;
        let line = self.numbers;
        let report = host.report(&self.scenario);
        host.agent.line = Some((line, false));
        host.agent.sent = Some(report.clone());
        let (name, run) = (host.name.clone(), life);
        let wire = Wire {
            host: at,
            life: self.controller.life,
            last: (0, 0),
        };
        self.wires.insert(line, wire);
        let connected = Change::Connected {
            host: name,
            line,
            run,
            report: Box::new(report),
        };
        self.send(line, connected);
    }

    /// How long a message takes.
    pub(super) fn latency(&mut self) -> u64 {
        match self.chance.between(0, 999) {
            0..=9 => {
                self.counts.late += 1;
                self.chance.between(1_000, 60_000)
            }
            10..=99 => self.chance.between(50, 1_000),
            _ => self.chance.between(1, 50),
        }
    }

    pub(super) fn send(&mut self, line: Line, change: Change) {
        let latency = self.latency();
        let Some(wire) = self.wires.get_mut(&line) else {
            self.counts.lost += 1;
            return;
        };
        let at = (self.now + latency).max(wire.last.0);
        wire.last.0 = at;
        let life = wire.life;
        self.after(at - self.now, Happening::Came(life, change));
    }

    pub(super) fn tell(&mut self, line: Line, clock: Option<Moment>, desired: Option<Desired>) {
        let latency = self.latency();
        let Some(wire) = self.wires.get_mut(&line) else {
            self.counts.lost += 1;
            return;
        };
        let at = (self.now + latency).max(wire.last.1);
        wire.last.1 = at;
        let (host, wait) = (wire.host, at - self.now);
        let desired = desired.map(Box::new);
        if desired.is_some() && self.chance.permille(20) {
            // No line of ours does that; nothing may depend on it.
            self.counts.duplicated += 1;
            let again = wait + self.chance.between(1, 30_000);
            self.after(again, Happening::Heard(host, line, None, desired.clone()));
        }
        self.after(wait, Happening::Heard(host, line, clock, desired));
    }

    pub(super) fn heard(
        &mut self,
        at: usize,
        line: Line,
        clock: Option<Moment>,
        desired: Option<Box<Desired>>,
    ) {
        let host = &mut self.hosts[at];
        let own = host.agent.line.filter(|(own, _)| *own == line);
        let Some((_, welcomed)) = own else { return };
        if let Some(clock) = clock {
            host.welcomed(clock, self.now);
        } else if !welcomed {
            return;
        }
        if let Some(desired) = desired {
            let taken = host.take_in(*desired, &site().0, self.now);
            if let Err(why) = taken {
                panic!("{}: {why}", self.hosts[at].name);
            }
        }
        self.settle_host(at);
    }

    /// A line is dead; either end finds out in its own time.
    pub(super) fn cut(&mut self, line: Line, soon: (bool, bool)) {
        let Some(wire) = self.wires.remove(&line) else {
            return;
        };
        let (at, life) = (wire.host, wire.life);
        let wait = |chance: &mut Chance, soon: bool| match soon {
            true => chance.between(1, 500),
            false => chance.between(5_000, 40_000),
        };
        let (there, here) = (
            wait(&mut self.chance, soon.0),
            wait(&mut self.chance, soon.1),
        );
        let host = self.hosts[at].name.clone();
        self.after(there, Happening::HungUp(at, line));
        self.after(here, Happening::Came(life, Change::Lost { host, line }));
    }

    pub(super) fn hung_up(&mut self, at: usize, line: Line) {
        let host = &mut self.hosts[at];
        if host.agent.line.is_some_and(|(own, _)| own == line) {
            host.agent.line = None;
            let life = host.life;
            let wait = self.chance.between(10, 30_000);
            self.after(wait, Happening::Connect(at, life));
        }
    }

    pub(super) fn lines_of(&self, at: usize) -> Vec<Line> {
        let own = self.wires.iter().filter(|(_, wire)| wire.host == at);
        own.map(|(line, _)| *line).collect()
    }
}
