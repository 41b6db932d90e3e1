//! The forms in which a body can name somebody else, each of them bytes.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use openim_standin::routes::Subject;

use crate::support::{Person, Sent};

/// Whether OpenIM itself, without a gateway, acts on the one named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bare {
    /// It does.
    Acts,
    /// It refuses, reads something else, or it depends on the route.
    Open,
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Counted,
    Chunked,
}

/// One form of an attack.
pub(super) struct Form {
    pub(super) name: &'static str,
    pub(super) bare: Bare,
    body: Vec<u8>,
    header: Option<(&'static str, &'static str)>,
    framing: Framing,
}

impl Form {
    fn new(name: &'static str, bare: Bare, body: impl Into<Vec<u8>>) -> Self {
        Self { name, bare, body: body.into(), header: None, framing: Framing::Counted }
    }

    fn with(self, name: &'static str, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    fn chunked(self) -> Self {
        Self { framing: Framing::Chunked, ..self }
    }

    /// The request as it goes to OpenIM itself, with this token.
    pub(super) fn bare(&self, path: &str, token: &str) -> Vec<u8> {
        self.frame(self.request(path).header("operationID", "op").header("token", token))
    }

    /// The request as it goes to the gateway, signed.
    pub(super) fn signed(&self, path: &str, person: &Person) -> Vec<u8> {
        self.frame(person.sign(self.request(path)))
    }

    fn request(&self, path: &str) -> Sent {
        let sent = Sent::new("POST", path).body(&self.body);
        match self.header {
            Some((name, value)) => sent.header(name, value),
            None => sent,
        }
    }

    fn frame(&self, sent: Sent) -> Vec<u8> {
        if self.framing == Framing::Counted {
            return sent.wire();
        }
        let head = Sent { body: None, ..sent }.header("Transfer-Encoding", "chunked").wire();
        let chunks = self
            .body
            .chunks(7)
            .map(|piece| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        [head, chunks.collect::<Vec<_>>().concat(), b"0\r\n\r\n".to_vec()].concat()
    }
}

/// A field that names a user.
#[derive(Clone, Copy)]
pub(super) struct Field {
    outer: Option<&'static str>,
    name: &'static str,
    is_list: bool,
    /// A second field, which may be anybody.
    other: Option<&'static str>,
}

impl Field {
    /// The field that a route's subject is named by, if the body names it.
    pub(super) fn of(subject: Subject) -> Option<Self> {
        let plain = |path: &'static str| {
            let (outer, name) =
                path.split_once('.').map_or((None, path), |(outer, name)| (Some(outer), name));
            Field { outer, name, is_list: false, other: None }
        };
        match subject {
            Subject::Field(path) | Subject::FieldOrCaller(path) => Some(plain(path)),
            Subject::AnyOf(paths) => Some(Field { other: Some(paths[1]), ..plain(paths[0]) }),
            Subject::Each(path) => Some(Field { is_list: true, ..plain(path) }),
            Subject::Caller | Subject::Key(_) => None,
        }
    }

    fn value(self, user: &str) -> String {
        if self.is_list { format!("[\"{user}\"]") } else { format!("\"{user}\"") }
    }

    fn named(self, key: &str, user: &str) -> String {
        format!("\"{key}\":{}", self.value(user))
    }

    fn is(self, value: &str) -> String {
        format!("\"{}\":{value}", self.name)
    }

    /// A body with these members where the field belongs, and with what the routes need besides.
    fn body(self, members: &str) -> String {
        self.body_of(&self.outer.map_or(members.to_owned(), |outer| format!("\"{outer}\":{{{members}}}")))
    }

    fn body_of(self, members: &str) -> String {
        let other = self.other.map_or(String::new(), |name| format!("\"{name}\":\"carol\","));
        let rest =
            r#""groupID":"g1","conversationID":"c1","conversation":{"conversationID":"c1"},"recvID":"carol""#;
        format!("{{{other}{rest},{members}}}")
    }

    /// The body of somebody who means no harm.
    pub(super) fn honest(self, mine: &str) -> String {
        self.body(&self.named(self.name, mine))
    }

    /// Every form in which somebody can be named in place of oneself.
    pub(super) fn attacks(self, mine: &str, theirs: &str) -> Vec<Form> {
        let forms = [self.spellings(mine, theirs), self.doubles(mine, theirs), self.values(theirs)];
        let more = [self.places(mine, theirs), self.framings(mine, theirs), self.media(mine, theirs)];
        forms.into_iter().chain(more).flatten().collect()
    }

    fn spellings(self, mine: &str, theirs: &str) -> Vec<Form> {
        let own = self.named(self.name, mine);
        let mut forms = Vec::new();
        for (spelled, alone, doubled) in [
            (self.name.to_owned(), "as spelled", "own, then theirs"),
            (self.name.to_uppercase(), "upper case", "own, then upper case"),
            (self.name.to_lowercase(), "lower case", "own, then lower case"),
            (self.name.replace(['s', 'S'], "\u{17f}"), "long s", "own, then long s"),
            (self.name.replace(['s', 'S'], "\\u017F"), "escaped long s", "own, then escaped long s"),
            (self.name.replace(['k', 'K'], "\u{212a}"), "kelvin", "own, then kelvin"),
            (escaped(self.name), "escaped", "own, then escaped"),
        ] {
            if spelled == self.name && alone != "as spelled" {
                continue;
            }
            let member = self.named(&spelled, theirs);
            forms.push(Form::new(alone, Bare::Acts, self.body(&member)));
            forms.push(Form::new(doubled, Bare::Acts, self.body(&format!("{own},{member}"))));
        }
        forms
    }

