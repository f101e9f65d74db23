//! A private wire to the table: it can be cut while others continue, and it delivers a request even if its
//! sender no longer waits for the answer.

use std::net::SocketAddr;

use aws_sdk_dynamodb::Client;
use obsync_testcloud::Service;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::scene::{Scene, client};

/// A connection to the cloud's DynamoDB. It ends with the runtime.
pub(crate) struct Wire {
    address: SocketAddr,
    whole: watch::Sender<bool>,
}

impl Wire {
    pub(crate) async fn to(scene: &Scene) -> Self {
        let target = scene.cloud.endpoint(Service::DynamoDb).trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let whole = watch::Sender::new(true);
        let state = whole.subscribe();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, target.clone(), state.clone()));
            }
        });
        Wire { address, whole }
    }

    /// A client over this wire.
    pub(crate) fn client(&self, scene: &Scene) -> Client {
        client(&format!("http://{}", self.address), scene.cloud.region(), scene.cloud.credentials())
    }

    /// Breaks every connection, and lets no new one through.
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Lets connections through again.
    pub(crate) fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn carry(near: TcpStream, target: String, mut whole: watch::Receiver<bool>) {
    let both_ways = async {
        let Ok(far) = TcpStream::connect(target).await else { return };
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        tokio::join!(forth(near_in, far_out), back(far_in, near_out));
    };
    tokio::select! {
        () = both_ways => {}
        // A connection whose other end is gone is never cut.
        Ok(_) = whole.wait_for(|whole| !whole) => {}
    }
}

/// Forwards requests. Does not report to the far end that the near end is gone.
async fn forth(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    std::future::pending().await
}

/// Reads all answers, whether anybody takes them or not.
async fn back(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let _ = to.write_all(&bytes[..count]).await;
    }
    let _ = to.shutdown().await;
}
