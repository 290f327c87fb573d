//! Text of a peer, made fit for one line of a log or of an answer: no control characters, no
//! line breaks, bounded.

/// What is shown of a peer's text at most, in characters.
const LONGEST: usize = 512;

/// `text` with everything escaped that is not plainly printable, cut to a bounded length.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST {
            out.push('…');
            break;
        }
        match c {
            // Nothing to be afraid of, and easier to read as they are.
            '"' | '\'' => out.push(c),
            _ if turns_text_around(c) => out.extend(c.escape_unicode()),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
}

/// Marks that change the direction of what follows: printable by name, a forgery in a log.
const fn turns_text_around(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn nothing_that_could_forge_a_line_stays() {
        assert_eq!(escape("plain \"text\" – ok"), "plain \"text\" – ok");
        assert_eq!(escape("a\nb\r\u{1b}[31m\u{0}"), r"a\nb\r\u{1b}[31m\0");
        assert_eq!(escape("a\u{202e}b"), r"a\u{202e}b");
        assert_eq!(escape("back\\slash"), r"back\\slash");
    }

    #[test]
    fn long_text_is_cut() {
        let text = escape(&"x".repeat(5_000));
        assert_eq!(text.chars().count(), 513);
        assert!(text.ends_with('…'));
    }
}
