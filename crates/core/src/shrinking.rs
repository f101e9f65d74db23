//! Takes long lists apart and frees their memory on the way: a list of a million elements and its conversion
//! are never both in memory as a whole.

/// Free slots before memory is released.
const PLACES: usize = 1 << 16;

/// The elements of a list, last one first.
pub(crate) struct Shrinking<T>(Vec<T>);

impl<T> From<Vec<T>> for Shrinking<T> {
    fn from(list: Vec<T>) -> Self {
        Shrinking(list)
    }
}

impl<T> Iterator for Shrinking<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.0.capacity() - self.0.len() >= PLACES {
            self.0.shrink_to_fit();
        }
        self.0.pop()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_elements_come_and_their_places_go() {
        let list: Vec<usize> = (0..3 * PLACES + 7).collect();
        let mut shrinking = Shrinking::from(list);
        for expected in (0..3 * PLACES + 7).rev() {
            assert_eq!(shrinking.next(), Some(expected));
            assert!(shrinking.0.capacity() <= shrinking.0.len() + PLACES + 1);
        }
        assert_eq!(shrinking.next(), None);
    }
}
