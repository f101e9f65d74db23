//! Builds the database engine of the loopback cloud, `dev/dynamodb`: a separate workspace, with another
//! SQLite than the product's. Its path reaches the code as `OBSYNC_DYNAMODB_ENGINE`.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/dynamodb");
    for file in ["Cargo.toml", "Cargo.lock", "src"] {
        println!("cargo::rerun-if-changed={}", engine.join(file).display());
    }
    // Beside the profiles' folders, so that every selection of features and profiles shares one build of it.
    let out = PathBuf::from(variable("OUT_DIR"));
    let target = out.ancestors().nth(4).unwrap_or(&out).join("dynamodb-engine");
    let mut cargo = Command::new(variable("CARGO"));
    cargo.args(["build", "--locked", "--manifest-path"]).arg(engine.join("Cargo.toml"));
    cargo.arg("--target-dir").arg(&target);
    // Variables that cargo, clippy and coverage tools set for this build must not affect that one.
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        let is_of_this_build = name_text.starts_with("CARGO_CFG_")
            || name_text.starts_with("CARGO_FEATURE_")
            || name_text.starts_with("CARGO_PKG_")
            || ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"]
                .contains(&name_text.as_ref());
        if is_of_this_build {
            cargo.env_remove(&name);
        }
    }
    let status = cargo.status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "the database engine of the loopback cloud cannot be built: {status:?}"
    );
    let program = target.join("debug").join(format!("obsync-dynamodb-engine{}", env::consts::EXE_SUFFIX));
    println!("cargo::rerun-if-changed={}", program.display());
    println!("cargo::rustc-env=OBSYNC_DYNAMODB_ENGINE={}", program.display());
}

fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"))
}
