//! What goes wrong.

use super::{Happening, World, publish};
use crate::controller::Line;
use crate::counts::Fault;
use tamer_controller::fleet::Fleet;

impl World {
    pub(super) fn controller_dies(&mut self, flushed: bool) {
        self.controller.crash(flushed);
        self.wake = None;
        let lines: Vec<Line> = self.wires.keys().copied().collect();
        for line in lines {
            self.cut(line, (true, true));
        }
        let life = self.controller.life;
        let wait = self.chance.pick(&[200, 2_000, 30_000, 300_000]);
        self.after(wait, Happening::ControllerStarts(life));
    }

    pub(super) fn start_controller(&mut self) {
        self.say(|_| "the controller starts".to_owned());
        let scenario = &self.scenario;
        let publish = |fleet: &mut Fleet, clock| publish(fleet, scenario, clock);
        self.controller.start(self.now, publish);
    }

    pub(super) fn fault(&mut self) {
        let at = self.chance.between(0, self.hosts.len() as u64 - 1) as usize;
        let fault = self.chance.pick(&Fault::ALL);
        self.counts.fault(fault);
        self.say(|world| format!("fault: {fault:?}, {}", world.hosts[at].name));
        match fault {
            Fault::ControllerKilled => {
                if self.controller.fleet.is_some() {
                    let flushed = self.chance.permille(500);
                    self.controller_dies(flushed);
                }
            }
            Fault::ControllerDisk => self.controller.break_disk(),
            Fault::ControllerClock => {
                let before = self.controller.skew;
                self.controller.skew = self.chance.between(0, 240_000) as i64 - 120_000;
                // As the driver does; but a clock may also run wrong so slowly that nobody notices.
                let noticed = self.controller.skew.abs_diff(before) > 5_000;
                if noticed && self.chance.permille(700) {
                    let lines: Vec<Line> = self.wires.keys().copied().collect();
                    for line in lines {
                        self.cut(line, (true, true));
                    }
                }
            }
            Fault::AgentKilled => self.host_dies(at, false),
            Fault::PowerLost => self.host_dies(at, true),
            Fault::LineCut => {
                let soon = (self.chance.permille(500), self.chance.permille(500));
                for line in self.lines_of(at) {
                    self.cut(line, soon);
                }
            }
            Fault::Parted => self.part(at),
            Fault::HalfParted => {
                for at in 0..self.hosts.len() {
                    if self.chance.permille(500) {
                        self.part(at);
                    }
                }
            }
            Fault::Sick => {
                self.hosts[at].sick_until = self.now + self.chance.between(1_000, 300_000);
            }
            Fault::DiskFull => {
                self.hosts[at].full_until = self.now + self.chance.between(1_000, 300_000);
            }
            Fault::HostClock => {
                self.hosts[at].skew = self.chance.between(0, 1_200_000) as i64 - 600_000;
            }
        }
    }

    pub(super) fn host_dies(&mut self, at: usize, power: bool) {
        let host = &mut self.hosts[at];
        if !host.up {
            return;
        }
        host.crash(power, &self.scenario, &mut self.chance, self.now);
        let life = host.life;
        for line in self.lines_of(at) {
            self.cut(line, (true, !power));
        }
        let wait = match power {
            true => self.chance.pick(&[20_000, 60_000, 900_000]),
            false => self.chance.between(1_000, 5_000),
        };
        self.after(wait, Happening::HostStarts(at, life));
    }

    pub(super) fn part(&mut self, at: usize) {
        self.parted[at] = true;
        for line in self.lines_of(at) {
            self.cut(line, (false, false));
        }
        let wait = self.chance.pick(&[5_000, 60_000, 600_000, 1_800_000]);
        self.after(wait, Happening::Reunited(at));
    }

    /// From now on nothing goes wrong any more.
    pub(super) fn heal(&mut self) {
        self.say(|_| "from now on nothing goes wrong any more".to_owned());
        self.stirred = self.now;
        // Agents are told the time once more: some clock may have run wrong unnoticed.
        let lines: Vec<Line> = self.wires.keys().copied().collect();
        for line in lines {
            self.cut(line, (true, true));
        }
    }
}
