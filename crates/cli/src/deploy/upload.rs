//! Uploading a folder: only what the server does not have travels.

use std::io::{BufWriter, Seek};

use ekiden_aws::{
    client::{ClientError, Content},
    native::{MissingResponse, UploadResponse},
};
use ekiden_build::ekiden_yaml;
use ekiden_model::image::Digest;
use ekiden_source::{
    snapshot::Limits,
    upload::{Folder, ItemKind, Manifest},
};

use super::folder::{FileToUpload, SourceFolder};
use crate::{
    api::{Api, RETRY_WAIT},
    failure::Failure,
    progress::Progress,
};

/// How often an upload is tried while the server is busy, or what it has changes under it.
const TRIES_MAX: usize = 5;

/// Uploads a folder with this `ekiden.yaml`; answers the version that stands for it.
///
/// # Errors
/// The folder cannot be read or has too much of something, or the endpoint refuses it.
pub(super) async fn upload(
    api: &Api,
    name: &str,
    folder: &mut SourceFolder,
    file: FileToUpload,
    progress: &mut Progress,
) -> Result<String, Failure> {
    progress.say("looking through the folder");
    let limits = Limits::default();
    let mut packed = Folder::scan(folder.path(), &limits)?;
    for note in packed.notes() {
        progress.done(note);
    }
    let mut files = packed.manifest().items.iter();
    if files.all(|item| item.path == ekiden_yaml::FILE_NAME) {
        return Err(Failure::new(format!(
            "there is nothing to deploy in `{}`",
            folder.path().display()
        ))
        .hint("give the folder with the source, or an image with `--image REF`"));
    }
    let mut items = packed.manifest().items.iter();
    let is_packed = items.any(|item| item.path == ekiden_yaml::FILE_NAME);
    // The folder's own may be ignored by git, and counts all the same.
    if !(file.own && is_packed) {
        packed.put(ekiden_yaml::FILE_NAME, file.text.into_bytes(), &limits)?;
    }
    let items = packed.manifest().items.iter();
    folder.newest = items.map(|item| item.modified).max();
    progress.say("uploading");
    let mut tries = 1;
    let (missing, sent, answer) = loop {
        match send(api, name, &packed).await {
            Err(failure) if tries < TRIES_MAX && may_succeed(&failure) => {
                tries += 1;
                tokio::time::sleep(RETRY_WAIT).await;
            }
            sent => break sent?,
        }
    };
    progress.done(&summary(packed.manifest(), missing, sent));
    Ok(answer.version)
}

/// One try: how many contents the server lacked, bytes of the archive, and its answer.
async fn send(
    api: &Api,
    name: &str,
    folder: &Folder,
) -> Result<(usize, u64, UploadResponse), Failure> {
    let path = format!("/ekiden/uploads/{}/{name}", api.region());
    let manifest = Content::Bytes(folder.manifest().to_json().into());
    let MissingResponse { missing } = api
        .post(&format!("{path}/manifest"), "application/json", manifest)
        .await?;
    let wanted = missing.iter().map(|hex| format!("sha256:{hex}").parse());
    let wanted: Vec<Digest> = wanted.collect::<Result<_, _>>()?;
    let archive = BufWriter::new(tempfile::tempfile()?);
    let archive = folder.pack(&wanted, archive)?;
    let mut archive = archive.into_inner().map_err(|error| error.into_error())?;
    let bytes = archive.stream_position()?;
    let content = Content::File(archive);
    let answer = api.post(&path, "application/zstd", content).await?;
    Ok((wanted.len(), bytes, answer))
}

/// Whether another try may: the server has less by now than when it was asked, or is busy.
fn may_succeed(failure: &Failure) -> bool {
    matches!(
        failure.error.downcast_ref::<ClientError>(),
        Some(ClientError::Refused { status, .. }) if [409, 503].contains(&status.as_u16())
    )
}

