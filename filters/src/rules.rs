//! Rules of one route: what it asks of the filters of its chain beyond what the chain says itself.
//!
//! They stand at the route or at a path of a route table. A filter says which rules it honours and
//! which it demands, so a rule that nobody enforces, or a route that forgot one, does not load.
//!
//! ```text
//! - path: /msg/send_msg
//!   bind: sendID                       # the body's sendID must be the caller; `none` for no field
//!   # bind: { check: [userInfo.userID], optional: [userID], each: [userIDs], any: [userID1, userID2], force: [account],
//!   #         empty: [deleteSyncOpt.isSyncOther] }
//!   roles: [im-admin]                  # one of these; `any` for every proven admin
//!   platforms: [IOS, Android]          # the kinds of device that may call; default all
//! ```

use std::borrow::Cow;
use std::fmt;

use imgate_identity::user::Platform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

/// A kind of rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Which fields of the body name the caller.
    Bind,
    /// Which roles an admin needs.
    Roles,
    /// Which kinds of device may call.
    Platforms,
}

impl Rule {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Bind, Self::Roles, Self::Platforms];

    /// The key in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Roles => "roles",
            Self::Platforms => "platforms",
        }
    }

    /// Which filter to add when no filter of the chain enforces it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Bind => "add bind_identity to the chain",
            Self::Roles => "add verify_jwt to the chain",
            Self::Platforms => "add a filter that proves a user to the chain, such as verify_signature",
        }
    }

    /// What a route may say when it has nothing to ask.
    pub fn nothing(self) -> &'static str {
        match self {
            Self::Bind => "say `bind: none` if the body names nobody whom the caller could pretend to be",
            Self::Roles => "say `roles: any` if every admin may call it",
            Self::Platforms => "list the kinds of device that may call it",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one route asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Which fields of the body name the caller.
    pub bind: Option<Bind>,
    /// Which roles an admin needs.
    pub roles: Option<Roles>,
    /// Which kinds of device may call.
    pub platforms: Option<Platforms>,
}

impl Rules {
    /// Whether the route says anything of this kind.
    pub fn state(&self, rule: Rule) -> bool {
        match rule {
            Rule::Bind => self.bind.is_some(),
            Rule::Roles => self.roles.is_some(),
            Rule::Platforms => self.platforms.is_some(),
        }
    }

    /// The kinds of which it says something.
    pub fn stated(&self) -> impl Iterator<Item = Rule> + '_ {
        Rule::ALL.into_iter().filter(|rule| self.state(*rule))
    }

    /// Whether a user on this kind of device may call.
    pub fn admit(&self, platform: Platform) -> bool {
        self.platforms.is_none_or(|platforms| platforms.contain(platform))
    }
}

/// As `imgate explain` and `imgate routes` show them.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bind = self.bind.as_ref().map(|bind| format!("binds {bind}"));
        let roles = self.roles.as_ref().map(|roles| format!("roles {roles}"));
        let platforms = self.platforms.map(|platforms| format!("platforms {platforms}"));
        let all: Vec<String> = [bind, roles, platforms].into_iter().flatten().collect();
        f.write_str(&all.join("; "))
    }
}

/// The name of a field in a JSON body, or of one in an object in it: `userInfo.userID`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-9A-Za-z_]+([.][0-9A-Za-z_]+)*$"))]
pub struct FieldPath(Box<[Box<str>]>);

/// The text names no field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a field is named by letters, digits and `_`, with a `.` before a field inside it")]
pub struct BadFieldPath;

impl FieldPath {
    /// Reads names joined by dots.
    ///
    /// # Errors
    /// A name is empty or has a character other than an ASCII letter, a digit or `_`.
    pub fn parse(text: &str) -> Result<Self, BadFieldPath> {
        let plain =
            |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let names: Vec<&str> = text.split('.').collect();
        if !names.iter().all(|name| plain(name)) {
            return Err(BadFieldPath);
        }
        Ok(Self(names.into_iter().map(Into::into).collect()))
    }

    /// The names, outermost first; at least one.
    pub fn names(&self) -> &[Box<str>] {
        &self.0
    }

    fn overlaps(&self, other: &Self) -> bool {
        let shorter = self.0.len().min(other.0.len());
        self.0[..shorter] == other.0[..shorter]
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

impl TryFrom<String> for FieldPath {
    type Error = BadFieldPath;

    fn try_from(text: String) -> Result<Self, BadFieldPath> {
        Self::parse(&text)
    }
}

impl From<FieldPath> for String {
    fn from(path: FieldPath) -> Self {
        path.to_string()
    }
}

/// Which fields of the body name the caller, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bind {
    /// Each must be there and be the caller.
    pub check: Vec<FieldPath>,
    /// Each may be missing or empty; else it must be the caller.
    pub optional: Vec<FieldPath>,
    /// Each must be a list that is not empty, and every entry the caller.
    pub each: Vec<FieldPath>,
    /// At least one of them must be the caller; the others are whoever they are.
    pub any: Vec<FieldPath>,
    /// Each is set to the caller, whatever the client wrote.
    pub force: Vec<FieldPath>,
    /// Each must be missing or empty (null, false, 0 or ""): what would reach beyond the caller.
    pub empty: Vec<FieldPath>,
}

impl Bind {
    /// Whether there is no field to look at.
    pub fn is_none(&self) -> bool {
        self.fields().next().is_none()
    }

