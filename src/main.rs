//! The `grandstand` command.

fn main() {}
