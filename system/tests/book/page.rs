//! Pages, and the blocks in them.
//!
//! A block's language says what it is; words after it say how it is run, and no reader sees them:
//!
//! | opens with | what it is |
//! |---|---|
//! | `sh` | commands, run in order in one shell a page |
//! | `sh exits=6` | the same, and this is how they end |
//! | `sh stopped` | the same, after the reader has stopped what was started |
//! | `console` | commands after `$ ` with what they print; `…` stands for anything |
//! | `console until=WORD` | the same, again until WORD is printed: `_` is a blank, `$` the end of a line |
//! | `toml file=NAME` (any language) | a file that the reader writes; its first line names it |
//! | `sh lab=HOST`, `ini file=NAME lab=HOST` | what needs a whole machine: for the lab's scenario `the-book` |
//! | `sh also=HOST` | run here and in the lab |
//! | `sh ci` | commands of this repository that CI runs by itself |
//! | any other language | to be read, not typed |

use std::fs;
use std::path::Path;

/// A page.
#[derive(Debug)]
pub(crate) struct Page {
    /// Its path below `docs/`.
    pub(crate) name: String,
    /// Whether a fleet runs already when it begins.
    pub(crate) fleet: bool,
    /// Its blocks.
    pub(crate) blocks: Vec<Block>,
    /// Everything else, with blocks' lines empty.
    pub(crate) prose: String,
}

/// A block of code.
#[derive(Debug)]
pub(crate) struct Block {
    /// Where it opens, from one.
    pub(crate) line: usize,
    /// How it is run.
    pub(crate) kind: Kind,
    /// The host of the lab on which it is run.
    pub(crate) lab: Option<String>,
    /// What stands in it.
    pub(crate) text: String,
}

/// How a block is run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Commands that end with this code.
    Commands(i32),
    /// Commands for when nothing runs any more.
    Stopped,
    /// Commands and what they print; looked at again until this word is there.
    Transcript(Option<String>),
    /// A file.
    File(String),
    /// Commands for a host of the lab alone.
    Lab,
    /// Commands of CI.
    Ci,
    /// Nothing to run.
    Reading,
}

/// The languages of blocks that nobody types.
const TO_READ: [&str; 7] = ["text", "toml", "json", "yaml", "ini", "rust", "promql"];

impl Page {
    /// Reads a page below `docs/`.
    pub(crate) fn read(docs: &Path, name: &str) -> Self {
        let text = fs::read_to_string(docs.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (mut blocks, mut prose) = (Vec::<Block>::new(), String::new());
        let mut open = false;
        for (n, line) in text.lines().enumerate() {
            let words = line.strip_prefix("```");
            match words {
                Some("") if open => open = false,
                Some(_) if open => panic!("{name}:{}: a block opens within a block", n + 1),
                Some(words) => {
                    let kind = Kind::parse(words);
                    let kind = kind.unwrap_or_else(|| panic!("{name}:{}: ```{words}", n + 1));
                    let mut lab = words.split(' ').filter_map(|word| word.split_once('='));
                    let lab = lab.rfind(|(word, _)| ["lab", "also"].contains(word));
                    blocks.push(Block {
                        line: n + 1,
                        kind,
                        lab: lab.map(|(_, host)| host.to_owned()),
                        text: String::new(),
                    });
                    open = true;
                }
                None if open => {
                    let block = blocks.last_mut().unwrap();
                    block.text += line;
                    block.text.push('\n');
                }
                None => prose += line,
            }
            prose.push('\n');
        }
        assert!(!open, "{name}: the last block does not end");
        for block in &blocks {
            if let Kind::File(file) = &block.kind {
                // A script names its interpreter first.
                let mut first = block.text.lines().take(2);
                let at = format!("{name}:{}", block.line);
                let named = first.any(|line| line.ends_with(&format!("# {file}")));
                assert!(
                    named || file.starts_with(".."),
                    "{at}: it does not begin with `# {file}`"
                );
            }
        }
        Self {
            name: name.to_owned(),
            fleet: prose.contains("<!-- begins with a fleet -->"),
            blocks,
            prose,
        }
    }

    /// Whether there is anything to run here.
    pub(crate) fn runs(&self) -> bool {
        let runs = |block: &Block| {
            matches!(
                block.kind,
                Kind::Commands(_) | Kind::Stopped | Kind::Transcript(_)
            )
        };
        self.blocks.iter().any(runs)
    }
}

impl Kind {
    fn parse(words: &str) -> Option<Self> {
        let mut words = words.split(' ');
        let language = words.next()?;
        let words: Vec<(&str, &str)> = words
            .map(|word| word.split_once('=').unwrap_or((word, "")))
            .collect();
        match (language, &words[..]) {
            ("sh", []) => Some(Self::Commands(0)),
            ("sh", [("exits", code)]) => code.parse().ok().map(Self::Commands),
            ("sh", [("stopped", "")]) => Some(Self::Stopped),
            ("sh", [("ci", "")]) => Some(Self::Ci),
            ("console", []) => Some(Self::Transcript(None)),
            ("console", [("until", word)]) => Some(Self::Transcript(Some(word.replace('_', " ")))),
            (_, [("file", file)]) => Some(Self::File((*file).to_owned())),
            ("sh", [("also", _)]) => Some(Self::Commands(0)),
            ("sh", [("lab", _)]) | (_, [("file", _), ("lab", _)]) => Some(Self::Lab),
            (language, []) if TO_READ.contains(&language) => Some(Self::Reading),
            _ => None,
        }
    }
}
