//! What systemd says of a unit, and whether that means that it has started and stays up. Pure.

use std::collections::BTreeMap;

/// The properties that an [`Observation`] is made of, as `systemctl show --property=` wants them.
pub const PROPERTIES: &str = "LoadState,ActiveState,SubState,Result,Type,NRestarts,InvocationID,\
                              ExecMainCode,ExecMainStatus,ConditionResult,CanReload";

/// A unit at one moment (org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observation {
    /// Whether its file was read: `loaded`, `not-found`, `masked` …
    pub load: String,
    /// Its state, coarse: `active`, `activating`, `failed` …
    pub active: String,
    /// Its state, fine: `running`, `exited`, `start-pre`, `auto-restart` …
    pub sub: String,
    /// How its last run ended: `success`, `exit-code`, `signal` …
    pub result: String,
    /// Its type: `simple`, `notify`, `oneshot` …
    pub kind: String,
    /// How often systemd has started it again by itself, since somebody started it.
    pub restarts: u32,
    /// Which run of it this is; empty where it never ran.
    pub invocation: String,
    /// How its main process ended: 1 by itself, 2 or 3 by a signal, 0 where it has not (`CLD_EXITED` …).
    pub main_code: u32,
    /// The exit code or the signal.
    pub main_status: i32,
    /// Whether the conditions in its file were met when it was last started.
    pub conditions: bool,
    /// Whether it can be told to read its settings again.
    pub can_reload: bool,
}

/// What an observation means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is up, and has been since it was first seen up.
    Up,
    /// It is on the way, and why it is not up yet: `is still starting (start-pre)`.
    Coming(String),
    /// It ended, or never began.
    Down {
        /// In words that follow the unit's name: `has failed: exit code 1`.
        why: String,
        /// The run that ended, for its log; empty where there is none.
        invocation: String,
    },
}

/// Watches over a unit: what it sees now is held against what it saw first.
#[derive(Debug, Clone)]
pub struct Vigil {
    /// The run that is up, and how often it had been restarted by then.
    first: Option<(String, u32)>,
    /// How many restarts are of no account before anything was seen.
    forgiven: Option<u32>,
}

// === impl Observation ===

impl Observation {
    /// Reads what `systemctl show --property=`[`PROPERTIES`] printed. What is not there is as if it were
    /// empty: older systemds do not know every property.
    pub fn parse(said: &str) -> Self {
        let all: BTreeMap<&str, &str> = said.lines().filter_map(|it| it.split_once('=')).collect();
        let text = |key: &str| all.get(key).copied().unwrap_or_default().to_owned();
        Self {
            load: text("LoadState"),
            active: text("ActiveState"),
            sub: text("SubState"),
            result: text("Result"),
            kind: text("Type"),
            restarts: text("NRestarts").parse().unwrap_or_default(),
            invocation: text("InvocationID"),
            main_code: text("ExecMainCode").parse().unwrap_or_default(),
            main_status: text("ExecMainStatus").parse().unwrap_or_default(),
            conditions: text("ConditionResult") != "no",
            can_reload: text("CanReload") == "yes",
        }
    }

    /// Whether it runs and can be reloaded.
    pub fn is_reloadable(&self) -> bool {
        self.active == "active" && self.can_reload
    }

    /// How its last run ended, as a part of a sentence.
    fn ending(&self) -> String {
        match (self.result.as_str(), self.main_code) {
            ("start-limit-hit", _) => "it was started again too often".to_owned(),
            ("oom-kill", _) => "it ran out of memory".to_owned(),
            ("timeout", _) => "a time limit of the unit was over".to_owned(),
            ("watchdog", _) => "it did not answer its watchdog".to_owned(),
            (_, 1) => format!("exit code {}", self.main_status),
            (_, 2 | 3) => format!("signal {}", self.main_status),
            ("" | "success", _) => "it did not say why".to_owned(),
            (other, _) => other.to_owned(),
        }
    }

    /// A job that is done and has nothing to stay for.
    fn has_done_its_work(&self) -> bool {
        let well = self.main_code == 0 || (self.main_code == 1 && self.main_status == 0);
        self.kind == "oneshot" && self.result == "success" && well && self.conditions
    }
}

// === impl Vigil ===

impl Vigil {
    /// Over a unit that was just started: a restart before the first look counts already.
    pub fn since_its_start() -> Self {
        Self {
            first: None,
            forgiven: Some(0),
        }
    }