    /// Whether a body that passes is sure to name the caller in some field. An optional field may be
    /// empty, and of several fields the one that counts may be another.
    pub fn names_the_caller(&self) -> bool {
        [&self.check, &self.each, &self.force].iter().any(|fields| !fields.is_empty())
    }

    /// All fields.
    pub fn fields(&self) -> impl Iterator<Item = &FieldPath> {
        [&self.check, &self.optional, &self.each, &self.any, &self.force, &self.empty].into_iter().flatten()
    }

    fn check(self) -> Result<Self, &'static str> {
        if self.is_none() {
            return Err("names no field\nhint: say `bind: none` if there is none to bind");
        }
        let all: Vec<&FieldPath> = self.fields().collect();
        let clash = all.iter().enumerate().any(|(i, a)| all[i + 1..].iter().any(|b| a.overlaps(b)));
        if clash { Err("names a field twice, or a field and one inside it") } else { Ok(self) }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("nothing");
        }
        let names =
            |fields: &[FieldPath]| -> Vec<String> { fields.iter().map(FieldPath::to_string).collect() };
        let mut parts = Vec::new();
        parts.extend(names(&self.check).into_iter().map(|name| format!("{name} = caller")));
        parts.extend(names(&self.optional).into_iter().map(|name| format!("{name} = caller or empty")));
        parts.extend(names(&self.each).into_iter().map(|name| format!("each of {name} = caller")));
        if !self.any.is_empty() {
            parts.push(format!("{} = caller", names(&self.any).join(" or ")));
        }
        parts.extend(names(&self.force).into_iter().map(|name| format!("{name} := caller")));
        parts.extend(names(&self.empty).into_iter().map(|name| format!("{name} empty")));
        f.write_str(&parts.join(", "))
    }
}

/// The long form of [`Bind`] in YAML.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct WrittenBind {
    /// Each must be there and be the caller.
    check: Vec<FieldPath>,
    /// Each may be missing or empty; else it must be the caller.
    optional: Vec<FieldPath>,
    /// Each must be a list that is not empty, and every entry the caller.
    each: Vec<FieldPath>,
    /// At least one of them must be the caller; the others are whoever they are.
    any: Vec<FieldPath>,
    /// Each is set to the caller, whatever the client wrote.
    force: Vec<FieldPath>,
    /// Each must be missing or empty (null, false, 0 or ""): what would reach beyond the caller.
    empty: Vec<FieldPath>,
}

impl JsonSchema for Bind {
    fn schema_name() -> Cow<'static, str> {
        "Bind".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let field = generator.subschema_for::<FieldPath>();
        let mut long = generator.subschema_for::<WrittenBind>();
        long.insert("minProperties".to_owned(), 1.into());
        json_schema!({ "anyOf": [{ "const": "none", "description": "There is nothing to bind." }, field, long] })
    }
}

impl<'de> Deserialize<'de> for Bind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BindVisitor;

        impl<'de> Visitor<'de> for BindVisitor {
            type Value = Bind;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "`none`, a field, or check, optional, each, any, force and empty with lists of fields",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bind, E> {
                if text == "none" {
                    return Ok(Bind::default());
                }
                let field = FieldPath::parse(text).map_err(E::custom)?;
                Ok(Bind { check: vec![field], ..Bind::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Bind, A::Error> {
                let written = WrittenBind::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let WrittenBind { check, optional, each, any, force, empty } = written;
                Bind { check, optional, each, any, force, empty }.check().map_err(de::Error::custom)
            }
        }

        deserializer.deserialize_any(BindVisitor)
    }
}

/// The longest name of a role, in bytes.
pub const MAX_ROLE: usize = 64;

/// Which roles an admin needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roles {
    /// None: every proven admin may call.
    Any,
    /// One of these.
    OneOf(Box<[Box<str>]>),
}

impl Roles {
    /// Whether somebody with these roles may call.
    pub fn admit(&self, held: &[Box<str>]) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(roles) => roles.iter().any(|role| held.contains(role)),
        }
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::OneOf(roles) => f.write_str(&roles.join(" or ")),
        }
    }
}

impl JsonSchema for Roles {
    fn schema_name() -> Cow<'static, str> {
        "Roles".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let role = json_schema!({ "type": "string", "pattern": "^[!-~]{1,64}$" });
        json_schema!({ "anyOf": [role, { "type": "array", "items": role, "minItems": 1 }] })
    }
}

