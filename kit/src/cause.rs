//! What lies below an error.

use std::error::Error;
use std::io;

/// The first error in the chain that is a `T`: the error itself, one of its sources, or one that an [`io::Error`] holds,
/// which is not among its sources.
pub fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// An error and its causes in one line: `cannot read it: no such file`.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| (**error).source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::FileError;
    use std::fmt;
    use std::path::Path;

    fn below() -> FileError {
        FileError::new("read", Path::new("a"))(io::Error::other("torn"))
    }

    #[test]
    fn what_is_in_an_io_error_is_found_like_any_other_cause() {
        let within = io::Error::other(io::Error::other(below()));
        let above = FileError::new("open", Path::new("b"))(within);
        assert!(cause::<io::Error>(&above).is_some());
        let found = |error: &io::Error| cause::<FileError>(error).map(ToString::to_string);
        let outer = io::Error::other(above);
        assert!(found(&outer).unwrap().contains('b'), "the first of two");
        assert!(cause::<fmt::Error>(&outer).is_none());
        assert!(found(&io::Error::from(io::ErrorKind::NotFound)).is_none());
    }

    #[test]
    fn a_chain_is_told_from_the_top() {
        let said = chain(&below());
        assert!(said.ends_with(": torn") && said.contains("read"), "{said}");
    }
}
