//! "Did you mean": the nearest of the names that would have been right.

use std::fmt;

/// Up to so many names are listed where none is near.
const MAX_LISTED: usize = 30;

/// A hint under an error about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suggestion {
    /// One known name is close.
    Near(Box<str>),
    /// None is; these are known.
    Known(Box<[Box<str>]>),
}

impl Suggestion {
    /// Compares `name` with the names that are known.
    pub fn new<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let mut known: Vec<&str> = known.into_iter().collect();
        let distance = |other: &str| {
            strsim::damerau_levenshtein(&name.to_ascii_lowercase(), &other.to_ascii_lowercase())
        };
        let near = known.iter().map(|other| (distance(other), *other)).min();
        match near {
            Some((distance, other)) if distance <= (name.chars().count() / 3).max(1) => {
                Self::Near(other.into())
            }
            _ => {
                known.truncate(MAX_LISTED);
                Self::Known(known.into_iter().map(Into::into).collect())
            }
        }
    }
}

/// A line of its own, or nothing.
impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Near(name) => write!(f, "\nhint: did you mean `{name}`?"),
            Self::Known(names) if names.is_empty() => f.write_str("\nhint: there are none"),
            Self::Known(names) => write!(f, "\nhint: known are {}", names.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        let cases =
            [("chta", "chat"), ("Upstream", "upstream"), ("upstrem", "upstream"), ("lisen", "listen")];
        let known = ["chat", "upstream", "listen"];
        for (slip, meant) in cases {
            assert_eq!(Suggestion::new(slip, known), Suggestion::Near(meant.into()), "{slip}");
        }
        let far = Suggestion::new("elephant", known);
        assert_eq!(far.to_string(), "\nhint: known are chat, upstream, listen");
        assert_eq!(Suggestion::new("x", []).to_string(), "\nhint: there are none");
    }
}
