//! Bytes read as a row of choices: any bytes are some choices, and a changed byte changes one of them.

/// What is left of the bytes. When none are, every choice is the first one.
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// Yes, once in so many times.
    pub(crate) fn once_in(&mut self, times: u8) -> bool {
        self.byte() % times == times - 1
    }

    /// One of these, of which there is at least one.
    pub(crate) fn one_of<'b, T>(&mut self, all: &'b [T]) -> &'b T {
        &all[usize::from(self.byte()) % all.len()]
    }

    /// A number: small ones mostly, then those at which something ends, then any.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=127 => u64::from(small),
            large @ 128..=191 => (u64::from(large) << 8) | u64::from(self.byte()),
            power @ 192..=254 => {
                let power = 1_u64 << (power - 192 + 1);
                match self.byte() % 3 {
                    0 => power - 1,
                    1 => power,
                    _ => power.saturating_add(1),
                }
            }
            255 => u64::MAX,
        }
    }

    /// So many bytes at most.
    pub(crate) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (these, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        these
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }
}
