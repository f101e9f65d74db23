//! The cost of a function that only pulls: requests and capacity units are counted here, and `docs/COST.md`
//! has them with the resulting amounts by the prices of `deploy/prices.json`.
//!
//! With `OBSYNC_UPDATE_COST` set the page is written instead; with `OBSYNC_TEST_LARGE` the row of a vault
//! with 100,000 notes is counted anew, which takes many minutes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{env, fs};

use obsync_testcloud::{LambdaOptions, LambdaRuntime, RequestCounts, Service};
use serde_json::Value;

use crate::world::{World, answered, invoke, sync};

/// Notes of the vault counted in every test run.
pub(crate) const NOTES: usize = 2_000;
/// Notes of the large vault.
const MANY: usize = 100_000;
/// Notes changed at a time.
pub(crate) const CHANGED: usize = 1_000;
/// Notes changed of the smaller vault: the part of it that [`CHANGED`] are of the large one.
const FEW_CHANGED: usize = CHANGED * NOTES / MANY;
/// Runs of a month: one in fifteen minutes.
pub(crate) const RUNS: f64 = 4.0 * 24.0 * 30.0;
/// Bytes that Lambda itself logs for an invocation.
pub(crate) const PLATFORM_LOG: f64 = 700.0;

/// Requests of an invocation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counted {
    /// S3 requests at the price of `PUT`, listings included.
    pub(crate) s3_writes: f64,
    /// S3 requests at the price of `GET`.
    pub(crate) s3_reads: f64,
    pub(crate) read_units: f64,
    pub(crate) write_units: f64,
    pub(crate) log_bytes: f64,
}

impl Counted {
    /// The requests of S3 for this many changed notes, from those for one and for [`FEW_CHANGED`] in a vault
    /// of another size.
    fn s3_by(one: &Counted, few: &Counted, changed: usize) -> (f64, f64) {
        let further = |of: fn(&Counted) -> f64| {
            let each = (of(few) - of(one)) / (FEW_CHANGED as f64 - 1.0);
            of(one) + each * (changed as f64 - 1.0)
        };
        (further(|counted| counted.s3_writes), further(|counted| counted.s3_reads))
    }

    /// Fails if the page has other numbers.
    #[track_caller]
    pub(crate) fn assert_is(&self, row: &str, told: &Counted) {
        // The number of files in one transaction depends on how fast they arrive.
        let is_near = |one: f64, other: f64, least: f64| (one - other).abs() <= (other * 0.1).max(least);
        let is_right = is_near(self.s3_writes, told.s3_writes, 0.0)
            && is_near(self.s3_reads, told.s3_reads, 0.0)
            && is_near(self.read_units, told.read_units, 1.0)
            && is_near(self.write_units, told.write_units, 2.0)
            && is_near(self.log_bytes, told.log_bytes, 400.0);
        assert!(
            is_right,
            "{row}: {self:?}, and docs/COST.md has {told:?}: write it anew by OBSYNC_UPDATE_COST=1"
        );
    }
}

/// A typical vault.
pub(crate) struct Size {
    pub(crate) name: &'static str,
    pub(crate) notes: f64,
    /// Average bytes of a note, attachments included.
    bytes: f64,
    /// Notes that change in a day.
    pub(crate) changed: f64,
    /// Runs per day that find changes.
    pub(crate) runs: f64,
    /// Memory of the function in GB.
    pub(crate) memory: f64,
}

