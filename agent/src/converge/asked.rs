//! Somebody asks what differs, all of it: the running releases are looked at anew, and the answer stands in
//! the report for as long as the desired state asks.

use super::Converge;
use super::looking::Due;
use crate::drift::Seen;
use crate::plan::{self, Current};
use tamer_core::desired::{Desired, DesiredComponent, Failure, Inspected, Inspection};
use tamer_core::drift::{Drift, Inspect};

/// What differs, or why that cannot be said.
type Answer = Result<Option<Drift>, Failure>;

/// A wish to hear what differs of one component, and how far it is.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    id: u64,
    reading: Reading,
    /// Whether what names it all was begun for this wish; what began earlier has not seen everything.
    naming: bool,
    answer: Option<Answer>,
}

/// How far the reading of every byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Wanted,
    Begun,
    /// It is done, or nobody wants it.
    Over,
}

impl Wish {
    pub(super) fn new(inspect: Inspect) -> Self {
        Self {
            id: inspect.id,
            reading: match inspect.full {
                true => Reading::Wanted,
                false => Reading::Over,
            },
            naming: false,
            answer: None,
        }
    }

    /// The same once another release runs: what was read is of no use. An answer that was given stands.
    pub(super) fn of_another_release(self) -> Self {
        Self {
            reading: match self.reading {
                Reading::Begun if self.answer.is_none() => Reading::Wanted,
                reading => reading,
            },
            naming: false,
            ..self
        }
    }

    /// Whether every byte is to be read for it, from the first on.
    pub(super) fn wants_reading(&self) -> bool {
        self.answer.is_none() && self.reading == Reading::Wanted
    }

    /// Whether what differs is to be named now.
    pub(super) fn wants_naming(&self) -> bool {
        self.answer.is_none() && self.reading == Reading::Over
    }

    /// A look begins.
    pub(super) fn begins(&mut self, due: Due) {
        match due {
            Due::Full if self.reading == Reading::Wanted => self.reading = Reading::Begun,
            Due::Asked => self.naming = true,
            Due::Full | Due::Fast => {}
        }
    }

    /// A look has ended.
    pub(super) fn looked(&mut self, due: Due, outcome: &Result<Seen, Failure>) {
        let begun = match due {
            Due::Fast => false,
            Due::Full => self.reading == Reading::Begun,
            Due::Asked => self.naming,
        };
        match outcome {
            _ if !begun || self.answer.is_some() => {}
            Err(why) => self.answer = Some(Err(why.clone())),
            Ok(seen) if due == Due::Asked => self.answer = Some(Ok(seen.drift.clone())),
            Ok(seen) if seen.after.is_none() => self.reading = Reading::Over,
            Ok(_) => {}
        }
    }
}

impl Converge {
    /// Takes up what the desired state asks for, and forgets what it does not ask for any more.
    pub(super) fn ask_what_differs(&mut self, desired: &Desired) {
        let asked = desired.inspect;
        for (slot, state) in &mut self.slots {
            let ours = desired.components.iter().any(|it| it.slot == *slot);
            let wish = &mut state.looking.wish;
            match asked.filter(|_| ours) {
                None => *wish = None,
                Some(asked) if wish.as_ref().is_some_and(|it| it.id == asked.id) => {}
                Some(asked) => *wish = Some(Wish::new(asked)),
            }
        }
    }

    /// The answer, once it is whole.
    pub(super) fn inspection(&self) -> Option<Inspection> {
        let desired = self.desired.as_ref()?;
        let id = desired.inspect?.id;
        let components = desired.components.iter().map(|wanted| {
            Some(Inspected {
                slot: wanted.slot.clone(),
                found: self.found(wanted, id)?,
            })
        });
        Some(Inspection {
            id,
            components: components.collect::<Option<_>>()?,
        })
    }

    fn found(&self, wanted: &DesiredComponent, id: u64) -> Option<Answer> {
        let Some(state) = self.slots.get(&wanted.slot) else {
            return Some(Ok(None));
        };
        let wish = state.looking.wish.as_ref().filter(|it| it.id == id);
        if let Some(answer) = wish.and_then(|it| it.answer.clone()) {
            return Some(answer);
        }
        match &state.current {
            // Another one is coming, or it is looked at.
            _ if state.working.is_some() || state.running().is_some() => None,
            Current::Foreign(what) => Some(Ok(Some(plan::foreign(what)))),
            Current::Nothing | Current::Release(_) => Some(Ok(None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowed::failure;
    use tamer_core::desired::FailureKind;
    use tamer_kit::clock;

    fn seen(after: Option<&str>) -> Result<Seen, Failure> {
        Ok(Seen {
            drift: None,
            read: Some(clock::now()),
            after: after.map(str::to_owned),
        })
    }

    #[test]
    fn what_began_before_the_wish_does_not_answer_it() {
        let mut wish = Wish::new(Inspect { id: 1, full: false });
        assert!(wish.wants_naming() && !wish.wants_reading());
        wish.looked(Due::Asked, &seen(None));
        wish.looked(Due::Fast, &seen(None));
        assert!(wish.answer.is_none());
        wish.begins(Due::Asked);
        wish.looked(Due::Asked, &seen(None));
        assert_eq!(wish.answer, Some(Ok(None)));
        assert!(!wish.wants_naming());
    }

    #[test]
    fn every_byte_is_read_from_the_first_on_before_it_is_named() {
        let mut wish = Wish::new(Inspect { id: 1, full: true });
        // One that was under way.
        wish.looked(Due::Full, &seen(None));
        assert!(wish.wants_reading() && !wish.wants_naming());
        wish.begins(Due::Full);
        wish.looked(Due::Full, &seen(Some("a")));
        assert!(!wish.wants_reading() && !wish.wants_naming());
        let anew = wish.clone().of_another_release();
        assert!(anew.wants_reading());
        wish.begins(Due::Full);
        wish.looked(Due::Full, &seen(None));
        assert!(wish.wants_naming());
        let why = failure(FailureKind::Host, "it is on fire");
        wish.begins(Due::Asked);
        wish.looked(Due::Asked, &Err(why.clone()));
        assert_eq!(wish.answer, Some(Err(why)));
    }
}
