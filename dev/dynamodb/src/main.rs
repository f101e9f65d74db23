//! DynamoDB in memory, as a separate process: it serves the DynamoDB API on a port of the loopback, and
//! answers its parent on standard input and output.
//!
//! The first line on standard output is the port. Then each line of standard input is a request of the parent,
//! `{"operation": "PutItem", "request": {…}}`, and is answered by one line, `{"answer": …}` or `{"error": "…"}`. The process
//! ends with its standard input, so it never outlives its parent.

use std::io::{self, BufRead, Write};

use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let database = Database::memory()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
    let mut output = io::stdout().lock();
    writeln!(output, "{}", listener.local_addr()?.port())?;
    output.flush()?;
    runtime.spawn(dynoxide::server::serve_on(listener, database.clone()));
    for line in io::stdin().lock().lines() {
        let answer = match answer(&database, &line?) {
            Ok(answer) => json!({ "answer": answer }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
    runtime.shutdown_background();
    Ok(())
}

fn answer(database: &Database, line: &str) -> Result<Value, Failure> {
    let mut asked: Value = serde_json::from_str(line)?;
    let request = asked["request"].take();
    match asked["operation"].as_str().unwrap_or_default() {
        "CreateTable" => call(request, |request| database.create_table(request)),
        "DeleteItem" => call(request, |request| database.delete_item(request)),
        "DeleteTable" => call(request, |request| database.delete_table(request)),
        "DescribeTable" => call(request, |request| database.describe_table(request)),
        "DescribeTimeToLive" => call(request, |request| database.describe_time_to_live(request)),
        "GetItem" => call(request, |request| database.get_item(request)),
        "ListTagsOfResource" => call(request, |request| database.list_tags_of_resource(request)),
        "PutItem" => call(request, |request| database.put_item(request)),
        "Scan" => call(request, |request| database.scan(request)),
        "SweepTtl" => Ok(json!(database.sweep_ttl()?)),
        "UpdateItem" => call(request, |request| database.update_item(request)),
        other => Err(format!("there is no operation {other:?}").into()),
    }
}

fn call<Q: DeserializeOwned, A: Serialize>(
    request: Value,
    operation: impl FnOnce(Q) -> Result<A, DynoxideError>,
) -> Result<Value, Failure> {
    // From text: dynoxide's requests cannot be parsed from a `Value`.
    let request = serde_json::from_str(&request.to_string())?;
    Ok(serde_json::to_value(operation(request)?)?)
}
