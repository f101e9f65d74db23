//! A small function with much work.

use obsync_testcloud::{LambdaOptions, LambdaRuntime, MemoryLimit, Service};

use crate::world::{World, answered, failed, invoke, many, report, sync, write_notes};

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

/// The list of a vault is refused before it takes the function's memory; smaller lists pass.
#[tokio::test(flavor = "multi_thread")]
async fn a_vault_whose_list_takes_too_much_memory_is_refused_with_a_sentence_and_the_function_lives() {
    for (kind, below) in [("folders", 30_000), ("below-a-file", 30_000), ("undecodable", 10_000)] {
        for (count, is_refused) in [(many(below), false), (many(100_000), true)] {
            let world = World::new().await;
            world.vault("Notes").write("note.md", "text", 1_700_000_000_000).unwrap();
            world.server.faults().update(|faults| faults.set(&format!("flood={kind}:{count}")).unwrap());
            let memory_limit = MemoryLimit::strongest();
            let options = LambdaOptions { memory_mb: 128, memory_limit, ..world.options() };
            let function = LambdaRuntime::new(&world.cloud, options);
            for _ in 0..2 {
                let invocation = invoke(&function, &sync("Notes")).await;
                let peak = invocation.max_rss.unwrap_or_default() >> 20;
                println!("{count} {kind}: {peak} MiB in {:?}", invocation.duration);
                assert!(peak < 128, "{count} {kind}: {peak} MiB");
                if is_refused {
                    let (_, message) = failed(&invocation);
                    assert!(
                        message.contains("memory") || message.contains("too many"),
                        "{count} {kind}: {message}"
                    );
                } else if kind == "undecodable" {
                    let answer = answered(&invocation);
                    let report = report(answer);
                    let listed = report["failures"].as_array().unwrap().len() as u64;
                    let unlisted = report["failures_unlisted"].as_u64().unwrap();
                    assert_eq!(listed + unlisted, count as u64, "{answer}");
                } else {
                    answered(&invocation);
                }
            }
        }
    }
}

/// Answers that would fill the memory are refused, and the function survives to report it.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_service_that_would_fill_the_memory_is_refused() {
    for fault in ["rest-many-objects", "huge-token"] {
        let world = World::new().await;
        world.server.faults().update(|faults| faults.set(fault).unwrap());
        let memory_limit = MemoryLimit::strongest();
        let options = LambdaOptions { memory_mb: 128, memory_limit, ..world.options() };
        let function = LambdaRuntime::new(&world.cloud, options);
        for _ in 0..2 {
            let invocation = invoke(&function, &sync("Notes")).await;
            let peak = invocation.max_rss.unwrap_or_default() >> 20;
            println!("{fault}: {peak} MiB in {:?}", invocation.duration);
            failed(&invocation);
            assert!(peak < 128, "{fault}: {peak} MiB");
        }
    }
}

/// What a filter leaves out adds up over the runs. If another filter brings it back, it counts like a list.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_out_over_many_runs_is_refused_with_a_sentence_when_it_takes_too_much_memory() {
    let world = World::new().await;
    let vault = world.vault("Notes");
    let function = |exclude: &str| {
        let mut options = world.options();
        options.env.push(("OBSYNC_EXCLUDE".to_owned(), exclude.to_owned()));
        let memory_limit = MemoryLimit::strongest();
        LambdaRuntime::new(&world.cloud, LambdaOptions { memory_mb: 128, memory_limit, ..options })
    };
    let within = async |what: &str, function: &LambdaRuntime| {
        let invocation = invoke(function, &sync("Notes")).await;
        let peak = invocation.max_rss.unwrap_or_default() >> 20;
        println!("{what}: {peak} MiB in {:?}", invocation.duration);
        assert!(peak < 128, "{what}: {peak} MiB");
        invocation
    };
    let left_out = function("Media");
    for round in 0..4 {
        for number in 0..many(25_000) {
            vault.write(&format!("Media/{round}/{number}.md"), "x", 1_700_000_000_000).unwrap();
        }
        answered(&within("left out", &left_out).await);
    }
    vault.delete("Media/0/0.md").unwrap();
    answered(&within("the deletion of one of them", &left_out).await);
    let other = function("Media,Other");
    for _ in 0..2 {
        let invocation = within("another filter", &other).await;
        let (_, message) = failed(&invocation);
        assert!(message.contains("Give the function"), "{message}");
    }
}
