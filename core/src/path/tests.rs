use super::*;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-c\\\\.x]{1,4}".prop_map(String::into_bytes),
        "\\PC{1,4}".prop_map(String::into_bytes),
        prop::collection::vec(1_u8.., 1..6),
    ]
    .prop_map(|mut name| {
        name.retain(|byte| *byte != b'/');
        if name.is_empty() || name == b"." || name == b".." {
            name.push(b'x');
        }
        name
    })
}

fn path() -> impl Strategy<Value = TreePath> {
    prop::collection::vec(name(), 1..4).prop_map(|names| TreePath::new(&names.join(&b'/')).unwrap())
}

proptest! {
    #[test]
    fn a_path_survives_json_and_the_screen_and_is_never_taken_for_another(a in path(), b in path()) {
        let json = serde_json::to_string(&a).unwrap();
        prop_assert_eq!(&serde_json::from_str::<TreePath>(&json).unwrap(), &a);
        prop_assert_eq!(json.starts_with('"'), str::from_utf8(a.as_bytes()).is_ok());
        let shown = a.to_string();
        prop_assert!(!shown.chars().any(char::is_control));
        prop_assert_eq!(&TreePath::from_shown(&shown).unwrap(), &a);
        prop_assert_eq!(shown == b.to_string(), a == b);
        prop_assert_eq!(json == serde_json::to_string(&b).unwrap(), a == b);
    }

    /// Also of what was not judged yet.
    #[test]
    fn only_what_is_equal_is_equal_in_order(
        a in prop::collection::vec(prop::sample::select(b"/\0\x01a".to_vec()), 0..4),
        b in prop::collection::vec(prop::sample::select(b"/\0\x01a".to_vec()), 0..4),
    ) {
        prop_assert_eq!(walk_order(&a, &b).is_eq(), a == b);
        prop_assert_eq!(walk_order(&a, &b), walk_order(&b, &a).reverse());
    }

    #[test]
    fn the_order_is_that_of_a_walk(a in path(), b in path()) {
        let names = |path: &TreePath| -> Vec<Vec<u8>> {
            path.as_bytes().split(|it| *it == b'/').map(<[u8]>::to_vec).collect()
        };
        prop_assert_eq!(a.cmp(&b), names(&a).cmp(&names(&b)));
    }
}

#[test]
fn two_spellings_of_one_path_are_refused() {
    let read = |json: &str| serde_json::from_str::<TreePath>(json).map_err(|e| e.to_string());
    assert_eq!(read("{\"hex\":\"61ff\"}").unwrap().to_string(), "a\\xff");
    for (json, why) in [
        ("{\"hex\":\"6161\"}", "written as a string"),
        ("{\"hex\":\"61FF\"}", "not hexadecimal"),
        ("{\"hex\":\"61f\"}", "not hexadecimal"),
        ("{\"hex\":\"61ff\",\"x\":1}", "`hex` alone"),
        ("{}", "`hex` alone"),
        ("{\"hex\":\"2e2e2fff\"}", "plain names"),
        ("{\"hex\":\"ff00\"}", "plain names"),
        ("[97]", "a path: a string"),
        ("\"\\u002e\\u002e/x\"", "plain names"),
        ("\"a\\u0000\"", "plain names"),
    ] {
        let said = read(json).unwrap_err();
        assert!(said.contains(why), "{json}: {said}");
    }
}

#[test]
fn nothing_on_a_screen_moves_the_cursor_or_turns_the_text() {
    let path = TreePath::new("a\n\u{1b}[2J\u{202e}gpj.\\x".as_bytes()).unwrap();
    assert_eq!(path.to_string(), "a\\n\\u{1b}[2J\\u{202e}gpj.\\\\x");
    for strange in [
        "a\\",
        "a\\q",
        "a\\xf",
        "a\\x\u{e9}",
        "a\\u{110000}",
        "a\\u61",
    ] {
        assert!(TreePath::from_shown(strange).is_err(), "{strange}");
    }
}
