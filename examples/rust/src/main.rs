//! Writes numbers as the Romans did: a page, and the answer alone for programs.
//!
//! It has the standard library and nothing else, so it builds without a way to crates.io.

mod http;
mod numerals;

use std::{env, io};

use http::Response;

const NAME: &str = "rust";
const VERSION: &str = "1";

const PAGE: &str = include_str!("../static/index.html");
const STYLE: &str = include_str!("../static/style.css");

fn main() -> io::Result<()> {
    let port = env::var("PORT").unwrap_or_else(|_| "8080".into());
    http::serve(&format!("0.0.0.0:{port}"), answer)
}

fn answer(path: &str, query: &str) -> Response {
    match path {
        "/" => index(query),
        "/style.css" => Response::ok("text/css", STYLE),
        "/health" => Response::ok("text/plain", "ok\n"),
        _ => match path.strip_prefix("/api/roman/").map(numerals::roman) {
            Some(Ok(roman)) => Response::ok("text/plain", format!("{roman}\n")),
            Some(Err(error)) => Response::error("400 Bad Request", format!("{error}\n")),
            None => Response::error("404 Not Found", "not found\n"),
        },
    }
}

fn index(query: &str) -> Response {
    let number = query.strip_prefix("number=").unwrap_or("2026");
    let answer = match numerals::roman(number) {
        Ok(roman) => format!("{number} is {roman}"),
        Err(error) => error.to_string(),
    };
    let page = PAGE
        .replace("{name}", NAME)
        .replace("{version}", VERSION)
        .replace("{answer}", &answer);
    Response::ok("text/html; charset=utf-8", page)
}
