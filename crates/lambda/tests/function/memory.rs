//! A small function, and much to do.

use obsync_testkit::cloud::{LambdaOptions, LambdaRuntime, MemoryLimit, Service};

use crate::world::{World, answered, invoke, many, sync, write_notes};

/// Many small files, and one that is larger than all of the memory.
#[tokio::test(flavor = "multi_thread")]
async fn many_files_and_one_larger_than_all_memory_go_through_128_mb() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    write_notes(&vault, many(1500));
    vault.write("large.bin", vec![7; 190 << 20], 1_700_000_000_000).unwrap();
    let memory_limit = MemoryLimit::strongest();
    let options = LambdaOptions { memory_mb: 128, memory_limit, ..world.options() };
    let function = LambdaRuntime::new(&world.cloud, options);
    let invocation = invoke(&function, &sync("Notes")).await;
    let answer = answered(&invocation);
    assert_eq!(answer["status"], "complete", "{answer}");
    let peak = invocation.max_rss.unwrap();
    println!("peak: {} MiB in {:?}", peak >> 20, invocation.duration);
    assert!(peak < 128 << 20, "{} MiB", peak >> 20);
    assert!(world.cloud.counts().of(Service::S3, "UploadPart") >= 38, "it went up in parts of 5 MiB");
    world.assert_exact("Notes");
}