    fn doubles(self, mine: &str, theirs: &str) -> Vec<Form> {
        let (own, other) = (self.named(self.name, mine), self.named(self.name, theirs));
        let upper = self.named(&self.name.to_uppercase(), theirs);
        let kept = if self.is_list { Bare::Open } else { Bare::Acts };
        let mut forms = vec![
            Form::new("theirs, then own", Bare::Open, self.body(&format!("{other},{own}"))),
            Form::new("upper case, then own", Bare::Open, self.body(&format!("{upper},{own}"))),
            Form::new("theirs, then null", kept, self.body(&format!("{other},{}", self.is("null")))),
        ];
        if let Some(outer) = self.outer {
            let twice = format!("\"{outer}\":{{{own}}},\"{outer}\":{{{other}}}");
            forms.push(Form::new("two objects", Bare::Acts, self.body_of(&twice)));
            let spelled = format!("\"{outer}\":{{{own}}},\"{}\":{{{upper}}}", outer.to_uppercase());
            forms.push(Form::new(
                "two objects, the second in upper case",
                Bare::Acts,
                self.body_of(&spelled),
            ));
            let flat = format!("\"{outer}\":{{{other}}},{own}");
            forms.push(Form::new("own outside", Bare::Acts, self.body_of(&flat)));
        }
        if self.is_list {
            let both = self.is(&format!("[\"{mine}\",\"{theirs}\"]"));
            forms.push(Form::new("both in the list", Bare::Acts, self.body(&both)));
        }
        forms
    }

    fn values(self, theirs: &str) -> Vec<Form> {
        let values = [
            ("empty", "\"\"".to_owned()),
            ("null", "null".to_owned()),
            ("number", "7".to_owned()),
            ("true", "true".to_owned()),
            ("empty list", "[]".to_owned()),
            ("in an array", format!("[[\"{theirs}\"]]")),
            ("an object", format!("{{{}}}", self.named(self.name, theirs))),
            ("half a surrogate pair", r#""\ud800""#.to_owned()),
        ];
        values
            .into_iter()
            .map(|(name, value)| Form::new(name, Bare::Open, self.body(&self.is(&value))))
            .collect()
    }

    fn places(self, mine: &str, theirs: &str) -> Vec<Form> {
        let (own, other) = (self.named(self.name, mine), self.named(self.name, theirs));
        let (honest, attack) = (self.honest(mine), self.body(&other));
        vec![
            Form::new("missing", Bare::Open, self.body_of("\"x\":1")),
            Form::new("own in another object", Bare::Acts, self.body(&format!("\"x\":{{{own}}},{other}"))),
            Form::new("theirs in another object", Bare::Open, self.body_of(&format!("\"x\":{{{other}}}"))),
            Form::new("the body in an array", Bare::Open, format!("[{attack}]")),
            Form::new("own behind the body", Bare::Acts, format!("{attack}{honest}")),
            Form::new("theirs behind the body", Bare::Open, format!("{honest}\n{attack}")),
            Form::new("rubbish behind the body", Bare::Open, format!("{honest}x")),
            Form::new("a byte order mark", Bare::Open, format!("\u{feff}{attack}")),
            Form::new("no UTF-8", Bare::Acts, [b"{\"x\":\"\xff\",", &attack.as_bytes()[1..]].concat()),
            Form::new("nothing", Bare::Open, ""),
        ]
    }

    fn framings(self, mine: &str, theirs: &str) -> Vec<Form> {
        let (own, other) = (self.named(self.name, mine), self.named(self.name, theirs));
        let pad = format!("\"pad\":\"{}\"", "x".repeat(70 * 1024));
        vec![
            Form::new("chunked", Bare::Acts, self.body(&other)).chunked(),
            Form::new("chunked, own first", Bare::Acts, self.body(&format!("{own},{other}"))).chunked(),
            Form::new("beyond the bound", Bare::Acts, self.body(&format!("{own},{pad},{other}"))),
            Form::new("beyond the bound, chunked", Bare::Acts, self.body(&format!("{own},{pad},{other}")))
                .chunked(),
        ]
    }

    fn media(self, mine: &str, theirs: &str) -> Vec<Form> {
        let attack = self.body(&self.named(self.name, theirs));
        let honest = self.honest(mine);
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(attack.as_bytes()).unwrap();
        vec![
            Form::new("as protobuf", Bare::Acts, attack.clone())
                .with("Content-Type", "application/x-protobuf"),
            Form::new("own as protobuf", Bare::Open, honest).with("Content-Type", "application/protobuf"),
            Form::new("said to be packed", Bare::Acts, attack).with("Content-Encoding", "gzip"),
            Form::new("packed", Bare::Open, packed.finish().unwrap()).with("Content-Encoding", "gzip"),
        ]
    }
}

/// The name with its first letter as an escape.
fn escaped(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    format!("\\u{:04x}{rest}", first.as_bytes()[0])
}
