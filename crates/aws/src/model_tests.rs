//! What must be true of every module of generated shapes, tested against the model it was made from.

use serde_json::{Map, Value, json};

/// A structure's name, and what is left of a value that was read as it.
type Structure = (&'static str, fn(Value) -> Value);

/// A value of a shape with every member there is.
fn example(shapes: &Value, name: &str) -> Value {
    let shape = &shapes[name];
    let of = |reference: &Value| example(shapes, reference["shape"].as_str().unwrap());
    match shape["type"].as_str().unwrap() {
        "structure" => {
            let members = shape["members"].as_object().unwrap();
            Value::Object(
                members
                    .iter()
                    .map(|(name, shape)| (name.clone(), of(shape)))
                    .collect(),
            )
        }
        "list" => json!([of(&shape["member"]), of(&shape["member"])]),
        "map" => Value::Object(Map::from_iter([("key".to_owned(), of(&shape["value"]))])),
        "string" => json!(format!("a {name}")),
        "integer" | "long" => json!(7),
        "double" => json!(7.5),
        "boolean" => json!(true),
        "timestamp" => json!(1_606_156_217),
        "blob" => json!("aGVsbG8="),
        other => panic!("{other}"),
    }
}

#[track_caller]
pub(crate) fn every_member_is_read_and_written(model: &str, structures: &[Structure]) {
    let model: Value = serde_json::from_str(model).unwrap();
    for (name, reread) in structures {
        let whole = example(&model["shapes"], name);
        assert_eq!(reread(whole.clone()), whole, "{name}");
        assert_eq!(reread(json!({})), json!({}), "{name}");
    }
}

#[track_caller]
pub(crate) fn operations_are_the_models(model: &str, names: &[&str]) {
    let model: Value = serde_json::from_str(model).unwrap();
    let mut wanted: Vec<&String> = model["operations"].as_object().unwrap().keys().collect();
    wanted.sort();
    assert_eq!(names, wanted);
}
