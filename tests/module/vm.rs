//! The VM test, the flake and the package, as far as they evaluate without real packages.

use std::process::Command;

use serde_json::json;

use crate::evaluation::Evaluation;
use crate::lab::Need;
use crate::must_succeed;

#[test]
fn the_vm_test_and_the_flake_evaluate() {
    let Some(evaluation) = Evaluation::get("the_vm_test_and_the_flake_evaluate") else {
        return;
    };
    let vm = evaluation.attribute("vm");
    for (node, units) in [
        (
            "alice",
            &["narswarm-agent.service", "narswarm-agent.socket"][..],
        ),
        ("bob", &["narswarm-agent.service", "narswarm-agent.socket"]),
        (
            "origin",
            &["narswarm-publisher.service", "narswarm-seedbox.service"],
        ),
    ] {
        let node = &vm["nodes"][node];
        assert_eq!(
            node["units"]
                .as_object()
                .unwrap()
                .keys()
                .collect::<Vec<_>>(),
            units
        );
        assert_eq!(
            (&node["refused"], &node["warnings"]),
            (&json!([]), &json!([]))
        );
    }
    let script = vm["script"].as_str().unwrap();
    let compile = "import sys; compile(sys.argv[1], 'testScript', 'exec')";
    match Command::new("python3")
        .args(["-c", compile, script])
        .output()
    {
        Ok(output) => must_succeed(&output),
        Err(error) => Need::optional("the VM test's script", &error.to_string()),
    }

    let flake = evaluation.attribute("flake");
    let systems = json!(["aarch64-linux", "x86_64-linux"]);
    assert_eq!(
        flake["outputs"],
        json!({
            "packages": systems, "checks": systems, "devShells": systems, "formatter": systems,
            "overlays": ["default"], "nixosModules": ["agent", "default", "publisher", "seedbox"],
        })
    );
    assert_eq!(
        flake["perSystem"]["packages"],
        json!(["default", "narswarm"])
    );
    assert_eq!(
        flake["perSystem"]["checks"],
        json!(["package", "style", "vm"])
    );
    assert_eq!(
        flake["modules"],
        json!({ "agent": true, "default": true, "publisher": true, "seedbox": true })
    );

    let package = evaluation.attribute("package");
    assert_eq!(
        (&package["pname"], &package["overlay"]),
        (&json!("narswarm"), &json!("narswarm"))
    );
    assert_eq!(package["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(package["lockFile"], true);
    // Nothing that could bring another zstd in.
    assert_eq!(
        package["arguments"],
        json!([
            "cargoLock",
            "cargoTestFlags",
            "env",
            "meta",
            "nativeBuildInputs",
            "pname",
            "postInstall",
            "src",
            "version"
        ])
    );
}
