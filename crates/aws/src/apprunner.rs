//! AWS App Runner, API version 2020-05-15.

pub mod shapes;
