//! Blobs in a real directory: what is stored, and what must leave nothing behind.

use super::*;
use tamer_kit::hash::sha256;

type Chunks = Vec<Result<Bytes, std::io::Error>>;

fn chunks(bytes: &[u8], size: usize) -> Chunks {
    let chunks = bytes.chunks(size).map(Bytes::copy_from_slice);
    chunks.map(Ok).collect()
}

async fn read(blobs: &Blobs, digest: &Digest, range: Option<Range<u64>>) -> Option<Vec<u8>> {
    let stream = blobs.get(digest, range).await.unwrap()?;
    let parts: Vec<_> = stream.map(Result::unwrap).collect().await;
    Some(parts.concat())
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("blobs")).unwrap().count()
}

/// Dropping an upload removes its file on another thread.
async fn until_files(dir: &Path, wanted: usize) {
    let wait = async {
        while files(dir) != wanted {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(waited.is_ok(), "{} files, not {wanted}", files(dir));
}

#[tokio::test]
async fn what_was_put_is_there_in_whole_and_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::local(dir.path()).unwrap();
    // More than two parts, cut at odd places.
    let bytes: Vec<u8> = (0..2 * PART + 4711)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect();
    let digest = sha256(&bytes);
    assert_eq!(blobs.head(&digest).await.unwrap(), None);
    assert_eq!(read(&blobs, &digest, None).await, None);
    for _ in 0..2 {
        let stored = blobs.put(digest, stream::iter(chunks(&bytes, 100_003)), u64::MAX);
        assert_eq!(stored.await.unwrap(), bytes.len() as u64);
    }
    assert_eq!(blobs.head(&digest).await.unwrap(), Some(bytes.len() as u64));
    assert!(read(&blobs, &digest, None).await.unwrap() == bytes);
    let part = PART as u64 - 5..PART as u64 + 5;
    assert_eq!(
        read(&blobs, &digest, Some(part)).await.unwrap(),
        bytes[PART - 5..PART + 5]
    );
    assert_eq!(files(dir.path()), 1);
    let empty = sha256(b"");
    assert_eq!(
        blobs
            .put(empty, stream::iter(chunks(b"", 1)), 0)
            .await
            .unwrap(),
        0
    );
    assert_eq!(read(&blobs, &empty, None).await.unwrap(), b"");
}

#[tokio::test]
async fn a_damaged_blob_is_repaired_by_storing_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::local(dir.path()).unwrap();
    let digest = sha256(b"whole");
    let file = dir.path().join(blob_path(&digest));
    std::fs::write(&file, b"torn").unwrap();
    blobs
        .put(digest, stream::iter(chunks(b"whole", 2)), 5)
        .await
        .unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"whole");
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_an_error_and_no_endless_read() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::local(dir.path()).unwrap();
    let bytes = vec![7; 3 * 128 * 1024];
    let digest = sha256(&bytes);
    let put = blobs.put(digest, stream::iter(chunks(&bytes, 9999)), u64::MAX);
    put.await.unwrap();
    let mut stream = blobs.get(&digest, None).await.unwrap().unwrap();
    let file = File::options()
        .write(true)
        .open(dir.path().join(blob_path(&digest)));
    file.unwrap().set_len(PIECE * 3 / 2).unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    assert!(stream.next().await.unwrap().is_err());
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn what_is_wrong_too_large_or_cut_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::local(dir.path()).unwrap();
    let digest = sha256(b"right");
    let wrong = blobs
        .put(digest, stream::iter(chunks(b"wrong", 2)), 100)
        .await;
    assert!(matches!(wrong, Err(BlobError::WrongDigest { .. })));
    let large = blobs
        .put(digest, stream::iter(chunks(b"right", 2)), 4)
        .await;
    assert!(matches!(large, Err(BlobError::TooLarge { max: 4 })));
    let mut cut = chunks(b"right", 2);
    cut[2] = Err(std::io::ErrorKind::ConnectionReset.into());
    let cut = blobs.put(digest, stream::iter(cut), 100).await;
    assert!(matches!(cut, Err(BlobError::Cut { .. })));
    assert_eq!(blobs.head(&digest).await.unwrap(), None);
    until_files(dir.path(), 0).await;
}

#[tokio::test]
async fn an_upload_that_is_abandoned_or_killed_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::local(dir.path()).unwrap();
    let digest = sha256(b"never");
    let endless = stream::iter(chunks(b"nev", 1)).chain(stream::pending());
    let upload = Box::pin(blobs.put(digest, endless, 100));
    let mut upload = upload;
    let polled = futures_util::poll!(&mut upload);
    assert!(polled.is_pending());
    until_files(dir.path(), 1).await;
    drop(upload);
    until_files(dir.path(), 0).await;

    let left = dir.path().join(format!("{}#1", blob_path(&digest)));
    std::fs::write(&left, b"ne").unwrap();
    std::fs::write(dir.path().join("blobs/mine#1"), b"not ours").unwrap();
    Blobs::local(dir.path()).unwrap();
    assert!(!left.exists(), "removed at the next start");
    assert_eq!(files(dir.path()), 1, "but nothing else");
}

#[tokio::test]
async fn an_upload_that_stands_still_is_given_up() {
    let store = object_store::memory::InMemory::new();
    let blobs = Blobs {
        idle: Duration::from_millis(1),
        ..Blobs::new(Arc::new(store), "")
    };
    let silent = stream::pending::<Result<Bytes, std::io::Error>>();
    let given_up = blobs.put(sha256(b""), silent, 100).await.unwrap_err();
    let BlobError::Cut { source, .. } = given_up else {
        panic!("{given_up}");
    };
    assert_eq!(source.to_string(), "nothing came for 1ms");
}
