//! JUnit XML: how many tests there were of each outcome. Only elements count: the sums in attributes are the
//! writer's word, and writers differ in what they mean by them.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use tamer_release::attest::statement::{Counts, MAX_NAMED};

/// The largest file that is read, in bytes.
pub const MAX_JUNIT: u64 = 64 << 20;

/// The deepest nesting that is read.
const MAX_DEPTH: usize = 64;

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tests {
    /// How many.
    pub counts: Counts,
    /// The first failed ones, by name.
    pub failed: Vec<String>,
}

/// Why a file is not JUnit XML.
#[derive(Debug, thiserror::Error)]
pub enum BadJunit {
    /// Not XML.
    #[error("it is not XML: {0}")]
    Xml(#[from] quick_xml::Error),
    /// XML, but cut off or nested without end.
    #[error("it is cut off, or nested too deep")]
    Shape,
    /// Something else than JUnit's.
    #[error("its root is `{0}`, and JUnit's is `testsuites` or `testsuite`")]
    Root(String),
    /// Nothing was tested.
    #[error("there is no test in it: a run of nothing proves nothing")]
    Empty,
}

impl Tests {
    /// Reads a file.
    ///
    /// # Errors
    /// [`BadJunit`].
    pub fn read(bytes: &[u8]) -> Result<Self, BadJunit> {
        let mut reader = Reader::from_reader(bytes);
        let mut tests = Self::default();
        let mut depth = 0_usize;
        let mut case: Option<Case> = None;
        let mut closed = false;
        loop {
            match reader.read_event()? {
                Event::Start(element) => {
                    root(depth, closed, &element)?;
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(BadJunit::Shape);
                    }
                    note(&mut case, &element, depth);
                }
                Event::Empty(element) => {
                    root(depth, closed, &element)?;
                    note(&mut case, &element, depth + 1);
                    tests.close(&mut case, depth + 1);
                    closed |= depth == 0;
                }
                Event::End(_) => {
                    tests.close(&mut case, depth);
                    depth = depth.checked_sub(1).ok_or(BadJunit::Shape)?;
                    closed |= depth == 0;
                }
                Event::Eof if depth == 0 && closed => break,
                Event::Eof => return Err(BadJunit::Shape),
                _ => {}
            }
        }
        match tests.counts.passed + tests.counts.failed {
            0 => Err(BadJunit::Empty),
            _ => Ok(tests),
        }
    }

    /// Adds what another file says.
    pub fn add(&mut self, other: Self) {
        self.counts.passed += other.counts.passed;
        self.counts.failed += other.counts.failed;
        self.counts.skipped += other.counts.skipped;
        self.failed.extend(other.failed);
        self.failed.truncate(MAX_NAMED);
    }

    fn close(&mut self, open: &mut Option<Case>, depth: usize) {
        let Some(case) = open.take_if(|case| case.depth == depth) else {
            return;
        };
        match (case.failed, case.skipped) {
            (true, _) => {
                self.counts.failed += 1;
                if self.failed.len() < MAX_NAMED {
                    self.failed.push(case.name);
                }
            }
            (false, true) => self.counts.skipped += 1,
            (false, false) => self.counts.passed += 1,
        }
    }
}

/// A test case that is open.
struct Case {
    name: String,
    depth: usize,
    failed: bool,
    skipped: bool,
}

fn root(depth: usize, closed: bool, element: &BytesStart<'_>) -> Result<(), BadJunit> {
    let name = element.local_name();
    match name.as_ref() {
        _ if depth > 0 => Ok(()),
        b"testsuites" | b"testsuite" if !closed => Ok(()),
        other => Err(BadJunit::Root(
            String::from_utf8_lossy(other).chars().take(80).collect(),
        )),
    }
}

fn note(open: &mut Option<Case>, element: &BytesStart<'_>, depth: usize) {
    match (element.local_name().as_ref(), &mut *open) {
        (b"testcase", None) => {
            let name = element.try_get_attribute("name").ok().flatten();
            let name = name.map(|it| {
                String::from_utf8_lossy(&it.value)
                    .chars()
                    .take(200)
                    .collect()
            });
            *open = Some(Case {
                name: name.unwrap_or_default(),
                depth,
                failed: false,
                skipped: false,
            });
        }
        (b"failure" | b"error", Some(case)) => case.failed = true,
        (b"skipped", Some(case)) => case.skipped = true,
        // A suite that broke as a whole has failed, whatever its cases say.
        (b"failure" | b"error", None) => {
            *open = Some(Case {
                name: "the whole suite".to_owned(),
                depth,
                failed: true,
                skipped: false,
            });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(text: &str) -> (u64, u64, u64) {
        let it = Tests::read(text.as_bytes()).unwrap().counts;
        (it.passed, it.failed, it.skipped)
    }

    #[test]
    fn elements_count_and_sums_in_attributes_do_not() {
        let text = r#"<?xml version="1.0"?><!-- by hand --><testsuites><testsuite name="a" tests="9" failures="0">
            <testcase name="one"/><testcase name="two"><system-out>failure</system-out></testcase>
            <testcase name="three"><failure message="no">trace</failure></testcase>
            <testcase name="four"><error/></testcase><testcase name="five"><skipped/></testcase>
            </testsuite></testsuites>"#;
        assert_eq!(counts(text), (2, 2, 1));
        assert_eq!(
            Tests::read(text.as_bytes()).unwrap().failed,
            ["three", "four"]
        );
        assert_eq!(
            counts("<testsuite><testcase/><error/></testsuite>"),
            (1, 1, 0)
        );
    }

    #[test]
    fn what_is_cut_off_empty_or_something_else_is_refused() {
        for bad in [
            "",
            "hello",
            "<html><testcase/></html>",
            "<testsuite><testcase/>",
            "<testsuite></testsuite>",
            "<testsuite><testcase><skipped/></testcase></testsuite>",
            "<testsuite><testcase/></testsuites>",
            "<testsuite/><testsuite><testcase/></testsuite>",
        ] {
            assert!(Tests::read(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = "<testsuite>".repeat(100_000);
        assert!(Tests::read(deep.as_bytes()).is_err());
    }
}