    /// Over a unit that may have run for long: it counts from the first look.
    pub fn from_now() -> Self {
        Self {
            first: None,
            forgiven: None,
        }
    }

    /// What is seen now. After [`Verdict::Down`] the vigil begins anew with what is there then.
    pub fn see(&mut self, now: &Observation) -> Verdict {
        let before = match &self.first {
            Some((_, restarts)) => *restarts,
            None => self.forgiven.unwrap_or(now.restarts),
        };
        self.forgiven = Some(now.restarts);
        if now.load != "loaded" {
            return self.down(now, format!("cannot be started: it is {}", now.load));
        }
        if now.restarts > before && now.active != "failed" {
            let died = self.first.clone().map(|(invocation, _)| invocation);
            let mut why = "ended by itself, and systemd has started it again".to_owned();
            // By then what is said of the end may be the new run's, which has none.
            if now.main_code != 0 {
                why = format!("{why}: {}", now.ending());
            }
            let down = self.down(now, why);
            return match (down, died) {
                (Verdict::Down { why, .. }, Some(invocation)) => Verdict::Down { why, invocation },
                (down, _) => down,
            };
        }
        match now.active.as_str() {
            "active" | "reloading" | "refreshing" => {
                let known = self.first.as_ref().is_some_and(|it| it.0 == now.invocation);
                let other = self.first.is_some() && !known;
                self.first = Some((now.invocation.clone(), now.restarts));
                match other {
                    true => Verdict::Coming("was started anew by somebody".to_owned()),
                    false => Verdict::Up,
                }
            }
            "activating" if !now.sub.starts_with("auto-restart") => {
                Verdict::Coming(format!("is still starting ({})", now.sub))
            }
            "inactive" if now.has_done_its_work() => Verdict::Up,
            "inactive" if !now.conditions => self.down(
                now,
                "was not started: a condition in it is not met".to_owned(),
            ),
            "failed" => self.down(now, format!("has failed: {}", now.ending())),
            "deactivating" => self.down(now, "is stopping by itself".to_owned()),
            _ => self.down(now, format!("ended by itself: {}", now.ending())),
        }
    }

