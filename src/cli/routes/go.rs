//! Go source as tokens: as much of the language as it takes to follow calls, and no more.
//!
//! Comments are dropped, strings decoded, and statements ended where Go ends them.

use std::iter::Peekable;
use std::path::Path;
use std::str::Chars;
use std::sync::Arc;

/// Where something stands: a file and a line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: Arc<Path>,
    pub(super) line: usize,
}

/// A token and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) place: Place,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier or keyword.
    Name(String),
    /// The value of a string.
    Text(String),
    /// Any other literal, and a string that is not plain text.
    Literal,
    /// `:=`.
    Define,
    /// An operator that is none of the marks.
    Operator,
    /// Punctuation, `=` and `+`; `;` also where a line ends a statement.
    Mark(char),
}

/// Source that ends in the middle of something.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what} does not end")]
pub(super) struct Unended {
    line: usize,
    what: &'static str,
}

/// Splits a file into tokens.
///
/// # Errors
/// A string or a comment does not end.
pub(super) fn tokens(file: &Arc<Path>, text: &str) -> Result<Vec<Token>, Unended> {
    let mut reader = Reader { chars: text.chars().peekable(), file, line: 1, tokens: Vec::new() };
    while let Some(c) = reader.chars.next() {
        reader.token(c)?;
    }
    reader.end_line();
    Ok(reader.tokens)
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    file: &'a Arc<Path>,
    line: usize,
    tokens: Vec<Token>,
}

