//! Amazon CloudWatch, API version 2010-08-01: the operations on metrics and alarms.

pub mod shapes;

#[cfg(test)]
mod tests {
    use super::shapes::{Operation, STRUCTURES, TEXTS};
    use crate::model_tests;

    const MODEL: &str = include_str!("../models/cloudwatch.json");

    #[test]
    fn every_member_of_every_structure_is_read_and_written() {
        model_tests::every_member_is_read_and_written(MODEL, &STRUCTURES);
    }

    #[test]
    fn operations_are_the_models() {
        let names = Operation::ALL.map(Operation::name);
        model_tests::operations_are_the_models(MODEL, &names);
        assert_eq!(names.len(), 14);
        for operation in Operation::ALL {
            assert_eq!(Operation::from_name(operation.name()), Some(operation));
        }
    }

    #[test]
    fn every_pattern_compiles() {
        TEXTS.iter().for_each(|texts| texts.compile());
    }
}
