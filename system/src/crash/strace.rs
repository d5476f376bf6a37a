//! What `strace -f -xx -y` writes, read.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The calls that change files, and those that make changes durable.
pub(super) const CALLS: &str = "open,openat,openat2,creat,write,pwrite64,writev,pwritev,pwritev2,lseek,truncate,\
    ftruncate,fallocate,copy_file_range,sendfile,splice,rename,renameat,renameat2,link,linkat,unlink,unlinkat,\
    mkdir,mkdirat,rmdir,symlink,symlinkat,chmod,fchmod,fchmodat,?fchmodat2,fsync,fdatasync,sync,syncfs";

/// Calls that another thread interrupted are put together again, where they ended.
pub(super) fn whole_lines(log: &str) -> Vec<String> {
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let mut whole = Vec::new();
    for line in log.lines() {
        let (pid, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if let Some(first) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, first);
        } else if let Some(rest) = call.strip_prefix("<... ") {
            let (_, rest) = rest.split_once(" resumed>").unwrap();
            let first = begun.remove(pid).unwrap();
            whole.push(format!("{first}{rest}"));
        } else if !call.starts_with("+++") && !call.starts_with("---") {
            whole.push(call.to_owned());
        }
    }
    whole
}

/// One argument of a call.
#[derive(Debug, Clone)]
pub(super) enum Word {
    /// A path or bytes between quotes.
    Text(Vec<u8>),
    /// A descriptor, with what it is open on.
    Open(PathBuf),
    /// Anything else.
    Other(String),
}

pub(super) fn number(text: &str) -> u64 {
    let digits: String = text
        .trim()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("`{text}` is no number"))
}

pub(super) fn octal(text: &str) -> Option<u32> {
    let text = text.trim_matches(|c: char| !c.is_ascii_digit());
    text.starts_with('0')
        .then(|| u32::from_str_radix(text, 8).ok())
        .flatten()
}

pub(super) fn mode(text: &str) -> u32 {
    octal(text).unwrap_or(0) & 0o7777
}

/// The arguments of a call, as `strace -xx -y` writes them: `"\x2f\x61"`, `3<\x2f\x61>`, `O_RDONLY|…`,
/// `{flags=…, mode=…}`.
pub(super) fn words(arguments: &str) -> Vec<Word> {
    let mut found = Vec::new();
    let mut rest = arguments.trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix('"') {
            let (text, after) = quoted.split_once('"').unwrap();
            found.push(Word::Text(bytes(text)));
            rest = after;
        } else {
            // Braces and brackets are one word, commas and all.
            let mut depth = 0_i32;
            let end = rest.find(|c| {
                match c {
                    '{' | '[' => depth += 1,
                    '}' | ']' => depth -= 1,
                    _ => {}
                }
                c == ',' && depth == 0
            });
            let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
            let path = word.split_once('<').and_then(|(_, it)| it.rsplit_once('>'));
            found.push(match path {
                Some((path, after)) => {
                    let mut path = bytes(path);
                    if after.starts_with("(deleted)") {
                        path.extend(b" (deleted)");
                    }
                    Word::Open(PathBuf::from(OsStr::from_bytes(&path)))
                }
                None => Word::Other(word.trim().to_owned()),
            });
            rest = after;
        }
        rest = rest.trim_start_matches([',', ' ']);
    }
    found
}

/// `\x2f\x61`, or what stands there plainly.
fn bytes(text: &str) -> Vec<u8> {
    if !text.starts_with("\\x") {
        return text.as_bytes().to_vec();
    }
    let parts = text.split("\\x").skip(1);
    parts
        .map(|it| u8::from_str_radix(&it[..2], 16).unwrap())
        .collect()
}
