//! Prints the OpenAPI description of the service.

#![allow(clippy::print_stdout)]

fn main() {
    println!("{}", cairn_server::openapi().to_pretty_json().expect("the description is plain data"));
}