impl Reader<'_> {
    fn token(&mut self, c: char) -> Result<(), Unended> {
        match c {
            '\n' => {
                self.end_line();
                self.line += 1;
            }
            c if c.is_whitespace() => {}
            '/' if self.take('/') => while self.chars.next_if(|c| *c != '\n').is_some() {},
            '/' if self.take('*') => self.comment()?,
            '"' => self.string()?,
            '`' => self.raw_string()?,
            '\'' => self.rune()?,
            c if c.is_alphabetic() || c == '_' => self.name(c),
            c if c.is_ascii_digit() => {
                while self.chars.next_if(|c| c.is_alphanumeric() || "._".contains(*c)).is_some() {}
                self.push(Kind::Literal);
            }
            c => self.punctuation(c),
        }
        Ok(())
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token { kind, place: Place { file: Arc::clone(self.file), line: self.line } });
    }

    fn take(&mut self, c: char) -> bool {
        self.chars.next_if_eq(&c).is_some()
    }

    /// Ends a statement as Go does. Source: Go specification, "Semicolons".
    fn end_line(&mut self) {
        let ends = self.tokens.last().is_some_and(|last| match &last.kind {
            Kind::Name(_) | Kind::Text(_) | Kind::Literal => true,
            Kind::Mark(mark) => matches!(mark, ')' | ']' | '}'),
            Kind::Define | Kind::Operator => false,
        });
        if ends {
            self.push(Kind::Mark(';'));
        }
    }

    fn name(&mut self, first: char) {
        let mut name = String::from(first);
        while let Some(c) = self.chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
        }
        self.push(Kind::Name(name));
    }

    fn punctuation(&mut self, c: char) {
        if c == ':' && self.take('=') {
            return self.push(Kind::Define);
        }
        let compares = matches!(c, '=' | '!' | '<' | '>' | '+' | '-' | '*' | '/' | '%' | '|' | '&' | '^');
        if compares && self.take('=') {
            return self.push(Kind::Operator);
        }
        match c {
            '(' | ')' | '[' | ']' | '{' | '}' | ',' | ';' | '.' | ':' | '=' | '+' | '*' | '&' => {
                self.push(Kind::Mark(c));
            }
            _ => self.push(Kind::Operator),
        }
    }

    fn comment(&mut self) -> Result<(), Unended> {
        let (line, mut last) = (self.line, ' ');
        loop {
            match self.chars.next() {
                Some('/') if last == '*' => break,
                Some(c) => {
                    // A comment of several lines ends a statement as the end of a line does.
                    if c == '\n' {
                        self.end_line();
                        self.line += 1;
                    }
                    last = c;
                }
                None => return Err(Unended { line, what: "a comment" }),
            }
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), Unended> {
        let unended = Unended { line: self.line, what: "a string" };
        let mut text = Some(String::new());
        loop {
            let c = match self.chars.next() {
                None | Some('\n') => return Err(unended),
                Some('"') => break,
                Some('\\') => match self.chars.next() {
                    None | Some('\n') => return Err(unended),
                    Some(c) => self.escape(c),
                },
                Some(c) => Some(c),
            };
            match (c, &mut text) {
                (Some(c), Some(text)) => text.push(c),
                _ => text = None,
            }
        }
        self.push(text.map_or(Kind::Literal, Kind::Text));
        Ok(())
    }

    /// Reads the rest of an escape; `None` for one that is no character by itself.
    fn escape(&mut self, c: char) -> Option<char> {
        let (first, digits, radix) = match c {
            'n' => return Some('\n'),
            't' => return Some('\t'),
            'r' => return Some('\r'),
            '\\' | '"' => return Some(c),
            'x' => (None, 2, 16),
            'u' => (None, 4, 16),
            'U' => (None, 8, 16),
            '0'..='7' => (Some(c), 2, 8),
            _ => return None,
        };
        let mut number: String = first.into_iter().collect();
        for _ in 0..digits {
            number.push(self.chars.next_if(|c| c.is_digit(radix))?);
        }
        let value = u32::from_str_radix(&number, radix).ok()?;
        // `\x` and octal escapes are bytes, which are characters only in ASCII.
        let is_byte = !matches!(c, 'u' | 'U');
        char::from_u32(value).filter(|c| !is_byte || c.is_ascii())
    }

    fn raw_string(&mut self) -> Result<(), Unended> {
        let (line, mut text) = (self.line, String::new());
        loop {
            match self.chars.next() {
                Some('`') => break,
                Some('\r') => {}
                Some(c) => {
                    self.line += usize::from(c == '\n');
                    text.push(c);
                }
                None => return Err(Unended { line, what: "a string" }),
            }
        }
        self.push(Kind::Text(text));
        Ok(())
    }

    fn rune(&mut self) -> Result<(), Unended> {
        let unended = Unended { line: self.line, what: "a rune" };
        loop {
            match self.chars.next() {
                None | Some('\n') => return Err(unended),
                Some('\\') => drop(self.chars.next()),
                Some('\'') => break,
                Some(_) => {}
            }
        }
        self.push(Kind::Literal);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        let file: Arc<Path> = Path::new("router.go").into();
        tokens(&file, text).unwrap().into_iter().map(|token| token.kind).collect()
    }

    fn texts(text: &str) -> Vec<String> {
        let value = |kind| if let Kind::Text(text) = kind { Some(text) } else { None };
        kinds(text).into_iter().filter_map(value).collect()
    }

    #[test]
    fn strings_are_decoded_and_comments_dropped() {
        let text =
            "a(\"/x\\u0041\\x42\\103\\\\\") // \"no\"\nb(`/y\n\"z\"`) /* \"no\n\" */ 'c' '\\'' \"\\xff\"";
        assert_eq!(texts(text), ["/xABC\\", "/y\n\"z\""]);
        assert_eq!(
            kinds("'\\'' \"\\xff\" 0x1F 1.5e3"),
            [Kind::Literal, Kind::Literal, Kind::Literal, Kind::Literal, Kind::Mark(';'),]
        );
    }

    #[test]
    fn lines_end_statements_as_in_go() {
        let ends = |text: &str| kinds(text).iter().filter(|kind| **kind == Kind::Mark(';')).count();
        for (text, expected) in
            [("a()\nb()", 2), ("a(\n1,\n2)\n", 1), ("a.\nB()\n", 1), ("a :=\nb\n", 1), ("a /*\n*/ b", 2)]
        {
            assert_eq!(ends(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_does_not_end_is_refused() {
        let file: Arc<Path> = Path::new("router.go").into();
        for text in ["\n\"/x", "\n\"/x\n\"", "\n`/x", "\n/* x", "\n'x", "\n\"/x\\"] {
            assert_eq!(tokens(&file, text).unwrap_err().line, 2, "{text:?}");
        }
    }
}
