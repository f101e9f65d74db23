//! Requests are counted and logged.

use obsync_testcloud::{Cloud, CloudOptions, Service};

use crate::client::{BUCKET, Outcome, cloud, dynamodb, s3};

#[tokio::test]
async fn requests_are_counted_by_service_and_operation_and_looks_inside_are_not() -> Outcome {
    let cloud = cloud().await?;
    cloud.dynamodb().create_table("state")?;
    let s3 = s3(&cloud);
    s3.put_object().bucket(BUCKET).key("a").send().await?;
    let before = cloud.counts();
    s3.put_object().bucket(BUCKET).key("b").send().await?;
    s3.head_object().bucket(BUCKET).key("b").send().await?;
    dynamodb(&cloud).scan().table_name("state").send().await?;
    cloud.dynamodb().items("state")?;
    cloud.s3().objects(BUCKET, "");
    let during = cloud.counts().since(&before);
    assert_eq!(during.to_string(), "S3 HeadObject 1, S3 PutObject 1, DynamoDB Scan 1");
    assert_eq!((during.total(Service::S3), during.total(Service::DynamoDb)), (2, 1));
    assert_eq!(cloud.counts().of(Service::S3, "PutObject"), 2);
    Ok(())
}

#[tokio::test]
async fn the_log_says_what_was_asked_of_what_and_how_it_was_answered() -> Outcome {
    let cloud = cloud().await?;
    let s3 = s3(&cloud);
    s3.put_object().bucket(BUCKET).key("folder/a b").body(b"hello".to_vec().into()).send().await?;
    let missing = s3.get_object().bucket(BUCKET).key("none").send().await;
    assert!(missing.is_err());
    let log = cloud.requests();
    let lines: Vec<_> =
        log.iter().map(|one| (one.operation.as_str(), one.resource.as_str(), one.status)).collect();
    assert_eq!(
        lines,
        [("PutObject", "notes/folder/a b", Some(200)), ("GetObject", "notes/none", Some(404)),]
    );
    Ok(())
}

#[tokio::test]
async fn a_cloud_says_where_it_is_and_frees_its_ports() -> Outcome {
    let cloud = cloud().await?;
    let env: std::collections::BTreeMap<_, _> = cloud.env().into_iter().collect();
    for name in ["S3", "DYNAMODB", "SECRETS_MANAGER", "LAMBDA"] {
        assert!(env[&format!("AWS_ENDPOINT_URL_{name}")].starts_with("http://127.0.0.1:"));
    }
    let address = cloud.endpoint(Service::S3).replace("http://", "");
    cloud.shutdown().await;
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
    let port = address.rsplit_once(':').ok_or("no port")?.1.parse()?;
    let again = Cloud::start(CloudOptions { first_port: Some(port), ..CloudOptions::default() }).await;
    // The three ports after it may be taken by others.
    if let Ok(again) = again {
        assert_eq!(again.endpoint(Service::S3), format!("http://{address}"));
    }
    Ok(())
}
