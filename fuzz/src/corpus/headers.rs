//! The manifest is honest, and the tar stream is another one: names, links, devices, sparse files and extended
//! headers that a tar program would follow.

use super::Hostile;
use crate::made::{Made, small};
use crate::site::ABSOLUTE;
use tamer_release::layout::{BLOCK, Layout, TRAILER};
use tar::{EntryType, Header};

type Change = fn(&mut Header);

pub(super) fn all() -> Vec<Hostile> {
    let mut all = changed();
    all.extend(extended());
    all.extend(beside());
    all
}

/// The entry whose header is another one: the third of [`small`], a file of 700 bytes.
const DATA: usize = 2;

/// Where an entry of [`small`] starts and ends in the stream, in bytes.
fn place(made: &Made, entry: usize) -> std::ops::Range<usize> {
    let layout = Layout::of(&made.manifest.files).unwrap();
    let span = layout.spans[entry];
    span.start as usize..span.end as usize
}

fn with_header(change: impl FnOnce(&mut Header)) -> Made {
    let mut made = small();
    let at = place(&made, DATA).start;
    let block = &mut made.stream[at..at + BLOCK as usize];
    let mut header = Header::from_byte_slice(block).clone();
    change(&mut header);
    header.set_cksum();
    block.copy_from_slice(header.as_bytes());
    made.one_frame();
    made
}

fn name(header: &mut Header, name: &str) {
    put(&mut header.as_old_mut().name, name);
}

fn put(field: &mut [u8], text: &str) {
    field.fill(0);
    field[..text.len()].copy_from_slice(text.as_bytes());
}

fn kind(header: &mut Header, kind: EntryType, target: &str) {
    header.set_entry_type(kind);
    put(&mut header.as_old_mut().linkname, target);
}

/// One field of a header is not what the manifest makes of it.
fn changed() -> Vec<Hostile> {
    let cases: [(&str, Change, &str); 31] = [
        ("path-absolute", |h| name(h, ABSOLUTE), "`/tamer-was-here`"),
        ("path-dotdot", |h| name(h, "../secret"), "`../secret`"),
        (
            "path-dotdot-inside",
            |h| name(h, "bin/../../secret"),
            "`bin/../../secret`",
        ),
        ("path-dot", |h| name(h, "./data"), "a file `./data`"),
        ("path-empty", |h| name(h, ""), "a file ``"),
        (
            "path-through-a-link",
            |h| name(h, "link/x"),
            "a file `link/x`",
        ),
        ("path-twice", |h| name(h, "bin/run"), "a file `bin/run`"),
        ("path-not-listed", |h| name(h, "more"), "a file `more`"),
        ("path-in-other-case", |h| name(h, "DATA"), "a file `DATA`"),
        (
            "path-of-tamer-itself",
            |h| name(h, ".tamer/manifest.json"),
            "`.tamer/manifest.json`",
        ),
        (
            "path-with-a-nul",
            |h| name(h, "data\0/../../secret"),
            "does not hold `data` as it was signed",
        ),
        (
            "path-in-the-prefix-field",
            |h| {
                let ustar = Header::new_ustar();
                h.as_mut_bytes()[257..265].copy_from_slice(&ustar.as_bytes()[257..265]);
                put(&mut h.as_mut_bytes()[345..500], "../../secret");
            },
            "`../../secret/data`",
        ),
        (
            "path-that-is-a-terminal-escape",
            |h| name(h, "\u{1b}[2Jdata"),
            "`\\u{1b}[2Jdata`",
        ),
        (
            "directory-for-a-file",
            |h| kind(h, EntryType::Directory, ""),
            "a directory",
        ),
        (
            "link-out",
            |h| kind(h, EntryType::Symlink, "../../secret"),
            "a symbolic link",
        ),
        (
            "link-to-an-absolute-path",
            |h| kind(h, EntryType::Symlink, ABSOLUTE),
            "a symbolic link",
        ),
        (
            "link-inside",
            |h| kind(h, EntryType::Symlink, "bin/run"),
            "a symbolic link",
        ),
        (
            "hard-link",
            |h| kind(h, EntryType::Link, "bin/run"),
            "a hard link",
        ),
        (
            "hard-link-out",
            |h| kind(h, EntryType::Link, "../secret"),
            "a hard link",
        ),
        (
            "character-device",
            |h| kind(h, EntryType::Char, ""),
            "a device",
        ),
        (
            "block-device",
            |h| kind(h, EntryType::Block, ""),
            "a device",
        ),
        ("fifo", |h| kind(h, EntryType::Fifo, ""), "a FIFO"),
        (
            "sparse-bomb",
            |h| {
                kind(h, EntryType::GNUSparse, "");
                // The size that the file is said to have, in an old GNU header: 8 EiB less a byte.
                put(&mut h.as_mut_bytes()[483..495], "777777777777");
            },
            "a sparse file",
        ),
        (
            "multi-volume",
            |h| kind(h, EntryType::new(b'M'), ""),
            "something else",
        ),
        (
            "volume-header",
            |h| kind(h, EntryType::new(b'V'), ""),
            "something else",
        ),
        ("mode-setuid", |h| h.set_mode(0o4755), "mode 4755"),
        ("mode-for-everyone", |h| h.set_mode(0o777), "mode 0777"),
        (
            "size-of-a-tebibyte",
            |h| h.set_size(1 << 40),
            "1099511627776 bytes",
        ),
        ("size-of-nothing", |h| h.set_size(0), "mode 0644, 0 bytes"),
        (
            "owner",
            |h| h.set_uid(1000),
            "does not hold `data` as it was signed",
        ),
        (
            "time",
            |h| h.set_mtime(u64::MAX),
            "does not hold `data` as it was signed",
        ),
    ];
    cases
        .into_iter()
        .map(|(name, change, says)| {
            Hostile::new(&format!("header-{name}"), &with_header(change), says)
        })
        .collect()
}

