//! The oracle can fail: a link that breaks its promises is found out.
