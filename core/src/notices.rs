//! Notices on their way to the adapter: bounded, because a peer can cause them at will.

use alloc::collections::VecDeque;

use crate::action::Notice;

/// At most this many wait; more are dropped, the counters in [`crate::Stats`] still count them.
const MAX: usize = 64;
/// So many bytes of a text of the peer are kept.
const MAX_TEXT: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Notices(VecDeque<Notice>);

impl Notices {
    pub(crate) fn push(&mut self, notice: Notice) {
        if self.0.len() < MAX {
            self.0.push_back(notice);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Notice> {
        self.0.pop_front()
    }
}

/// At most [`MAX_TEXT`] of a text of the peer, for logs and errors.
pub(crate) fn clip(text: &str) -> alloc::string::String {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_the_peer_is_cut_between_characters() {
        let long = "é".repeat(200);
        assert_eq!(clip(&long), long[..256]);
        let odd = alloc::format!("x{long}");
        assert_eq!(clip(&odd), odd[..255], "never in the middle of one");
        assert_eq!(clip(&long[..256]), long[..256]);
    }
}