/// A header of this kind with a block of content, and then a header of an empty file `data`: as long as the
/// entry that should stand there.
fn instead_of_data(kind: u8, path: &str, content: &[u8]) -> Made {
    let mut made = small();
    let at = place(&made, DATA);
    assert_eq!(at.len() as u64, 3 * BLOCK, "the entry has three blocks");
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::new(kind));
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    name(&mut header, path);
    header.set_cksum();
    let mut blocks = header.as_bytes().to_vec();
    blocks.extend(content);
    blocks.resize(2 * BLOCK as usize, 0);
    let file = &made.stream[at.start..at.start + BLOCK as usize];
    let mut empty = Header::from_byte_slice(file).clone();
    empty.set_size(0);
    empty.set_cksum();
    blocks.extend(empty.as_bytes());
    made.stream[at].copy_from_slice(&blocks);
    made.one_frame();
    made
}

/// A record of an extended header (pax): its own length, then what it sets.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}").into_bytes()
}

/// What stands before an entry and changes what a tar program makes of it.
fn extended() -> Vec<Hostile> {
    let sparse = [
        record("GNU.sparse.major", "1"),
        record("GNU.sparse.minor", "0"),
        record("GNU.sparse.name", "data"),
        record("GNU.sparse.realsize", "9223372036854775807"),
    ];
    let pax = [
        ("path", 'x', record("path", "../../secret")),
        ("absolute-path", 'x', record("path", ABSOLUTE)),
        ("link", 'x', record("linkpath", "../../secret")),
        ("size", 'x', record("size", "1099511627776")),
        ("sparse-bomb", 'x', sparse.concat()),
        ("record-that-lies", 'x', b"999 path=data\n".to_vec()),
        (
            "capability",
            'x',
            record("SCHILY.xattr.security.capability", "all"),
        ),
        ("global-path", 'g', record("path", "../../secret")),
    ];
    let long = [
        ("long-name", 'L', "a long name"),
        ("long-link", 'K', "a long name"),
    ];
    let pax = pax.into_iter().map(|(name, kind, content)| {
        let path = format!("PaxHeaders/{name}");
        let made = instead_of_data(kind as u8, &path, &content);
        let says = format!("an extended header `{path}`");
        Hostile::new(&format!("pax-{name}"), &made, &says)
    });
    let long = long.into_iter().map(|(name, kind, says)| {
        let made = instead_of_data(kind as u8, "././@LongLink", b"../../secret\0");
        Hostile::new(&format!("header-{name}"), &made, says)
    });
    pax.chain(long).collect()
}

/// The entries are right, and there is something beside them.
fn beside() -> Vec<Hostile> {
    let mut all = Vec::new();
    let mut add =
        |name: &str, says: &str, change: &dyn Fn(&mut Vec<u8>, std::ops::Range<usize>)| {
            let mut made = small();
            let data = place(&made, DATA);
            change(&mut made.stream, data);
            made.one_frame();
            all.push(Hostile::new(name, &made, says));
        };
    let block = BLOCK as usize;
    let end = |stream: &[u8]| stream.len() - TRAILER as usize;
    add(
        "content-changed",
        "its content has another digest",
        &|s, at| {
            s[at.start + block] ^= 1;
        },
    );
    add("padding-used", "its padding is not empty", &|s, at| {
        s[at.end - 1] = 1;
    });
    add(
        "entry-after-the-end",
        "more after its last entry",
        &|s, _| {
            let (end, evil) = (end(s), s[..block].to_vec());
            s[end..end + block].copy_from_slice(&evil);
        },
    );
    add("entry-too-many", "its entries need", &|s, _| {
        let (end, evil) = (end(s), s[..block].to_vec());
        s.splice(end..end, evil);
    });
    add("entry-missing", "its entries need", &|s, at| {
        drop(s.drain(at));
    });
    add("end-missing", "its entries need", &|s, _| {
        s.truncate(end(s));
    });
    add(
        "entries-in-another-order",
        "does not hold `bin`",
        &|s, at| {
            let data: Vec<u8> = s.drain(at).collect();
            s.splice(0..0, data);
        },
    );
    all
}
