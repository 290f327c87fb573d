//! Tokens: read anew where they come from a file, and never shown.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

/// A bearer token. `Debug` does not show it and there is no `Display`.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(Arc<str>);

impl Token {
    /// A token without the white space around it.
    ///
    /// # Errors
    ///
    /// It is empty, or cannot stand in a header.
    pub fn new(text: impl AsRef<str>) -> Result<Self, TokenError> {
        let text = text.as_ref().trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(TokenError::Invalid);
        }
        Ok(Self(text.into()))
    }

    /// The secret itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn header(&self) -> Result<http::HeaderValue, TokenError> {
        let mut value = http::HeaderValue::try_from(format!("Bearer {}", self.0))
            .map_err(|_| TokenError::Invalid)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Where a token comes from.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// It never changes.
    Fixed(Token),
    /// A file, read anew at each use, so that the token may be replaced at any time.
    File(PathBuf),
}

impl TokenSource {
    /// The token as it is now.
    ///
    /// # Errors
    ///
    /// The file cannot be read or holds no token.
    pub fn read(&self) -> Result<Token, TokenError> {
        match self {
            Self::Fixed(token) => Ok(token.clone()),
            Self::File(path) => read(path),
        }
    }
}

fn read(path: &Path) -> Result<Token, TokenError> {
    let in_file = |problem: &'static str| TokenError::File {
        path: path.into(),
        problem,
    };
    let text = fs::read_to_string(path).map_err(|source| TokenError::Unreadable {
        path: path.into(),
        source: Arc::new(source),
    })?;
    Token::new(text).map_err(|error| match error {
        TokenError::Empty => in_file("is empty"),
        _ => in_file("holds characters that no token has"),
    })
}

impl From<Token> for TokenSource {
    fn from(token: Token) -> Self {
        Self::Fixed(token)
    }
}

/// There is no usable token.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is empty.
    #[error("the token is empty")]
    Empty,
    /// It cannot stand in a header.
    #[error("the token holds characters that no token has (white space or control characters?)")]
    Invalid,
    /// The file holds none.
    #[error("the token file {} {problem}: put the token on its only line", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read the token file {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_trimmed_checked_and_never_shown() {
        let token = Token::new(" s3cret\n").unwrap();
        assert_eq!(token.as_str(), "s3cret");
        assert_eq!(format!("{token:?}"), "Token(..)");
        assert!(!format!("{:?}", TokenSource::Fixed(token.clone())).contains("s3cret"));
        assert!(!format!("{:?}", token.header().unwrap()).contains("s3cret"));
        assert!(matches!(Token::new(" \n"), Err(TokenError::Empty)));
        assert!(matches!(Token::new("a b"), Err(TokenError::Invalid)));
        assert!(matches!(Token::new("a\u{e9}"), Err(TokenError::Invalid)));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = TokenSource::File("/nonexistent/token".into())
            .read()
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("cannot read the token file /nonexistent/token: "),
            "{text}"
        );
    }
}
