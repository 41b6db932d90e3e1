//! Text with placeholders: the string to sign, and the forms of headers.

use super::MAX_TEMPLATE;
use super::bad::BadScheme;
use super::field::{Field, Forms};
use super::values::Values;

/// A stretch of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text as it is; never empty, and never two in a row.
    Literal(Box<str>),
    /// What the request says.
    Field(Field),
}

/// Text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Box<[Piece]>);

impl Template {
    /// Reads a template; `field` says what a name between braces stands for.
    pub(super) fn parse(
        text: &str,
        mut field: impl FnMut(&str) -> Result<Field, BadScheme>,
    ) -> Result<Self, BadScheme> {
        if text.len() > MAX_TEMPLATE {
            return Err(BadScheme::TooLong);
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(['{', '}']).unwrap_or(rest.len());
            let (literal, tail) = rest.split_at(end);
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.into()));
            }
            if tail.is_empty() {
                break;
            }
            let inner = tail.strip_prefix('{').ok_or(BadScheme::Placeholder)?;
            let (name, tail) = inner.split_once('}').ok_or(BadScheme::Placeholder)?;
            pieces.push(Piece::Field(field(name)?));
            rest = tail;
        }
        let template = Self(pieces.into());
        template.check_touching()?;
        Ok(template)
    }

    /// The fields, in order.
    pub(super) fn fields(&self) -> impl DoubleEndedIterator<Item = Field> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Field(field) => Some(*field),
            Piece::Literal(_) => None,
        })
    }

    /// Whether the field stands in it.
    pub(super) fn has(&self, field: Field) -> bool {
        self.fields().any(|found| found == field)
    }

    /// Whether all literal text has only bytes that `legal` admits.
    pub(super) fn check_literals(&self, legal: impl Fn(u8) -> bool) -> Result<(), BadScheme> {
        let plain = |piece: &Piece| match piece {
            Piece::Literal(text) => text.bytes().all(&legal),
            Piece::Field(_) => true,
        };
        if self.0.iter().all(plain) { Ok(()) } else { Err(BadScheme::Literal) }
    }

    fn check_touching(&self) -> Result<(), BadScheme> {
        for pair in self.0.windows(2) {
            if let [Piece::Field(first), Piece::Field(second)] = *pair {
                return Err(BadScheme::Touching(first, second));
            }
        }
        Ok(())
    }

    /// Whether the text can be taken apart from left to right: what follows each field begins with a
    /// byte that the field cannot have.
    pub(super) fn check_readable(&self, forms: &Forms) -> Result<(), BadScheme> {
        let ends = self.clear_ends(forms);
        match self.fields().zip(ends).find(|(_, clear)| !clear) {
            Some((field, _)) => Err(BadScheme::Blurred(field)),
            None => Ok(()),
        }
    }

    /// Whether no two requests have the same text. Fields are taken off from the left while it is clear
    /// where each ends, then from the right while it is clear where each begins; what is left in the
    /// middle may be one field, and is then known too.
    pub(super) fn check_unique(&self, forms: &Forms) -> Result<(), BadScheme> {
        let from_left = self.clear_ends(forms).into_iter().take_while(|clear| *clear).count();
        let from_right = self.clear_starts(forms).into_iter().rev().take_while(|clear| *clear).count();
        let fields = self.fields().count();
        if from_left + from_right + 1 >= fields {
            return Ok(());
        }
        let field = self.fields().nth(from_left).expect("fewer than all fields end clearly");
        Err(BadScheme::Blurred(field))
    }

    fn clear_ends(&self, forms: &Forms) -> Vec<bool> {
        let clear = |i: usize, field: Field| match self.0.get(i + 1) {
            Some(Piece::Literal(text)) => text.bytes().next().is_some_and(|b| !forms.admits(field, b)),
            Some(Piece::Field(_)) => false,
            None => true,
        };
        self.each_field(clear)
    }

    fn clear_starts(&self, forms: &Forms) -> Vec<bool> {
        let clear = |i: usize, field: Field| match i.checked_sub(1).map(|before| &self.0[before]) {
            Some(Piece::Literal(text)) => text.bytes().last().is_some_and(|b| !forms.admits(field, b)),
            Some(Piece::Field(_)) => false,
            None => true,
        };
        self.each_field(clear)
    }

    fn each_field(&self, judge: impl Fn(usize, Field) -> bool) -> Vec<bool> {
        let judged = self.0.iter().enumerate().filter_map(|(i, piece)| match piece {
            Piece::Field(field) => Some(judge(i, *field)),
            Piece::Literal(_) => None,
        });
        judged.collect()
    }

    /// Takes a text apart; `None` if it has another form. Only for templates that are readable.
    pub(super) fn read<'a>(
        &self,
        text: &'a str,
        forms: &Forms,
        mut each: impl FnMut(Field, &'a str),
    ) -> Option<()> {
        let mut rest = text;
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => rest = rest.strip_prefix(&**literal)?,
                Piece::Field(field) => {
                    let end = rest.bytes().position(|byte| !forms.admits(*field, byte));
                    // A boundary: all that was passed over is ASCII.
                    let (value, tail) = rest.split_at(end.unwrap_or(rest.len()));
                    each(*field, value);
                    rest = tail;
                }
            }
        }
        rest.is_empty().then_some(())
    }

    /// Puts a text together.
    pub(super) fn write(&self, values: &Values<'_>, mut sink: impl FnMut(&[u8])) {
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => sink(text.as_bytes()),
                Piece::Field(field) => {
                    for part in values.of(*field) {
                        sink(part.as_bytes());
                    }
                }
            }
        }
    }
}
