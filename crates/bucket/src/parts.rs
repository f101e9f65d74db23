//! Cuts a content that arrives in chunks of any size into parts of one size, without copying it.

use std::collections::VecDeque;

use bytes::Bytes;
use object_store::PutPayload;

/// The bytes that have arrived and are not cut yet.
#[derive(Debug)]
pub(super) struct Parts {
    size: usize,
    pending: VecDeque<Bytes>,
    buffered: usize,
}

impl Parts {
    /// Parts of `size` bytes; the last may be smaller.
    pub(super) fn new(size: usize) -> Self {
        Parts { size, pending: VecDeque::new(), buffered: 0 }
    }

    pub(super) fn push(&mut self, stretch: Bytes) {
        if !stretch.is_empty() {
            self.buffered += stretch.len();
            self.pending.push_back(stretch);
        }
    }

    /// A full part, if more follows it: the last one is left to [`rest`](Self::rest), so that a content of
    /// exactly one part needs no upload.
    pub(super) fn next_full(&mut self) -> Option<PutPayload> {
        (self.buffered > self.size).then(|| self.take(self.size))
    }

    /// The remaining bytes.
    pub(super) fn rest(&mut self) -> PutPayload {
        self.take(self.buffered)
    }

    fn take(&mut self, size: usize) -> PutPayload {
        let mut missing = size;
        let mut taken = Vec::new();
        while missing > 0 {
            let Some(mut stretch) = self.pending.pop_front() else {
                break;
            };
            if stretch.len() > missing {
                self.pending.push_front(stretch.split_off(missing));
            }
            missing -= stretch.len();
            taken.push(stretch);
        }
        self.buffered -= size - missing;
        taken.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(payload: PutPayload) -> Vec<u8> {
        payload.into_iter().flat_map(Vec::from).collect()
    }

    proptest! {
        #[test]
        fn parts_have_one_size_and_together_are_the_content(
            stretches in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 0..20),
            size in 1_usize..20,
        ) {
            let mut parts = Parts::new(size);
            let mut found = Vec::new();
            for stretch in &stretches {
                parts.push(Bytes::from(stretch.clone()));
                while let Some(part) = parts.next_full() {
                    prop_assert_eq!(part.content_length(), size);
                    found.extend(bytes(part));
                }
                prop_assert!(parts.buffered <= size);
            }
            found.extend(bytes(parts.rest()));
            prop_assert_eq!(found, stretches.concat());
            prop_assert_eq!(parts.rest().content_length(), 0);
        }
    }
}
