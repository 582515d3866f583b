//! Files named as people name them: from the folder they are in.

use crate::support::{Lab, testapp_path};

#[tokio::test]
async fn a_bare_file_name_means_the_folder_it_is_started_in() {
    let lab = Lab::new();
    // The default workingDir is the file's folder: that is where the program is found.
    let services = lab.path("services");
    std::os::unix::fs::symlink(testapp_path(), services.join("app")).unwrap();
    std::fs::create_dir(services.join("model")).unwrap();
    let own = lab.app("own").command(&["./app", "--port", "$(PORT)", "--version", "here"]);
    let model = format!(
        "---\napiVersion: serving.kserve.io/v1alpha1\nkind: ServingRuntime\nmetadata: {{name: any}}\nspec:\n  \
         supportedModelFormats: [{{name: any, autoSelect: true}}]\n  containers:\n  - name: kserve-container\n    \
         command: [{}]\n    args: [--port, $(PORT), --version, /mnt/models]\n---\n\
         apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {{name: model}}\nspec:\n  \
         predictor:\n    model:\n      modelFormat: {{name: any}}\n      storageUri: model\n",
        testapp_path().display()
    );
    lab.write("services.yaml", &(own.text() + &model));
    let serve = lab.serve().within(services.clone(), "services.yaml").start().await;
    let reply = serve.get("own", "/").await;
    assert_eq!((reply.status, &reply.json()["version"]), (200, &"here".into()), "{reply}");
    let reply = serve.get("model", "/").await;
    let directory = services.join("model");
    assert_eq!((reply.status, &reply.json()["version"]), (200, &directory.to_str().into()), "{reply}");
    // An edit is seen, too.
    lab.write("services.yaml", &own.clone().args(["--delay", "1"]).text());
    let gone = async || match serve.get("model", "/").await {
        reply if reply.status == 404 => Ok(()),
        reply => Err(reply),
    };
    crate::support::wait_until(crate::support::SOON, "the edit is in force", gone).await;
    assert_eq!(serve.get("own", "/").await.status, 200);
}
