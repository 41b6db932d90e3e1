//! The JSON Schema of the files, for editors.
//!
//! It is derived from the types that the files are read into, so a key stands in it as soon as the
//! reader takes it, and its description is the comment at its field. It says what a value looks like;
//! whether the names in it exist and the parts fit together, only `imgate check` can say.

use imgate_filters::Registry;
use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::{table, written};

/// The schema of the configuration, with the filters that an embedder has added.
pub fn config_schema(custom: &Registry) -> Schema {
    let mut schema = schema_of::<written::Config>("imgate configuration");
    if let Some(step) = schema.pointer_mut("/properties/chains/additionalProperties/items") {
        custom.names().for_each(|name| allow(step, name));
    }
    schema
}

/// The schema of a table of routes.
pub fn table_schema() -> Schema {
    schema_of::<table::Table>("imgate route table")
}

/// Written out in one piece: editors follow references, but people who read it should not have to.
fn schema_of<T: JsonSchema>(title: &str) -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    transform_subschemas(&mut plain, &mut schema);
    schema
}

/// Takes the brackets off names that the comments link to.
fn plain(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace("[`", "`").replace("`]", "`");
    }
    transform_subschemas(&mut plain, schema);
}

/// Lets a filter stand in a chain, whatever its options, if the schema does not know it.
fn allow(step: &mut Value, name: &str) {
    let known = step["properties"].get(name).is_some();
    if let (false, Some(one)) = (known, step["oneOf"].as_array_mut()) {
        one.push(serde_json::json!({ "required": [name] }));
        step["properties"][name] = Value::Bool(true);
    }
}