impl Size {
    /// The cost of storage in a month.
    pub(crate) fn storage(&self, prices: &Prices) -> [(&'static str, f64); 2] {
        [
            ("storage in S3", self.notes * self.bytes / 1e9 * prices.of("s3_gb_month")),
            ("storage in DynamoDB", self.notes * STATE_BYTES / 1e9 * prices.of("dynamodb_gb_month")),
        ]
    }
}

pub(crate) const SIZES: [Size; 3] = [
    Size { name: "300 notes", notes: 300.0, bytes: 20e3, changed: 10.0, runs: 5.0, memory: 0.25 },
    Size { name: "5,000 notes", notes: 5e3, bytes: 100e3, changed: 50.0, runs: 20.0, memory: 0.25 },
    Size { name: "100,000 notes", notes: 100e3, bytes: 100e3, changed: 1e3, runs: 40.0, memory: 0.5 },
];

/// Seconds of a run, and per changed note. Assumed, not measured: this machine is not Amazon's.
pub(crate) const SECONDS: (f64, f64) = (1.0, 0.01);
/// Bytes of a note in the table.
const STATE_BYTES: f64 = 400.0;

/// The rows of the page, in their order.
const ROWS: [&str; 7] = [
    "nothing changed",
    "1 note changed",
    "10 notes changed",
    "20 notes changed, of 2,000",
    "1,000 notes changed, of 2,000",
    "1,000 notes changed, of 100,000",
    "first sync of 2,000 notes",
];

fn large() -> bool {
    env::var_os("OBSYNC_TEST_LARGE").is_some()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A function and its requests until now.
pub(crate) struct Meter {
    pub(crate) world: World,
    function: LambdaRuntime,
}

impl Meter {
    pub(crate) async fn new(variables: &[(&str, &str)]) -> Self {
        let world = World::new().await;
        let memory_mb = if large() { 2048 } else { 256 };
        let mut options = LambdaOptions { memory_mb, timeout: Duration::from_secs(7200), ..world.options() };
        options.env.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let function = LambdaRuntime::new(&world.cloud, options);
        Meter { world, function }
    }

    /// Writes notes with a content of this round.
    pub(crate) fn write(&self, notes: Range<usize>, round: u32) {
        let vault = self.world.vault("Notes");
        for number in notes {
            let time = 1_700_000_000_000 + i64::from(round);
            vault.write(&path(number), content(number, round), time).unwrap();
        }
    }

    /// Runs the function, asserts the number of files, and counts.
    pub(crate) async fn count(&self, files: usize) -> Counted {
        let (answer, counted) = self.run().await;
        assert_eq!(answer["files_count"], files, "{answer}");
        counted
    }

    /// Runs the function, and counts.
    pub(crate) async fn run(&self) -> (Value, Counted) {
        let (counts, capacity) = (self.world.cloud.counts(), self.world.cloud.dynamodb().capacity());
        let invocation = invoke(&self.function, &sync("Notes")).await;
        let answer = answered(&invocation);
        assert_eq!(answer["status"], "complete", "{answer}");
        let requests = self.world.cloud.counts().since(&counts);
        let used = self.world.cloud.dynamodb().capacity().since(capacity);
        let (s3_writes, s3_reads) = priced(&requests);
        let log_bytes = invocation.logs.iter().map(|line| line.len() as f64 + 1.0).sum();
        let counted =
            Counted { s3_writes, s3_reads, read_units: used.read, write_units: used.write, log_bytes };
        (answer.clone(), counted)
    }
}

pub(crate) fn path(number: usize) -> String {
    format!("folder {}/note {number}.md", number % 50)
}

/// The content of a note since a round.
pub(crate) fn content(number: usize, round: u32) -> String {
    format!("note {number} of round {round}\n").repeat(1 + number % 20)
}

/// S3 requests at the price of `PUT`, and at that of `GET`. Deletions are free.
fn priced(requests: &RequestCounts) -> (f64, f64) {
    let (mut writes, mut reads) = (0, 0);
    for (service, operation, count) in requests.iter() {
        match operation {
            _ if service != Service::S3 => {}
            "GetObject" | "HeadObject" => reads += count,
            "DeleteObject" | "DeleteObjects" | "AbortMultipartUpload" => {}
            _ => writes += count,
        }
    }
    (writes as f64, reads as f64)
}

/// Counts every row; that of the large vault only on request.
async fn count() -> BTreeMap<&'static str, Counted> {
    let meter = Meter::new(&[]).await;
    let mut counted = BTreeMap::new();
    // The process and the destination are known from here on.
    meter.write(0..1, 0);
    meter.count(1).await;
    meter.write(1..NOTES + 1, 0);
    counted.insert("first sync of 2,000 notes", meter.count(NOTES).await);
    counted.insert("nothing changed", meter.count(0).await);
    meter.write(0..1, 1);
    counted.insert("1 note changed", meter.count(1).await);
    meter.write(0..10, 2);
    counted.insert("10 notes changed", meter.count(10).await);
    meter.write(NOTES - FEW_CHANGED..NOTES, 2);
    counted.insert("20 notes changed, of 2,000", meter.count(FEW_CHANGED).await);
    meter.write(0..CHANGED, 3);
    counted.insert("1,000 notes changed, of 2,000", meter.count(CHANGED).await);
    if large() {
        meter.write(NOTES + 1..MANY, 0);
        meter.count(MANY - NOTES - 1).await;
        meter.write(MANY - CHANGED..MANY, 4);
        counted.insert("1,000 notes changed, of 100,000", meter.count(CHANGED).await);
    }
    counted
}

pub(crate) fn counts_table(rows: &[&str], counted: &BTreeMap<&str, Counted>) -> String {
    let mut table = "| run | S3 writes | S3 reads | read units | write units | log, KB |\n| --- | --- | --- | --- | --- | --- |\n".to_owned();
    for row in rows {
        let Some(Counted { s3_writes, s3_reads, read_units, write_units, log_bytes }) = counted.get(row)
        else {
            continue;
        };
        let log = log_bytes / 1000.0;
        let _ =
            writeln!(table, "| {row} | {s3_writes} | {s3_reads} | {read_units} | {write_units} | {log:.1} |");
    }
    table
}

/// The counts on the page.
pub(crate) fn parsed<'r>(rows: &[&'r str], table: &str) -> BTreeMap<&'r str, Counted> {
    let mut counted = BTreeMap::new();
    for line in table.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let Some(row) = rows.iter().find(|row| Some(*row) == cells.first()) else { continue };
        let number = |index: usize| cells[index].parse::<f64>().unwrap();
        let counts = Counted {
            s3_writes: number(1),
            s3_reads: number(2),
            read_units: number(3),
            write_units: number(4),
            log_bytes: number(5) * 1000.0,
        };
        counted.insert(*row, counts);
    }
    counted
}

