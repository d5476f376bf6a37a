//! The live view: draws a screen over the one before.

use crate::printer::Printer;

/// What is on the terminal now.
#[derive(Debug, Default)]
pub(super) struct Live {
    drawn: usize,
}

impl Live {
    /// Replaces what was drawn. No line may be wider than the terminal, or the count goes wrong.
    pub(super) fn draw(&mut self, lines: &[String], printer: &Printer) {
        printer.raw(&frame(self.drawn, lines));
        self.drawn = lines.len();
    }
}

/// Up over the old lines, erase to the end of the screen (ECMA-48, CUU and ED), the new lines.
fn frame(drawn: usize, lines: &[String]) -> String {
    let mut frame = match drawn {
        0 => String::new(),
        drawn => format!("\x1b[{drawn}A\x1b[J"),
    };
    for line in lines {
        frame.push_str(line);
        frame.push('\n');
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_covers_the_one_before() {
        let lines = ["a".to_owned(), "b".to_owned()];
        assert_eq!(frame(0, &lines), "a\nb\n");
        assert_eq!(frame(2, &lines[..1]), "\x1b[2A\x1b[Ja\n");
    }
}