impl<'de> Deserialize<'de> for Roles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RolesVisitor;

        fn role<E: de::Error>(text: &str) -> Result<Box<str>, E> {
            let plain = (1..=MAX_ROLE).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
            if plain && text != "any" { Ok(text.into()) } else { Err(E::custom("no name of a role")) }
        }

        impl<'de> Visitor<'de> for RolesVisitor {
            type Value = Roles;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`any`, a role or a list of roles")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Roles, E> {
                if text == "any" { Ok(Roles::Any) } else { Ok(Roles::OneOf([role(text)?].into())) }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Roles, A::Error> {
                let mut roles = Vec::new();
                while let Some(text) = seq.next_element::<String>()? {
                    roles.push(role(&text)?);
                }
                if roles.is_empty() {
                    return Err(de::Error::custom(
                        "needs at least one role\nhint: say `any` if every admin may call it",
                    ));
                }
                Ok(Roles::OneOf(roles.into()))
            }
        }

        deserializer.deserialize_any(RolesVisitor)
    }
}

/// A set of kinds of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platforms(u16);

impl Platforms {
    /// Whether it holds this one.
    pub fn contain(self, platform: Platform) -> bool {
        self.0 & (1 << platform.number()) != 0
    }

    fn all() -> impl Iterator<Item = Platform> {
        (1..=Platform::COUNT as u8).filter_map(|number| Platform::try_from(number).ok())
    }
}

impl fmt::Display for Platforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Self::all().filter(|p| self.contain(*p)).map(Platform::name).collect();
        f.write_str(&names.join(", "))
    }
}

/// A pattern for a word in whatever case, for readers that know no flags.
fn in_any_case(word: &str) -> String {
    word.chars().map(|c| format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase())).collect()
}

impl JsonSchema for Platforms {
    fn schema_name() -> Cow<'static, str> {
        "Platforms".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Upper and lower case are alike to the reader; editors propose OpenIM's spelling.
        let names: Vec<&str> = Self::all().filter(|p| *p != Platform::ADMIN).map(Platform::name).collect();
        let any_case =
            format!("^({})$", names.iter().map(|name| in_any_case(name)).collect::<Vec<_>>().join("|"));
        json_schema!({
            "type": "array",
            "items": { "anyOf": [{ "enum": names }, { "type": "string", "pattern": any_case }] },
            "minItems": 1
        })
    }
}

impl<'de> Deserialize<'de> for Platforms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let mut set = 0;
        for name in &names {
            let known = Self::all().find(|p| p.name().eq_ignore_ascii_case(name));
            match known.filter(|p| *p != Platform::ADMIN) {
                Some(platform) => set |= 1 << platform.number(),
                None => {
                    return Err(de::Error::custom(
                        "no kind of device\nhint: IOS, Android, Windows, OSX, Web, MiniWeb, Linux, APad, IPad or HarmonyOS",
                    ));
                }
            }
        }
        if set == 0 { Err(de::Error::custom("needs at least one kind of device")) } else { Ok(Self(set)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(yaml: &str) -> Result<Bind, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn a_binding_is_none_a_field_or_a_map() {
        assert!(bind("none").unwrap().is_none());
        assert_eq!(bind("sendID").unwrap().to_string(), "sendID = caller");
        let all = "{ check: [userInfo.userID], optional: [a], each: [userIDs], any: [b, c], force: [account], empty: [d] }";
        assert_eq!(
            bind(all).unwrap().to_string(),
            "userInfo.userID = caller, a = caller or empty, each of userIDs = caller, b or c = caller, account := caller, d empty"
        );
    }

    #[test]
    fn a_binding_that_says_nothing_or_two_things_is_refused() {
        for bad in [
            "{}",
            "{ check: [] }",
            "''",
            "a..b",
            "a b",
            "{ check: [a], force: [a] }",
            "{ check: [a, a.b] }",
            "{ chek: [a] }",
        ] {
            assert!(bind(bad).is_err(), "{bad}");
        }
        assert!(bind("{ check: [a.b, a.c] }").is_ok());
    }

    #[test]
    fn one_role_of_the_list_is_enough() {
        let roles: Roles = serde_saphyr::from_str("[im-admin, im-auditor]").unwrap();
        assert!(roles.admit(&["im-auditor".into()]));
        assert!(!roles.admit(&["im-admins".into()]));
        assert!(!roles.admit(&[]));
        assert!(serde_saphyr::from_str::<Roles>("any").unwrap().admit(&[]));
        assert!(serde_saphyr::from_str::<Roles>("[]").is_err());
        assert!(serde_saphyr::from_str::<Roles>("[any]").is_err());
    }

    #[test]
    fn platforms_are_named_and_never_the_admins() {
        let mobile: Platforms = serde_saphyr::from_str("[IOS, android]").unwrap();
        assert!(mobile.contain(Platform::try_from(2).unwrap()));
        assert!(!mobile.contain(Platform::try_from(5).unwrap()));
        for bad in ["[]", "[Admin]", "[Toaster]"] {
            assert!(serde_saphyr::from_str::<Platforms>(bad).is_err(), "{bad}");
        }
    }
}