fn summary(manifest: &Manifest, missing: usize, sent: u64) -> String {
    let bytes = manifest.items.iter().map(|item| match item.kind {
        ItemKind::File { bytes, .. } => bytes,
        ItemKind::Link { .. } => 0,
    });
    let new = match missing {
        0 => "nothing new".to_owned(),
        count => format!("{count} new"),
    };
    let files = match manifest.items.len() {
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    };
    format!(
        "uploaded {files} with {}: {new}, {} sent",
        size(bytes.sum()),
        size(sent)
    )
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use ekiden_source::{snapshot::SnapshotFiles, upload};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::endpoint::Endpoint;

    /// Reads one request, with its whole body, and answers it: its head and its body.
    async fn answer(
        listener: &TcpListener,
        status: &str,
        json: impl Fn(&[u8]) -> String,
    ) -> (String, Vec<u8>) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        let (head, body) = loop {
            stream.read_buf(&mut request).await.unwrap();
            let end = request.windows(4).position(|four| four == b"\r\n\r\n");
            let Some(end) = end else { continue };
            let head = String::from_utf8(request[..end].to_vec()).unwrap();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.unwrap().parse().unwrap();
            if request.len() == end + 4 + length {
                break (head, request.split_off(end + 4));
            }
        };
        let json = json(&body);
        let length = json.len();
        let response = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{json}");
        stream.write_all(response.as_bytes()).await.unwrap();
        (head, body)
    }

    #[tokio::test]
    async fn a_folder_travels_with_its_file_and_is_asked_for_again_when_told_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("app.py"), "print()").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Api::new(Endpoint {
            url: format!("http://{}", listener.local_addr().unwrap()),
            region: "eu-west-1".into(),
            access_key_id: "ID".into(),
            secret_access_key: "secret".into(),
            session_token: None,
            edge_port: None,
        });
        let api = api.ok().unwrap();
        let all_missing = |body: &[u8]| {
            let manifest = Manifest::read(body, &Limits::default()).unwrap();
            let missing: Vec<String> = upload::missing(&manifest, None)
                .iter()
                .map(Digest::hex)
                .collect();
            serde_json::json!({ "Missing": missing }).to_string()
        };
        let server = async {
            let (head, _) = answer(&listener, "200 OK", all_missing).await;
            let gone = |_: &[u8]| r#"{"Message":"not here any more"}"#.to_owned();
            answer(&listener, "409 Conflict", gone).await;
            answer(&listener, "200 OK", all_missing).await;
            let taken = |_: &[u8]| r#"{"Version":"v1","Files":2,"Bytes":9}"#.to_owned();
            (head, answer(&listener, "200 OK", taken).await)
        };
        let client = async {
            let mut folder = SourceFolder::read(dir.path()).unwrap();
            let file = FileToUpload {
                text: "service:\n  name: shop\n".into(),
                own: false,
            };
            let mut progress = Progress::new();
            super::upload(&api, "shop", &mut folder, file, &mut progress).await
        };
        let ((first, (last, archive)), version) = tokio::join!(server, client);
        assert_eq!(version.unwrap(), "v1");
        assert!(
            first.starts_with("POST /ekiden/uploads/eu-west-1/shop/manifest HTTP/1.1\r\n"),
            "{first}"
        );
        // ID:secret
        assert!(
            first.contains("authorization: Basic SUQ6c2VjcmV0\r\n"),
            "{first}"
        );
        assert!(
            last.starts_with("POST /ekiden/uploads/eu-west-1/shop HTTP/1.1\r\n"),
            "{last}"
        );
        assert!(last.contains("content-type: application/zstd"), "{last}");
        let into = dir.path().join("tree");
        let tree = upload::assemble(&archive[..], None, &into, Limits::default()).unwrap();
        let files = SnapshotFiles::open(tree, &into).unwrap();
        let file = files.read("ekiden.yaml", 100).unwrap();
        assert_eq!(file.as_deref(), Some(&b"service:\n  name: shop\n"[..]));
        assert!(files.is_file("app.py"));
    }

    #[tokio::test]
    async fn an_empty_folder_is_not_uploaded() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ekiden.yaml"), "").unwrap();
        let api = Api::new(Endpoint {
            url: "http://127.0.0.1:1".into(),
            region: "eu-west-1".into(),
            access_key_id: "ID".into(),
            secret_access_key: "secret".into(),
            session_token: None,
            edge_port: None,
        });
        let mut folder = SourceFolder::read(dir.path()).unwrap();
        let file = FileToUpload {
            text: String::new(),
            own: true,
        };
        let api = api.ok().unwrap();
        let failure = super::upload(&api, "shop", &mut folder, file, &mut Progress::new()).await;
        assert!(
            failure
                .unwrap_err()
                .sentence()
                .starts_with("there is nothing to deploy in")
        );
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(
            [1023, 1024, 1_572_864].map(size),
            ["1023 bytes", "1.0 KiB", "1.5 MiB"]
        );
    }

    #[test]
    fn an_upload_is_told_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "12345").unwrap();
        let folder = Folder::scan(dir.path(), &Limits::default()).unwrap();
        assert_eq!(
            summary(folder.manifest(), 1, 200),
            "uploaded 1 file with 5 bytes: 1 new, 200 bytes sent"
        );
        assert_eq!(
            summary(folder.manifest(), 0, 100),
            "uploaded 1 file with 5 bytes: nothing new, 100 bytes sent"
        );
    }
}
