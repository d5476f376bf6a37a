//! The end of a stream, in bounded memory.

/// The last bytes of a stream.
pub(super) struct Tail {
    bytes: Vec<u8>,
    cap: usize,
}

impl Tail {
    pub(super) fn new(cap: usize) -> Self {
        Self {
            bytes: Vec::new(),
            cap,
        }
    }

    pub(super) fn push(&mut self, more: &[u8]) {
        self.bytes
            .extend_from_slice(&more[more.len().saturating_sub(self.cap)..]);
        // Cutting at twice the cap and not at every push keeps the cost per byte constant.
        if self.bytes.len() > 2 * self.cap {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let surplus = self.bytes.len().saturating_sub(self.cap);
        self.bytes.drain(..surplus);
    }

    /// The end as text; bytes that are not UTF-8 are replaced.
    pub(super) fn text(mut self) -> String {
        self.cut();
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_tail_is_the_end_of_everything(
            parts in prop::collection::vec(prop::collection::vec(b'a'..=b'z', 0..40), 0..40),
            cap in 0usize..60,
        ) {
            let mut tail = Tail::new(cap);
            for part in &parts {
                tail.push(part);
                prop_assert!(tail.bytes.len() <= 2 * cap);
            }
            let whole = String::from_utf8(parts.concat()).unwrap();
            let text = tail.text();
            prop_assert!(whole.ends_with(&text));
            prop_assert_eq!(text.len(), whole.len().min(cap));
        }
    }
}
