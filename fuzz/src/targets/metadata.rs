//! Signed metadata, of any role: what is read before anybody's signature was looked at.

use std::collections::BTreeSet;
use tamer_core::moment::{Moment, Span};
use tamer_release::json;
use tamer_release::trust::document::{Document, Readable};
use tamer_release::trust::editor::{self, RepositoryRoles, RoleKeys};
use tamer_release::trust::roots::RootChain;
use tamer_release::trust::targets::{Targets, flat};
use tamer_release::trust::{NewTarget, SigningKey, targets_with};
use tough::schema::{Root, Snapshot, Timestamp};

pub(super) fn run(bytes: &[u8]) {
    let root = of::<Root>(bytes);
    of::<Timestamp>(bytes);
    of::<Snapshot>(bytes);
    let targets = of::<Targets>(bytes);
    if let Some(root) = &root {
        // Random bytes are signed by nobody, so a chain begins with what was really signed or not at all.
        let begun = RootChain::begin(None, bytes.to_vec()).is_ok();
        assert_eq!(
            begun,
            root.consistent().is_ok() && root.signed_under(root, "root").is_ok()
        );
        assert!(begun || RootChain::begin(Some("team"), bytes.to_vec()).is_err());
    }
    if let Some(targets) = &targets {
        match flat(targets) {
            Ok(all) => assert!(all.keys().all(|name| {
                !name.starts_with('/')
                    && name.split('/').all(|part| part != ".." && !part.is_empty())
            })),
            Err(error) => super::is_said(&error),
        }
        for name in ["", "a", "a/b", "shop/versions/1.0.0.json", "\u{1f981}/["] {
            let asked = targets.content().delegations(name);
            // A threshold is not met by nothing, whatever it is.
            for delegation in &asked {
                assert!(
                    targets
                        .signed_by(&delegation.required, "delegated")
                        .is_err()
                );
            }
            let file = targets.content().file(name);
            assert!(file.is_none_or(|file| !(file.is(b"a") && file.is(b"b"))));
        }
    }
}

/// Read as a document of this role: what is read has one meaning.
fn of<T: Readable>(bytes: &[u8]) -> Option<Document<T>> {
    match Document::<T>::parse(bytes.to_vec(), None) {
        Ok(document) => {
            assert_eq!(document.bytes(), bytes);
            assert!(document.version() > 0);
            assert!(document.fresh(document.expires()).is_err());
            let value = json::strict(bytes).unwrap();
            let again = json::canonical(&value).unwrap();
            let twice = json::canonical(&json::strict(&again).unwrap_or_default());
            // Canonical JSON leaves control characters as they are, which JSON does not read.
            assert!(twice.is_ok_and(|twice| twice == again || again.iter().any(|b| *b < 0x20)));
            Some(document)
        }
        Err(error) => {
            super::is_said(&error);
            None
        }
    }
}

/// One of each role, and targets that delegate in every way.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let key = SigningKey::generate().unwrap();
    let day = Moment(1_800_000_000_000) + Span::secs(86_400);
    let one = || RoleKeys::one(key.public());
    let roles = RepositoryRoles {
        root: one(),
        targets: one(),
        online: one(),
    };
    let shop = "app/shop".parse().unwrap();
    let root = editor::repository_root(&shop, &roles, 1, day, &[&key]).unwrap();
    let names = ("shop".parse().unwrap(), "web".parse().unwrap());
    let new = NewTarget::release(&names.0, &names.1, &"1.0.0".parse().unwrap(), b"manifest");
    let targets = targets_with(&shop, None, vec![new], &[], day, &[&key]).unwrap();
    let document = Document::parse(targets.clone(), None).unwrap();
    let snapshot = editor::snapshot("app/shop", &document, 1, day, &[&key]).unwrap();
    let document = Document::parse(snapshot.clone(), None).unwrap();
    let timestamp = editor::timestamp("app/shop", &document, 1, day, &[&key]).unwrap();
    let delegating = |delegations: &str| {
        format!(
            r#"{{"signatures":[{{"keyid":"aa","sig":"bb"}}],"signed":{{"_type":"targets","spec_version":"1.0.33","version":1,"expires":"2027-01-15T08:00:00Z","targets":{{"a":{{"length":1,"hashes":{{"sha512":"00"}}}}}},"delegations":{{"keys":{{}},{delegations}}}}}}}"#
        )
        .into_bytes()
    };
    let seeds = vec![
        root,
        targets,
        snapshot,
        timestamp,
        delegating(
            r#""roles":[{"name":"b","keyids":["aa"],"threshold":1,"terminating":true,"paths":["[!a-c]*/?"]}]"#,
        ),
        delegating(
            r#""roles":[{"name":"b","keyids":["aa"],"threshold":1,"terminating":false,"path_hash_prefixes":["0","ca"]}]"#,
        ),
        delegating(
            r#""succinct_roles":{"keyids":["aa"],"threshold":1,"bit_length":32,"name_prefix":"bin"}"#,
        ),
    ];
    assert_eq!(seeds.iter().collect::<BTreeSet<_>>().len(), seeds.len());
    seeds
}