pub(crate) struct Prices(Value);

impl Prices {
    pub(crate) fn read() -> Self {
        Prices(serde_json::from_str(&fs::read_to_string(root().join("deploy/prices.json")).unwrap()).unwrap())
    }

    pub(crate) fn of(&self, name: &str) -> f64 {
        self.0["prices"][name].as_f64().unwrap_or_else(|| panic!("there is no price {name}"))
    }

    pub(crate) fn s3(&self, counted: &Counted) -> f64 {
        (counted.s3_writes * self.of("s3_writes_1000") + counted.s3_reads * self.of("s3_reads_1000")) / 1000.0
    }

    fn dynamodb(&self, counted: &Counted) -> f64 {
        self.reading(counted) + self.writing(counted)
    }

    /// The cost of DynamoDB reads.
    pub(crate) fn reading(&self, counted: &Counted) -> f64 {
        counted.read_units * self.of("dynamodb_read_units_million") / 1e6
    }

    /// The cost of DynamoDB writes.
    pub(crate) fn writing(&self, counted: &Counted) -> f64 {
        counted.write_units * self.of("dynamodb_write_units_million") / 1e6
    }

    /// The cost of a month's invocations with this many seconds in all.
    pub(crate) fn lambda(&self, size: &Size, seconds: f64) -> f64 {
        RUNS * self.of("lambda_requests_million") / 1e6
            + seconds * size.memory * self.of("lambda_gb_second_arm64")
    }
}