    fn down(&mut self, now: &Observation, why: String) -> Verdict {
        self.first = None;
        Verdict::Down {
            why,
            invocation: now.invocation.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(active: &str, sub: &str, invocation: &str, restarts: u32) -> Observation {
        Observation {
            load: "loaded".to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
            result: "success".to_owned(),
            kind: "simple".to_owned(),
            invocation: invocation.to_owned(),
            restarts,
            conditions: true,
            ..Observation::default()
        }
    }

    fn died(mut it: Observation) -> Observation {
        "exit-code".clone_into(&mut it.result);
        (it.main_code, it.main_status) = (1, 3);
        it
    }

    fn seen(vigil: &mut Vigil, now: Observation) -> String {
        match vigil.see(&now) {
            Verdict::Up => "up".to_owned(),
            Verdict::Coming(why) => format!("coming: {why}"),
            Verdict::Down { why, invocation } => format!("down: {why} [{invocation}]"),
        }
    }

    #[test]
    fn what_systemctl_prints_is_read() {
        let said = "Type=notify\nExecMainStatus=3\nExecMainCode=1\nResult=exit-code\nNRestarts=2\n\
                    CanReload=yes\nLoadState=loaded\nActiveState=activating\nSubState=auto-restart\n\
                    InvocationID=ab12\nConditionResult=yes\n";
        let read = Observation::parse(said);
        assert_eq!((read.kind.as_str(), read.restarts), ("notify", 2));
        assert_eq!((read.main_code, read.main_status), (1, 3));
        assert_eq!(read.invocation, "ab12");
        assert!(read.can_reload && read.conditions && !read.is_reloadable());
        assert_eq!(
            seen(&mut Vigil::from_now(), read),
            "down: ended by itself: exit code 3 [ab12]"
        );
        assert_eq!(Observation::parse("").load, "");
    }

    #[test]
    fn a_unit_that_dies_after_a_while_is_down_whatever_systemd_makes_of_it() {
        let begin = || {
            let mut vigil = Vigil::since_its_start();
            for _ in 0..5 {
                assert_eq!(seen(&mut vigil, unit("active", "running", "a", 0)), "up");
            }
            vigil
        };
        // Not restarted, waiting for it, and back already: the log is that of the run that died.
        let failed = seen(&mut begin(), died(unit("failed", "failed", "a", 0)));
        assert_eq!(failed, "down: has failed: exit code 3 [a]");
        let waits = seen(
            &mut begin(),
            died(unit("activating", "auto-restart", "a", 0)),
        );
        assert_eq!(waits, "down: ended by itself: exit code 3 [a]");
        let back = seen(&mut begin(), died(unit("active", "running", "b", 1)));
        assert_eq!(
            back,
            "down: ended by itself, and systemd has started it again: exit code 3 [a]"
        );
        let clean = seen(&mut begin(), unit("active", "running", "b", 1));
        assert_eq!(
            clean,
            "down: ended by itself, and systemd has started it again [a]"
        );
        let quiet = seen(&mut begin(), unit("inactive", "dead", "a", 0));
        assert!(quiet.starts_with("down: ended by itself"), "{quiet}");
        let limit = Observation {
            result: "start-limit-hit".to_owned(),
            ..unit("failed", "failed", "c", 5)
        };
        assert!(seen(&mut begin(), limit).contains("too often"));
    }

    #[test]
    fn restarts_before_the_first_look_count_only_after_a_start() {
        let now = || unit("active", "running", "b", 1);
        assert!(seen(&mut Vigil::since_its_start(), now()).starts_with("down"));
        let mut vigil = Vigil::from_now();
        assert_eq!(seen(&mut vigil, now()), "up");
        assert!(seen(&mut vigil, unit("active", "running", "c", 2)).starts_with("down"));
        // It begins anew with what is there.
        assert_eq!(seen(&mut vigil, unit("active", "running", "c", 2)), "up");
    }

    #[test]
    fn slow_starts_are_waited_for_and_jobs_may_end() {
        let mut vigil = Vigil::since_its_start();
        let notify = seen(&mut vigil, unit("activating", "start", "a", 0));
        assert_eq!(notify, "coming: is still starting (start)");
        assert_eq!(seen(&mut vigil, unit("active", "running", "a", 0)), "up");
        assert_eq!(seen(&mut vigil, unit("reloading", "reload", "a", 0)), "up");
        let anew = seen(&mut vigil, unit("active", "running", "x", 0));
        assert_eq!(anew, "coming: was started anew by somebody");
        assert_eq!(seen(&mut vigil, unit("active", "running", "x", 0)), "up");
        let job = |it: Observation| Observation {
            kind: "oneshot".to_owned(),
            ..it
        };
        let mut vigil = Vigil::since_its_start();
        assert_eq!(
            seen(&mut vigil, job(unit("inactive", "dead", "a", 0))),
            "up"
        );
        let failed = seen(&mut vigil, died(job(unit("failed", "failed", "a", 0))));
        assert!(failed.starts_with("down"), "{failed}");
        let skipped = Observation {
            conditions: false,
            ..job(unit("inactive", "dead", "", 0))
        };
        assert!(seen(&mut vigil, skipped).contains("condition"));
        let none = Observation {
            load: "not-found".to_owned(),
            ..unit("inactive", "dead", "", 0)
        };
        assert!(seen(&mut vigil, none).contains("not-found"));
    }

    /// A host of a test: a unit that runs, dies and is restarted as systemd would, looked at now and then.
    #[derive(Debug, Clone, Copy)]
    enum Event {
        Look,
        Dies,
        IsRestarted,
    }

    proptest! {
        /// However it is looked at: if it was up at two looks and had ended in between, one of them says so.
        #[test]
        fn no_end_between_two_looks_is_missed(events in prop::collection::vec(prop::sample::select(vec![
            Event::Look, Event::Look, Event::Dies, Event::IsRestarted,
        ]), 0..40)) {
            let mut vigil = Vigil::since_its_start();
            let (mut now, mut run, mut ended) = (unit("active", "running", "0", 0), 0, false);
            for event in events {
                match event {
                    Event::Dies if now.active == "active" => {
                        now = died(unit("activating", "auto-restart", &run.to_string(), now.restarts));
                        ended = true;
                    }
                    Event::IsRestarted if now.active == "activating" => {
                        run += 1;
                        now = unit("active", "running", &run.to_string(), now.restarts + 1);
                    }
                    Event::Look => {
                        let down = matches!(vigil.see(&now), Verdict::Down { .. });
                        // Once said is enough for a new release; an old one is watched further.
                        prop_assert_eq!(down, ended);
                        if down && now.active == "active" {
                            ended = false;
                        } else if down {
                            return Ok(());
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
