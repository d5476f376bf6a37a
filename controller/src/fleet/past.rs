//! What people said of changes by hand, and what came of it: for people, like deployments of the past.

use super::Fleet;
use super::persist::Object;
use serde::{Deserialize, Serialize};
use tamer_core::drift::{Drift, Word};
use tamer_core::id::{HostName, TargetKey};
use tamer_core::moment::Moment;

/// How many are kept.
pub const KEPT: usize = 500;

/// The longest list of what differed that is kept, in bytes.
const MOST_NAMED: usize = 500;

/// What somebody said of a drift, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastWord {
    /// Where.
    pub target: TargetKey,
    /// On which host.
    pub host: HostName,
    /// What was said, by whom, when and why.
    pub word: Word,
    /// What differed: the first of it.
    pub named: String,
    /// When it was over, and what came of it.
    pub ended: Option<(Moment, String)>,
}

impl Fleet {
    /// Somebody has spoken.
    pub(super) fn note_word(
        &mut self,
        key: &TargetKey,
        host: &HostName,
        word: &Word,
        drift: &Drift,
    ) {
        self.end_word(key, host, "something else was said of it", word.at);
        self.numbers.word += 1;
        let mut named = drift.to_string();
        while named.len() > MOST_NAMED {
            named.pop();
        }
        let past = PastWord {
            target: key.clone(),
            host: host.clone(),
            word: word.clone(),
            named,
            ended: None,
        };
        self.past_words.insert(self.numbers.word, past);
        self.dirty.insert(Object::PastWord(self.numbers.word));
        while self.past_words.len() > KEPT
            && let Some((old, _)) = self.past_words.pop_first()
        {
            self.dirty.insert(Object::PastWord(old));
        }
    }

    /// What was said last is over; nothing where nothing was, or where it was over before.
    pub(super) fn end_word(&mut self, key: &TargetKey, host: &HostName, became: &str, now: Moment) {
        let mut newest = self.past_words.iter_mut().rev();
        let ours = newest.find(|(_, past)| past.target == *key && past.host == *host);
        if let Some((number, past)) = ours.filter(|(_, past)| past.ended.is_none()) {
            past.ended = Some((now, became.to_owned()));
            self.dirty.insert(Object::PastWord(*number));
        }
    }
}