/// The cost of a vault in a month, by kind.
fn month(size: &Size, counted: &BTreeMap<&str, Counted>, prices: &Prices) -> Vec<(&'static str, f64)> {
    let quiet = counted["nothing changed"];
    let one = counted["1 note changed"];
    let many = counted["1,000 notes changed, of 2,000"];
    let changing = size.runs * 30.0;
    let further = size.changed * 30.0 - changing;
    let sum = |of: &dyn Fn(&Counted) -> f64| {
        let each = (of(&many) - of(&one)) / (CHANGED as f64 - 1.0);
        of(&quiet) * (RUNS - changing) + of(&one) * changing + each * further
    };
    let seconds = RUNS * SECONDS.0 + size.changed * 30.0 * SECONDS.1;
    let log = sum(&|counted| counted.log_bytes) + RUNS * PLATFORM_LOG;
    let [s3, dynamodb] = size.storage(prices);
    vec![
        ("requests of S3", sum(&|counted| prices.s3(counted))),
        ("capacity units of DynamoDB", sum(&|counted| prices.dynamodb(counted))),
        ("invocations of Lambda", prices.lambda(size, seconds)),
        ("log", log / 1e9 * prices.of("logs_gb")),
        s3,
        dynamodb,
    ]
}

/// The table of monthly costs for vaults of each size, by kind.
pub(crate) fn months_table(months: &[Vec<(&str, f64)>; 3]) -> String {
    let names = SIZES.map(|size| size.name).join(" | ");
    let mut text = format!("| a vault, in a month | {names} |\n| --- | --- | --- | --- |\n");
    for (row, (kind, _)) in months[0].iter().enumerate() {
        let cells: Vec<String> = months.iter().map(|month| dollars(month[row].1)).collect();
        let _ = writeln!(text, "| {kind} | {} |", cells.join(" | "));
    }
    let sums = months.each_ref().map(|month| month.iter().map(|(_, amount)| amount).sum::<f64>());
    let _ =
        writeln!(text, "| **together** | {} |", sums.map(|sum| format!("**{}**", dollars(sum))).join(" | "));
    text
}

/// Number of alarms and metrics of a function by the template, without a queue and a URL.
fn watched() -> (f64, f64) {
    let template = fs::read_to_string(root().join("deploy/template.yaml")).unwrap();
    let alarms = template.matches("Type: AWS::CloudWatch::Alarm\n").count()
        - template.matches("Type: AWS::CloudWatch::Alarm\n    Condition: HasQueue\n").count()
        - template.matches("Type: AWS::CloudWatch::Alarm\n    Condition: HasUrl\n").count();
    let source = fs::read_to_string(root().join("crates/lambda/src/metrics.rs")).unwrap();
    let metrics = source.lines().filter(|line| line.starts_with("    (\"") && line.ends_with("\"),")).count()
        + source.matches("= [(\"").count();
    (alarms as f64, metrics as f64)
}

pub(crate) fn dollars(amount: f64) -> String {
    if amount < 0.01 { format!("{amount:.4}") } else { format!("{amount:.2}") }
}

