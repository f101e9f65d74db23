//! A world with a cloud in it.

use std::process::{Child, Command as Process, Stdio};

use assert_cmd::Command;
use obsync_testcloud::{Cloud, CloudFaults, CloudOptions, RequestCounts, StoredObject};
use obsync_testkit::Expected;
use serde_json::Value;

use crate::world::{EMAIL, PASSWORD, Ran, World, ran};

pub(crate) const BUCKET: &str = "vaults";
/// The start of its keys.
pub(crate) const PREFIX: &str = "my notes";
/// Both as a destination.
pub(crate) const DEST: &str = "s3://vaults/my notes";
pub(crate) const TABLE: &str = "dynamodb://obsync-state";
/// A time in 2023.
pub(crate) const NOON: i64 = 1_700_000_000_123;

/// A server for vaults, a cloud with a bucket and a table, and a home for the program.
pub(crate) struct Place {
    /// Dropped before the runtime that it runs on.
    pub(crate) cloud: Cloud,
    pub(crate) world: World,
}

impl Place {
    /// With the vaults `Notes` and `Private`.
    pub(crate) fn new() -> Self {
        Self::of(World::new())
    }

    pub(crate) fn of(world: World) -> Self {
        let place = Self::empty(world);
        place.cloud.s3().create_bucket(BUCKET);
        place.cloud.dynamodb().create_table("obsync-state").unwrap();
        place
    }

    /// With neither bucket nor table.
    pub(crate) fn empty(world: World) -> Self {
        let cloud = world.runtime.block_on(Cloud::start(CloudOptions::default())).unwrap();
        Place { cloud, world }
    }

    /// The program with the account's and the cloud's credentials in its environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.command(args);
        command.envs(self.cloud.env());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let ran = ran(&mut self.command(args));
        let (_, secret) = self.cloud.credentials();
        assert!(
            !ran.stdout.contains(secret) && !ran.stderr.contains(secret),
            "a secret was printed: {ran:?}"
        );
        ran
    }

    /// Runs the program, which must succeed.
    pub(crate) fn must(&self, args: &[&str]) -> Ran {
        self.run(args).expect(0)
    }

    /// Pulls `Notes`, with these options, and returns the report.
    pub(crate) fn pull(&self, options: &[&str]) -> Value {
        self.must(&[&["pull", "Notes", DEST, "--json"], options].concat()).json()
    }

    /// Starts a pull of `Notes` as a process that can be killed.
    pub(crate) fn start(&self, options: &[&str], environment: &[(&str, &str)]) -> Child {
        Process::new(env!("CARGO_BIN_EXE_obsync"))
            .args(["pull", "Notes", DEST, "--quiet"])
            .args(options)
            .current_dir(self.world.path(""))
            .env_clear()
            .env("OBSYNC_HOME", self.world.home())
            .env("OBSYNC_API_URL", self.world.server.url())
            .env("OBSIDIAN_EMAIL", EMAIL)
            .env("OBSIDIAN_PASSWORD", PASSWORD)
            .envs(self.cloud.env())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Waits until the requests to the cloud meet a condition.
    pub(crate) fn wait_for(&self, condition: impl Fn(&RequestCounts) -> bool) {
        self.world.runtime.block_on(self.cloud.wait_for(condition));
    }

    /// Sets this fault, and no others.
    pub(crate) fn fault(&self, change: impl FnOnce(&mut CloudFaults)) {
        self.cloud.faults().clear();
        self.cloud.faults().update(change);
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        self.world.vault("Notes").write(path, content, NOON).unwrap();
    }

    /// The objects of the vault.
    pub(crate) fn objects(&self) -> Vec<StoredObject> {
        self.cloud.s3().files(BUCKET, &format!("{PREFIX}/"))
    }

    /// The object at a path of the vault.
    pub(crate) fn object(&self, path: &str) -> Option<StoredObject> {
        self.cloud.s3().object(BUCKET, &format!("{PREFIX}/{path}"))
    }

    /// The paths of the vault's objects.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.objects().into_iter().map(|object| object.key[PREFIX.len() + 1..].to_owned()).collect()
    }

    /// Asserts that the objects are exactly these, with their metadata, without leftovers.
    #[track_caller]
    pub(crate) fn assert_is(&self, expected: &Expected) {
        let objects = self.objects();
        let mut differences = Vec::new();
        for file in &expected.files {
            let key = format!("{PREFIX}/{}", file.path);
            let found = objects.iter().find(|object| object.key == key);
            if !found.is_some_and(|object| is_right(object, file)) {
                differences.push(format!("{:?}: {:?}", file.path, found.map(|object| &object.metadata)));
            }
        }
        assert_eq!(differences, [""; 0]);
        assert_eq!(objects.len(), expected.files.len(), "there is something else, too: {:?}", self.paths());
        assert_eq!(self.cloud.s3().uploads(BUCKET), [], "no upload is left open");
    }

    /// Asserts that the objects are exactly the vault `Notes`.
    #[track_caller]
    pub(crate) fn assert_exact(&self) {
        self.assert_is(&self.world.vault("Notes").expected().unwrap());
    }
}

fn is_right(object: &StoredObject, file: &obsync_testkit::ExpectedFile) -> bool {
    let metadata = |name: &str| object.metadata.get(name).map_or("", String::as_str);
    let number = |name: &str| metadata(name).parse::<i64>().is_ok();
    object.content.len() as u64 == file.size
        && obsync_protocol::ContentHash::of(&object.content).to_string() == file.sha256
        && metadata("sha256") == file.sha256
        && metadata("mtime") == file.mtime_ms.to_string()
        && number("ctime")
        && number("uid")
        && object.content_type.is_some()
}
