//! Listings with the S3 client.

use crate::client::{BUCKET, Outcome, cloud, s3};

#[tokio::test]
async fn every_key_of_a_large_bucket_is_listed_once_in_pages_of_a_thousand() -> Outcome {
    let cloud = cloud().await?;
    let keys: Vec<String> = (0..2500).map(|number| format!("vault/{number:05} ü.md")).collect();
    keys.iter().for_each(|key| cloud.s3().put(BUCKET, key, "x", &[]));
    cloud.s3().put(BUCKET, "vault2/other", "x", &[]);
    let list = s3(&cloud).list_objects_v2().bucket(BUCKET).prefix("vault/").into_paginator();
    let mut pages = list.send();
    let (mut listed, mut sizes) = (Vec::new(), Vec::new());
    while let Some(page) = pages.next().await {
        let page = page?;
        sizes.push(page.contents().len());
        listed.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
    }
    assert_eq!(sizes, [1000, 1000, 500]);
    assert_eq!(listed, keys);
    Ok(())
}

#[tokio::test]
async fn a_delimiter_shows_folders() -> Outcome {
    let cloud = cloud().await?;
    ["a.md", "b/1.md", "b/2.md", "c/d/3.md"].iter().for_each(|key| cloud.s3().put(BUCKET, key, "x", &[]));
    let listed = s3(&cloud).list_objects_v2().bucket(BUCKET).delimiter("/").send().await?;
    let folders: Vec<_> = listed.common_prefixes().iter().filter_map(|prefix| prefix.prefix()).collect();
    assert_eq!(folders, ["b/", "c/"]);
    assert_eq!(listed.contents().first().and_then(|object| object.key()), Some("a.md"));
    assert_eq!(listed.key_count(), Some(3));
    Ok(())
}

#[tokio::test]
async fn a_listing_of_at_most_one_says_whether_a_prefix_is_empty() -> Outcome {
    let cloud = cloud().await?;
    cloud.s3().put(BUCKET, "a/1", "x", &[]);
    let one = |prefix| s3(&cloud).list_objects_v2().bucket(BUCKET).prefix(prefix).max_keys(1).send();
    assert_eq!(one("a/").await?.key_count(), Some(1));
    assert_eq!(one("b/").await?.key_count(), Some(0));
    Ok(())
}
