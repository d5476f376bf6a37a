//! What the controller has to say beside what was asked for: sentences that end in a command.

use super::human::harmless;

/// A line a note, behind an empty one; nothing where there is none.
pub fn lines(notes: &[String]) -> Vec<String> {
    let lines = notes.iter().map(|note| format!("! {}", harmless(note)));
    let space = (!notes.is_empty()).then(String::new);
    space.into_iter().chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_stand_apart_and_cannot_draw_on_the_terminal() {
        assert_eq!(lines(&[]), Vec::<String>::new());
        let said = lines(&["web-9 joined\u{1b}[2J".to_owned()]);
        assert_eq!(said[0], "");
        assert!(said[1].starts_with("! web-9 joined") && !said[1].contains('\u{1b}'));
    }
}
