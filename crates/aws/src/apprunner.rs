//! AWS App Runner, API version 2020-05-15.

pub mod shapes;

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::shapes::{Operation, STRUCTURES};

    fn model() -> Value {
        serde_json::from_str(include_str!("../models/apprunner.json")).unwrap()
    }

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
            "integer" => json!(7),
            "boolean" => json!(true),
            "timestamp" => json!(1_606_156_217),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_member_of_every_structure_is_read_and_written() {
        let model = model();
        for (name, reread) in STRUCTURES {
            let whole = example(&model["shapes"], name);
            assert_eq!(reread(whole.clone()), whole, "{name}");
            assert_eq!(reread(json!({})), json!({}), "{name}");
        }
    }

    #[test]
    fn operations_are_the_models() {
        let model = model();
        let names: Vec<&str> = Operation::ALL
            .iter()
            .map(|operation| operation.name())
            .collect();
        let mut wanted: Vec<&String> = model["operations"].as_object().unwrap().keys().collect();
        wanted.sort();
        assert_eq!(names, wanted);
        assert_eq!(names.len(), 37);
    }
}