/// The tables of amounts.
fn money(counted: &BTreeMap<&str, Counted>, prices: &Prices) -> String {
    let months = SIZES.each_ref().map(|size| month(size, counted, prices));
    let mut text = months_table(&months);
    let (alarms, metrics) = watched();
    let month_of_nat = 730.0 * prices.of("nat_gateway_hour");
    let _ = writeln!(text, "\n| a function, in a month | |\n| --- | --- |");
    for (what, amount) in [
        (format!("{metrics} metrics"), metrics * prices.of("metric_month")),
        (format!("{alarms} alarms"), alarms * prices.of("alarm_month")),
        ("the secret".to_owned(), prices.of("secret_month")),
        ("a key of your own in KMS, if there is one".to_owned(), prices.of("key_month")),
        ("the dashboard, if it is wanted".to_owned(), prices.of("dashboard_month")),
        (
            format!("`OBSYNC_METRICS=vaults`: {} more metrics for each vault", metrics - 1.0),
            (metrics - 1.0) * prices.of("metric_month"),
        ),
        ("a NAT gateway, if the function is put into a VPC".to_owned(), month_of_nat),
    ] {
        let _ = writeln!(text, "| {what} | {} |", dollars(amount));
    }
    let _ = writeln!(text, "\n| once | S3 | DynamoDB |\n| --- | --- | --- |");
    let first = counted["first sync of 2,000 notes"];
    let scaled = |factor: f64| Counted {
        s3_writes: first.s3_writes * factor,
        s3_reads: first.s3_reads * factor,
        read_units: first.read_units * factor,
        write_units: first.write_units * factor,
        ..first
    };
    let mut rows = vec![
        ("first sync of 2,000 notes".to_owned(), first),
        ("first sync of 100,000 notes (50 times that)".to_owned(), scaled(50.0)),
        ("1,000 notes changed in a vault of 2,000".to_owned(), counted["1,000 notes changed, of 2,000"]),
    ];
    if let Some(large) = counted.get("1,000 notes changed, of 100,000") {
        rows.push(("1,000 notes changed in a vault of 100,000".to_owned(), *large));
    }
    for (what, counted) in rows {
        let _ = writeln!(
            text,
            "| {what} | {} | {} |",
            dollars(prices.s3(&counted)),
            dollars(prices.dynamodb(&counted))
        );
    }
    text
}

/// The text between two marks of the page.
pub(crate) fn block<'p>(page: &'p str, name: &str) -> &'p str {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    page.split_once(&begin)
        .and_then(|(_, rest)| rest.split_once(&end))
        .unwrap_or_else(|| panic!("no {name}"))
        .0
}

pub(crate) fn page() -> String {
    fs::read_to_string(root().join("docs/COST.md")).unwrap()
}

/// Writes blocks of the page anew, on request. Tests of one process do that one after the other.
pub(crate) fn update(write: impl FnOnce(&str) -> String) -> bool {
    static WRITING: Mutex<()> = Mutex::new(());
    let is_asked_for = env::var_os("OBSYNC_UPDATE_COST").is_some();
    if is_asked_for {
        let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        fs::write(root().join("docs/COST.md"), write(&page())).unwrap();
    }
    is_asked_for
}

/// The page with this between two marks.
pub(crate) fn with_block(page: &str, name: &str, text: &str) -> String {
    let old = format!("<!-- {name} -->\n{}<!-- end", block(page, name));
    page.replace(&old, &format!("<!-- {name} -->\n{text}<!-- end"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_on_cost_is_what_is_counted_and_what_that_costs() {
    let (prices, counted) = (Prices::read(), count().await);
    let is_written = update(|page| {
        let mut all = parsed(&ROWS, block(page, "counts"));
        all.extend(counted.clone());
        let table = counts_table(&ROWS, &all);
        let page = with_block(page, "counts", &table);
        with_block(&page, "money", &money(&parsed(&ROWS, &table), &prices))
    });
    if is_written {
        return;
    }
    let page = page();
    let told = parsed(&ROWS, block(&page, "counts"));
    assert_eq!(told.keys().copied().collect::<Vec<_>>().len(), ROWS.len(), "every row is in the page");
    for (row, counted) in &counted {
        counted.assert_is(row, &told[row]);
    }
    // The large vault is not counted in every run: its row follows from a smaller one.
    let large = &told["1,000 notes changed, of 100,000"];
    let (s3_writes, s3_reads) =
        Counted::s3_by(&counted["1 note changed"], &counted["20 notes changed, of 2,000"], CHANGED);
    Counted { s3_writes, s3_reads, ..*large }.assert_is("1,000 notes changed, of 100,000", large);
    let money = money(&told, &prices);
    assert_eq!(block(&page, "money"), money, "write docs/COST.md anew by OBSYNC_UPDATE_COST=1");
    assert!(page.contains(prices.0["date"].as_str().unwrap()), "the page has the date of the prices");
}
