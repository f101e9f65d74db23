//! The cost of a function that syncs both ways (`OBSYNC_DIRECTION=sync`), counted as in `cost`.
//!
//! Each run lists the bucket. If the list differs from that of the last run, or if the run brings changes, it
//! reads the records of the whole table, so its cost grows with the vault: it is counted for two sizes, and
//! extrapolated linearly.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::cost::{
    CHANGED, Counted, Meter, NOTES, PLATFORM_LOG, Prices, RUNS, SECONDS, SIZES, Size, block, content,
    counts_table, months_table, page, parsed, path, update, with_block,
};
use crate::world::{BUCKET, PREFIX};

/// Notes of the smaller counted vault.
const FEW: usize = 300;
/// Seconds of listing and reading per existing note. Assumed, not measured: 0.1 s for a page of 1,000
/// objects, 0.1 s for a megabyte of the table.
const SECONDS_OF_A_NOTE: f64 = 0.000_15;

/// The rows of the page, in their order.
const ROWS: [&str; 9] = [
    "nothing changed, of 300 notes",
    "nothing changed, of 2,000",
    "1 note changed in the vault, of 300",
    "1 note changed in the vault, of 2,000",
    "1 note changed in the bucket, of 300",
    "1 note changed in the bucket, of 2,000",
    "1,000 notes changed in the vault, of 2,000",
    "1,000 notes changed in the bucket, of 2,000",
    "first sync of 2,000 notes",
];

/// Writes objects with a content of this round, as another program, and counts the run that sends them.
async fn send(meter: &Meter, notes: Range<usize>, round: u32) -> Counted {
    let count = notes.len();
    for number in notes {
        let key = format!("{PREFIX}/Notes/{}", path(number));
        meter.world.cloud.s3().put(BUCKET, &key, content(number, round), &[]);
    }
    let (answer, counted) = meter.run().await;
    assert_eq!(answer["vaults"][0]["pushed"]["files"], count, "{answer}");
    counted
}

/// A synced vault with this many notes, and the cost of its first sync.
async fn synced(notes: usize) -> (Meter, Counted) {
    let meter = Meter::new(&[("OBSYNC_DIRECTION", "sync")]).await;
    // The process, the direction and the destination are known from here on.
    meter.write(0..1, 0);
    meter.count(1).await;
    meter.write(1..notes + 1, 0);
    let first = meter.count(notes).await;
    (meter, first)
}

async fn count() -> BTreeMap<&'static str, Counted> {
    let mut counted = BTreeMap::new();
    let (few, _) = synced(FEW).await;
    counted.insert("nothing changed, of 300 notes", few.count(0).await);
    few.write(0..1, 1);
    counted.insert("1 note changed in the vault, of 300", few.count(1).await);
    counted.insert("1 note changed in the bucket, of 300", send(&few, 1..2, 1).await);
    let (many, first) = synced(NOTES).await;
    counted.insert("first sync of 2,000 notes", first);
    counted.insert("nothing changed, of 2,000", many.count(0).await);
    many.write(0..1, 1);
    counted.insert("1 note changed in the vault, of 2,000", many.count(1).await);
    counted.insert("1 note changed in the bucket, of 2,000", send(&many, 1..2, 1).await);
    many.write(0..CHANGED, 2);
    counted.insert("1,000 notes changed in the vault, of 2,000", many.count(CHANGED).await);
    counted.insert("1,000 notes changed in the bucket, of 2,000", send(&many, 0..CHANGED, 3).await);
    counted
}

/// The cost of a vault in a month, by kind. Half of the changes are made in the vault, the other half in the
/// bucket.
fn month(size: &Size, counted: &BTreeMap<&str, Counted>, prices: &Prices) -> Vec<(&'static str, f64)> {
    let changing = size.runs * 30.0;
    let further = size.changed * 30.0 - changing;
    let sum = |of: &dyn Fn(&Counted) -> f64| {
        let in_a_vault = |few: &str, many: &str| {
            let (few, many) = (of(&counted[few]), of(&counted[many]));
            few + (many - few) / (NOTES - FEW) as f64 * (size.notes - FEW as f64)
        };
        let quiet = in_a_vault(ROWS[0], ROWS[1]);
        let one = (in_a_vault(ROWS[2], ROWS[3]) + in_a_vault(ROWS[4], ROWS[5])) / 2.0;
        let (one_of_many, many) =
            (of(&counted[ROWS[3]]) + of(&counted[ROWS[5]]), of(&counted[ROWS[6]]) + of(&counted[ROWS[7]]));
        let each = (many - one_of_many) / 2.0 / (CHANGED as f64 - 1.0);
        quiet * (RUNS - changing) + one * changing + each * further
    };
    let seconds = RUNS * (SECONDS.0 + size.notes * SECONDS_OF_A_NOTE) + size.changed * 30.0 * SECONDS.1;
    let log = sum(&|counted| counted.log_bytes) + RUNS * PLATFORM_LOG;
    let [s3, dynamodb] = size.storage(prices);
    vec![
        ("requests of S3", sum(&|counted| prices.s3(counted))),
        ("reading DynamoDB", sum(&|counted| prices.reading(counted))),
        ("writing DynamoDB", sum(&|counted| prices.writing(counted))),
        ("invocations of Lambda", prices.lambda(size, seconds)),
        ("log", log / 1e9 * prices.of("logs_gb")),
        s3,
        dynamodb,
    ]
}

fn money(counted: &BTreeMap<&str, Counted>, prices: &Prices) -> String {
    months_table(&SIZES.each_ref().map(|size| month(size, counted, prices)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_has_what_a_sync_asks_for_and_what_that_costs() {
    let (prices, counted) = (Prices::read(), count().await);
    let is_written = update(|page| {
        let table = counts_table(&ROWS, &counted);
        let page = with_block(page, "counts of syncs", &table);
        with_block(&page, "money of syncs", &money(&parsed(&ROWS, &table), &prices))
    });
    if is_written {
        return;
    }
    let page = page();
    let told = parsed(&ROWS, block(&page, "counts of syncs"));
    assert_eq!(told.len(), ROWS.len(), "every row is in the page");
    for (row, counted) in &counted {
        counted.assert_is(row, &told[row]);
    }
    let money = money(&told, &prices);
    assert_eq!(block(&page, "money of syncs"), money, "write docs/COST.md anew by OBSYNC_UPDATE_COST=1");
}
